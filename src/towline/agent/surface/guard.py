"""The one way into every endpoint: host, origin, path, method, right, parameters, in this order. Errors become JSON.

An endpoint that is not declared cannot be reached, and a handler runs only after everything here said yes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from towline.agent.errors import AgentError
from towline.agent.surface import answers, parameters
from towline.agent.surface.endpoints import Endpoint, Handler, Right
from towline.agent.surface.errors import SurfaceError, translated
from towline.agent.surface.requests import CALLER, VALUES, Caller
from towline.agent.surface.statistics import Statistics
from towline.agent.surface.tickets import Tickets
from towline.agent.surface.tokens import LocalTokens

SCHEME = "bearer "
REALM = 'Bearer realm="towline-agent"'
REQUEST_ID_BYTES = 8
"""Of randomness: two of one log are never the same."""
_REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_BEGUN: web.RequestKey[bool] = web.RequestKey("begun", bool)

_log = structlog.get_logger("towline.agent")


@dataclass(frozen=True, slots=True)
class Guard:
    """Args: loopback: whether only this machine can reach the surface; then only its names are taken as Host."""

    endpoints: Mapping[tuple[str, str], Endpoint]
    """By method and path."""
    tokens: LocalTokens
    tickets: Tickets
    loopback: bool
    statistics: Statistics = field(default_factory=Statistics)
    running: dict[asyncio.Task[Any], web.Request] = field(default_factory=dict)
    """Tasks of requests, for as long as they are answered."""

    @property
    def middleware(self) -> Middleware:
        """The middleware for aiohttp."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            with self.statistics.request(request.method, _pattern(request)) as seen:
                response = await self._owned(request, handler)
                seen.status = response.status
                return response

        return guarded

    async def end(self, grace: float) -> None:
        """End every request that does not end by itself within `grace` seconds: streams do not."""
        if self.running:
            await asyncio.wait(self.running, timeout=grace)
        for task in tuple(self.running):
            task.cancel()

    def recheck(self) -> None:
        """End what was begun with a token that has been renewed since."""
        for task, request in tuple(self.running.items()):
            caller = request.get(CALLER)
            if caller is not None and caller.edition != self.tokens.edition(caller.right):
                _log.info("local request ended: its token was renewed", path=_pattern(request))
                if request.transport is not None:
                    request.transport.abort()
                task.cancel()

    async def _owned(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self.running[task] = request
        try:
            return await self._answer(request, handler)
        finally:
            del self.running[task]

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            return await handler(request)
        except AgentError as error:
            return self._refused(request, translated(error))
        except web.HTTPRequestEntityTooLarge:
            return self._refused(request, SurfaceError("too_large", "the body is larger than this surface takes"))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            request_id = _request_id(request)
            _log.exception("local request failed", method=request.method, path=_pattern(request), request=request_id)
            return self._refused(request, SurfaceError("internal", "the agent failed; its log tells more"))

    def _admit(self, request: web.Request) -> None:
        """Raises: SurfaceError."""
        if self.loopback:
            require_loopback_name(request.host)
        require_same_origin(request.headers.get("Origin"), request.host)
        endpoint = self._endpoint(request)
        parameters.refuse_tokens(request.query)
        right = self._right_of(request, endpoint)
        request[CALLER] = Caller(right, self.tokens.edition(right))
        query = [(name, text) for name, text in request.query.items() if name != parameters.TICKET]
        request[VALUES] = parameters.read(endpoint.parameters, query, request.match_info)

    def _endpoint(self, request: web.Request) -> Endpoint:
        failed = request.match_info.http_exception
        if isinstance(failed, web.HTTPMethodNotAllowed):
            allowed = ", ".join(sorted(failed.allowed_methods))
            raise SurfaceError("method_not_allowed", f"this address takes {allowed} alone", headers={"Allow": allowed})
        endpoint = self.endpoints.get((request.method, _pattern(request))) if failed is None else None
        if endpoint is None:
            raise SurfaceError("not_found", "there is nothing at this address")
        return endpoint

    def _right_of(self, request: web.Request, endpoint: Endpoint) -> Right:
        if endpoint.right is Right.OPEN:
            return self._offered(request)
        right = self._shown(request, endpoint)
        if right is Right.OPEN:
            raise SurfaceError(
                "unauthenticated", "no such token or ticket", hint="see `towline agent token`",
                headers={"WWW-Authenticate": REALM},
            )  # fmt: skip
        if right < endpoint.right:
            raise SurfaceError("forbidden", "this needs the token that operates; the one that was sent only reads")
        return right

    def _offered(self, request: web.Request) -> Right:
        """Return the right of a token that need not be there: who shows a good one is told more."""
        header = request.headers.get("Authorization", "")
        return self.tokens.right_of(header[len(SCHEME) :].strip()) if _is_bearer(header) else Right.OPEN

    def _shown(self, request: web.Request, endpoint: Endpoint) -> Right:
        """Return the right of what the caller shows."""
        header = request.headers.get("Authorization", "")
        if _is_bearer(header):
            return self.tokens.right_of(header[len(SCHEME) :].strip())
        if header:
            raise SurfaceError("unauthenticated", "only `Authorization: Bearer` is taken")
        ticket = request.query.get(parameters.TICKET)
        if ticket is None:
            what = "a token, or a ticket" if endpoint.takes_ticket else "a token"
            raise SurfaceError(
                "unauthenticated", f"this address needs {what}", headers={"WWW-Authenticate": REALM},
                hint="send `Authorization: Bearer` with the token that `towline agent token` shows",
            )  # fmt: skip
        if not endpoint.takes_ticket:
            raise SurfaceError("unauthenticated", "tickets are for /ws and event streams; send the token here")
        return self.tickets.take(ticket)

    def _refused(self, request: web.Request, error: SurfaceError) -> web.StreamResponse:
        if request.get(_BEGUN):
            # Too late for an answer: the caller must see that it is cut.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer had begun") from error
        return answers.refusal(error, _request_id(request))


async def note_begun(request: web.Request, response: web.StreamResponse) -> None:
    """Remember that an answer is under way. For `on_response_prepare`."""
    request[_BEGUN] = True


def require_loopback_name(host: str) -> None:
    """Raises: SurfaceError: the name is not one of this machine's own: somebody's page may have rebound it."""
    name = _name_of(host)
    try:
        is_own = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_own = name.lower() == "localhost"
    if not is_own:
        raise SurfaceError("forbidden", "this surface answers to localhost and to loopback addresses alone")


def require_same_origin(origin: str | None, host: str) -> None:
    """Raises: SurfaceError: a page of another origin asks; none may."""
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise SurfaceError("cross_site", "pages of other origins may not ask this surface")


def _request_id(request: web.Request) -> str:
    """Return what names this request in answer and log; made when it is first needed."""
    if _REQUEST_ID not in request:
        request[_REQUEST_ID] = secrets.token_hex(REQUEST_ID_BYTES)
    return request[_REQUEST_ID]


def _is_bearer(header: str) -> bool:
    return header[: len(SCHEME)].lower() == SCHEME


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host if ":" in host else host


def _pattern(request: web.Request) -> str:
    """Return the path as it was declared; empty for one that was not. Never what the caller sent."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""

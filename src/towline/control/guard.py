"""What every request passes before FastAPI sees it: its id, its peer, and text that a database can hold.

The edge has parsed the head strictly; this looks at what it does not: JSON values and decoded query strings.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import parse_qsl

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from towline.control.answers import SAFE_METHODS, response
from towline.control.bus import Bus
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import new_id
from towline.control.metrics import RequestMeter

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
LARGEST_INTEGER = 2**63 - 1
"""What a database column holds; a bigger number is a mistake or an attack."""
READ_ELSEWHERE = re.compile(r"/api/v1/agents/(?:register|[^/]+/(?:heartbeat|status|commands/[^/]+/result))")
"""Bodies of agents of an older system: their adapter reads them itself, leniently, within limits of its own."""
DEEPEST_JSON = 64
"""Levels of nesting; our deepest body has six."""
PRIVATE = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
QUERY_FIELDS = 100
"""Fields of a query string; our longest list has a dozen."""


class GuardedApi(FastAPI):
    """An app whose guard is outside of everything, the framework's own limits and error pages included."""

    def build_middleware_stack(self) -> ASGIApp:
        control = self.state.control
        guard = RequestGuard(super().build_middleware_stack(), control.bus, body_bytes=control.settings.body_bytes)
        return RequestMeter(guard, control.metrics)


class RequestGuard:
    """ASGI middleware. Sets `state.request_id`, `peer` and `position`; refuses what no handler should see.

    `position` is where the bus stood before the handler read anything: whoever listens from there misses nothing.
    """

    def __init__(self, app: ASGIApp, bus: Bus, *, body_bytes: int) -> None:
        self._app = app
        self._bus = bus
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name: value
            for name, value in scope["headers"]
            if name in (b"x-request-id", b"x-towline-peer", b"content-type")
        }
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        scope["state"]["position"] = self._bus.position
        scope["state"]["peer"] = headers.get(b"x-towline-peer", b"").decode("latin-1") or _client(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        try:
            _check_address(scope)
            if (
                scope["type"] == "http"
                and scope["method"] not in SAFE_METHODS
                and _is_json(headers.get(b"content-type"))
                and not READ_ELSEWHERE.fullmatch(scope["path"])
            ):
                receive = await self._checked(receive)
        except ApiError as error:
            await _refuse(error, request_id, scope, receive, send)
            return
        await self._app(scope, receive, _with_request_id(send, request_id))

    async def _checked(self, receive: Receive) -> Receive:
        """Read a JSON body and check it; return what gives the same body again."""
        body = bytearray()
        messages: list[Message] = []
        more = True
        while more and len(body) <= self._body_bytes:
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > self._body_bytes:
            raise ApiError(ErrorCode.TOO_LARGE, f"the body is longer than {self._body_bytes} bytes")
        if body and messages[-1]["type"] == "http.request":
            check_json(bytes(body))

        async def again() -> Message:
            return messages.pop(0) if messages else await receive()

        return again


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_json(content_type: bytes | None) -> bool:
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _check_address(scope: Scope) -> None:
    if "\0" in scope["path"]:
        raise ApiError(ErrorCode.INVALID, "the address holds a NUL character")
    query = scope.get("query_string", b"")
    if not query:
        return
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=QUERY_FIELDS)
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID, "the query string cannot be read") from error
    if any("\0" in name or "\0" in value for name, value in fields):
        raise ApiError(ErrorCode.INVALID, "the query string holds a NUL character")
    if any(name in ("token", "access_token", "password") for name, _ in fields):
        raise ApiError(
            ErrorCode.UNAUTHENTICATED,
            "secrets are not taken from an address, where logs keep them",
            hint="send them in the Authorization header; a WebSocket without headers takes a ticket",
        )


def check_json(body: bytes) -> None:
    """Refuse JSON that a database could not hold: NUL, lone surrogates, numbers without end. Raises: ApiError."""
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise ApiError(ErrorCode.INVALID, "the body is nested too deeply") from error
    except ValueError:
        return  # FastAPI says where
    problem = _problem(value)
    if problem:
        raise ApiError(ErrorCode.INVALID, f"the body holds {problem}")


def _problem(value: Any, depth: int = 0) -> str:
    if depth > DEEPEST_JSON:
        return "values that are nested too deeply"
    if isinstance(value, str):
        return _text_problem(value)
    if isinstance(value, float):
        return "" if math.isfinite(value) else "a number without end"
    if isinstance(value, int):
        return "" if -LARGEST_INTEGER <= value <= LARGEST_INTEGER else "a number that is too large"
    if isinstance(value, dict):
        return next(
            (found for key, item in value.items() if (found := _text_problem(key) or _problem(item, depth + 1))), ""
        )
    if isinstance(value, list):
        return next((found for item in value if (found := _problem(item, depth + 1))), "")
    return ""


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "a NUL character"
    return "half of a surrogate pair" if any("\ud800" <= letter <= "\udfff" for letter in text) else ""


def _with_request_id(send: Send, request_id: str, *, private: bool = True) -> Send:
    """Add the request's id to the answer, and give the framework's own 413, which is plain text, our shape.

    Args: private: nobody on the way may keep the answer, unless it says so itself.
    """
    too_long = False

    async def sender(message: Message) -> None:
        nonlocal too_long
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = list(message.get("headers", ()))
            too_long = message["status"] == 413 and (b"content-type", b"application/json") not in headers
            if too_long:
                headers = [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(_too_long(request_id))),
                ]
            if private and not any(name == b"cache-control" for name, _ in headers):
                headers += PRIVATE
            message = {**message, "headers": [*headers, (b"x-request-id", request_id.encode())]}
        elif too_long:
            message = {**message, "body": _too_long(request_id), "more_body": False}
        await send(message)

    return sender


def _too_long(request_id: str) -> bytes:
    error = ApiError(ErrorCode.TOO_LARGE, "the body is longer than this address takes")
    return json.dumps(error.body(request_id)).encode()


async def _refuse(error: ApiError, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    answer = response(error)
    answer.body = answer.render(error.body(request_id))
    answer.headers["content-length"] = str(len(answer.body))
    await answer(scope, receive, _with_request_id(send, request_id))

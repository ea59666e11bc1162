"""Requests of the surface's callers to the API server: judged by the local policy and their right, then made as them.

A caller is `towline:local` in the group of his right, never the agent itself, so the cluster's own rules hold for him
as for everybody. What passes is what `kubernetes.md` 4.1 lets pass: one undisputed reading of the path, no identity of
the caller's making, no upgrade, no redirect followed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import access as local_access
from towline.agent.kubernetes import acting
from towline.agent.kubernetes.api import (
    LARGEST_ERROR_BYTES,
    UNREADABLE,
    Answer,
    ApiAway,
    Connect,
    TooLarge,
    connect,
)
from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.policy import LocalPolicy
from towline.agent.streams.refusal import Refused
from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import ByteStream
from towline.aio.transports import TransportStream
from towline.kube import access, paths, rules
from towline.kube.access import AccessTuple
from towline.kube.errors import RequestRefused
from towline.kube.identity import Identity
from towline.kube.objects import Status

USER = "towline:local"
"""Whom the cluster's own audit log names."""
ROLES = {Right.READ: "viewer", Right.OPERATE: "operator"}
"""The role whose group a caller is in, and whose rules he is held against."""

MOST_IDLE = 16
"""Connections kept for the next request of the same right: more requests at once open their own."""
IDLE_SECONDS = 20.0
"""That a connection is kept unused; API servers and their load balancers wait longer."""

_NOT_IN_QUERY = re.compile(rb"[^!-~]|#")
_status = msgspec.json.Decoder(Status)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `target` is path and query as they are sent, byte for byte."""

    method: str
    target: str
    right: Right
    body: bytes = b""
    content_type: str = ""
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class _Idle:
    stream: ByteStream
    server: ApiServer
    since: float


class Passage:
    """Makes requests for callers."""

    def __init__(
        self,
        credentials: Credentials,
        policy: Callable[[], LocalPolicy],
        *,
        connect: Connect = connect,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._credentials = credentials
        self._policy = policy
        self._connect = connect
        self._clock = clock
        self._idle: dict[Right, list[_Idle]] = {right: [] for right in ROLES}

    def __repr__(self) -> str:
        return f"<Passage {sum(map(len, self._idle.values()))} idle connections>"

    def judge(self, ask: Ask) -> AccessTuple:
        """Return what a request asks for. Raises: SurfaceError: it may not pass. PolicyRefused."""
        try:
            target = ask.target.encode("ascii")
            path, _, query = target.partition(b"?")
            found = access.derive(ask.method.encode("ascii"), paths.check_path(path), query)
        except UnicodeEncodeError as error:
            raise SurfaceError("bad_request", "path and method are ASCII; write other characters as %XX") from error
        except RequestRefused as error:
            raise SurfaceError("bad_request", str(error)) from error
        if _NOT_IN_QUERY.search(query) is not None:
            raise SurfaceError("bad_request", "the query holds a blank, a control character or a fragment")
        if found.is_exec_family:
            raise SurfaceError("bad_request", "consoles and port-forwards do not pass here; use the control plane's")
        reason = local_access.forbidden(self._policy().require_kubernetes(), found)
        decision = rules.allows(ROLES[ask.right], found)
        if reason or not decision.allowed:
            raise SurfaceError("forbidden", reason or decision.rule)
        return found

    @asynccontextmanager
    async def ask(self, ask: Ask) -> AsyncIterator[Answer]:
        """Make a request; the answer's head has arrived, its body is read by the caller.

        Raises: as `judge`. KubernetesError: the API server does not answer, or not with the agent's credentials.
        """
        found = self.judge(ask)
        stream, server, answer = await self._begin(ask)
        if answer.head.status == 401 and not found.is_proxy:
            stream.abort("not taken")
            self._credentials.forget()
            raise KubernetesError("the cluster does not take the credentials of its agent at the moment")
        try:
            yield answer
        finally:
            if answer.is_done and answer.head.keep_alive:
                self._keep(ask.right, stream, server)
            else:
                stream.abort("done")

    async def read_refusal(self, answer: Answer) -> SurfaceError:
        """Return what an answer that is no good one means to the caller."""
        status = Status()
        with contextlib.suppress(TooLarge, ApiAway, *UNREADABLE):
            status = _status.decode(await answer.read(LARGEST_ERROR_BYTES))
        words = (status.message or status.reason or "no reason given")[:500]
        code = {400: "bad_request", 403: "forbidden", 404: "not_found", 422: "bad_request"}.get(answer.head.status)
        if code is None:
            return unavailable("Kubernetes", f"the API server answers {answer.head.status}: {words}")
        return SurfaceError(code, words)

    def origins(self) -> tuple[bytes, ...]:
        """Return how locations may name the API server. Raises: KubernetesError."""
        return self._credentials.current().origins

    def close(self) -> None:
        """Let go of every connection that is kept."""
        for kept in self._idle.values():
            while kept:
                kept.pop().stream.abort("the surface ends")

    # -- connections -----------------------------------------------------------------------------

    async def _begin(self, ask: Ask) -> tuple[ByteStream, ApiServer, Answer]:
        server = self._credentials.current()
        if ask.method == "GET" and (kept := self._take(ask.right, server)) is not None:
            try:
                return kept, server, await self._exchange(kept, server, ask)
            except ApiAway:
                kept.abort("it had died unused")  # a read may go once more, on a connection of its own
            except BaseException:
                kept.abort("given up")
                raise
        try:
            stream = await self._connect(server)
        except Refused as error:
            raise ApiAway(error.reason) from error
        try:
            return stream, server, await self._exchange(stream, server, ask)
        except BaseException:
            stream.abort("given up")
            raise

    async def _exchange(self, stream: ByteStream, server: ApiServer, ask: Ask) -> Answer:
        return await acting.exchange(stream, _head(ask, server) + ask.body, ask.method)

    def _take(self, right: Right, server: ApiServer) -> ByteStream | None:
        kept, now = self._idle[right], self._clock.monotonic()
        while kept:
            idle = kept.pop()
            if now - idle.since < IDLE_SECONDS and idle.server.is_same_place(server) and not _is_over(idle.stream):
                return idle.stream
            idle.stream.abort("too old")
        return None

    def _keep(self, right: Right, stream: ByteStream, server: ApiServer) -> None:
        kept = self._idle[right]
        if len(kept) >= MOST_IDLE or _is_over(stream):
            stream.abort("done")
        else:
            kept.append(_Idle(stream, server, self._clock.monotonic()))


def identity(right: Right) -> Identity:
    """Return who a caller is inside the cluster."""
    return Identity(USER, (f"towline:role:{ROLES[right]}",))


def _head(ask: Ask, server: ApiServer) -> bytes:
    return acting.request_head(
        server,
        identity(ask.right),
        ask.method,
        ask.target,
        agent="local",
        accept=ask.accept,
        body=ask.body,
        content_type=ask.content_type,
    )


def _is_over(stream: ByteStream) -> bool:
    return isinstance(stream, TransportStream) and stream.transport.is_closing()

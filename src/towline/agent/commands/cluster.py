"""A command's way to the API server: as the person who asked, only what was announced, only what the host allows.

Each request is held against the plan, which gates have decided about, and against the local policy; what changes
something is noted before it is sent. The agent's own rights are never used.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from towline.agent.commands.ending import CommandEnds, NotAnnounced
from towline.agent.errors import KubernetesError, PolicyRefused
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
from towline.agent.kubernetes.gate import Gate
from towline.agent.policy import LocalPolicy
from towline.agent.streams.refusal import Refused
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import ByteStream
from towline.commandline.plan import Plan
from towline.commandline.resources import Resource
from towline.kube import access, paths
from towline.kube.identity import Identity
from towline.kube.objects import Status

LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
"""Of one document: a page of 100 objects of 160 KiB each; the output's own bound is far below."""
IDLE_SECONDS = 2.0
"""That a connection is used again: an API server closes none that young, and so no change is sent into a dead one."""
JSON = "application/json"

_status = msgspec.json.Decoder(Status)


class Rejected(CommandEnds):
    """The API server said no, in kubectl's words."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"Error from server ({reason}): {message}" if reason else f"Error from server: {message}")
        self.status = status
        self.reason = reason


class Cluster:
    """Makes the requests of one command. `close` it."""

    def __init__(
        self,
        credentials: Credentials,
        identity: Identity,
        plan: Plan,
        policy: Callable[[], LocalPolicy],
        *,
        before_write: Callable[[], None] = lambda: None,
        connect: Connect = connect,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._credentials = credentials
        self._identity = identity
        self._plan = plan
        self._policy = policy
        self._before_write = before_write
        self._connect = connect
        self._clock = clock
        self._kept: tuple[ByteStream, ApiServer, float] | None = None

    def __repr__(self) -> str:
        return f"<Cluster as {self._identity.user}>"

    async def get(self, target: str, *, accept: str = JSON) -> Any:
        """Return a document. Raises: Rejected, NotAnnounced, PolicyRefused, KubernetesError."""
        async with self.ask("GET", target, accept=accept) as answer:
            return await _document(answer)

    async def send(self, method: str, target: str, body: Any = None, kind: str = JSON) -> Any:
        """Change something; returns what the API server answers. Raises: as `get`."""
        raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.ask(method, target, body=raw, content_type=kind) as answer:
            return await _document(answer)

    @asynccontextmanager
    async def ask(
        self, method: str, target: str, *, body: bytes = b"", content_type: str = "", accept: str = JSON
    ) -> AsyncIterator[Answer]:
        """Make a request; the answer is a good one, its body is read by the caller. Raises: as `get`."""
        found = self.judge(method, target)
        stream, server = await self._open()
        try:
            head = acting.request_head(
                server, self._identity, method, target, agent="command",
                accept=accept, body=body, content_type=content_type,
            )  # fmt: skip
            self.note(found)
            answer = await acting.exchange(stream, head + body, method)
            await self._check(answer)
            yield answer
            if answer.is_done and answer.head.keep_alive and self._kept is None:
                self._kept, stream = (stream, server, self._clock.monotonic()), None
        finally:
            if stream is not None:
                stream.abort("done")

    def close(self) -> None:
        """Let go of the connection."""
        if self._kept is not None:
            self._kept[0].abort("the command has ended")
            self._kept = None

    def check(self) -> None:
        """Hold everything that was announced against the policy of now. Raises: PolicyRefused."""
        rules = self._policy().require_kubernetes()
        for each in self._plan.touches:
            if reason := local_access.forbidden(rules, each):
                raise PolicyRefused(reason)

    def judge(self, method: str, target: str) -> access.AccessTuple:
        """Return what a request asks for. Raises: NotAnnounced, PolicyRefused, RequestRefused."""
        raw = target.encode("ascii")
        path, _, query = raw.partition(b"?")
        found = access.derive(method.encode(), paths.check_path(path), query)
        if not self._plan.covers(found) and not local_access.is_question(found):
            where = f" in {found.namespace}" if found.namespace else " of the whole cluster"
            raise NotAnnounced(f"{found.verb} {found.kind}{where} is more than this command was allowed")
        if reason := local_access.forbidden(self._policy().require_kubernetes(), found):
            raise PolicyRefused(reason)
        return found

    def note(self, found: access.AccessTuple) -> None:
        """Have it written down that a request is about to change something, if it is."""
        if not local_access.is_reading(found) and not local_access.is_question(found):
            self._before_write()

    def gate(self, server: ApiServer) -> Gate:
        """Return what puts this command's identity on the requests of a connection to the API server."""
        credentials = self._credentials
        return Gate(
            self._identity,
            server,
            credentials.current,
            lambda: self._policy().require_kubernetes(),
            credentials.forget,
        )

    async def dial(self) -> tuple[ByteStream, ApiServer]:
        """Open a connection of its own, for the caller to close. Raises: KubernetesError."""
        server = self._credentials.current()
        try:
            return await self._connect(server), server
        except Refused as error:
            raise ApiAway(error.reason) from error

    async def _open(self) -> tuple[ByteStream | Any, ApiServer]:
        server, kept = self._credentials.current(), self._kept
        self._kept = None
        if kept is not None:
            stream, used, since = kept
            if used.is_same_place(server) and self._clock.monotonic() - since < IDLE_SECONDS:
                return stream, server
            stream.abort("too old")
        return await self.dial()

    async def _check(self, answer: Answer) -> None:
        """Raises: Rejected: no good answer. KubernetesError: not even the agent is let in."""
        if answer.head.status < 300:
            return
        if answer.head.status == 401:
            self._credentials.forget()
            raise KubernetesError("the cluster does not take the credentials of its agent at the moment")
        status = Status()
        with contextlib.suppress(TooLarge, ApiAway, *UNREADABLE):
            status = _status.decode(await answer.read(LARGEST_ERROR_BYTES))
        words = status.message or f"the API server answers {answer.head.status}"
        raise Rejected(answer.head.status, status.reason, words[:4000])


async def _document(answer: Answer) -> Any:
    body = await answer.read(LARGEST_ANSWER_BYTES)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiAway(f"an answer of the API server is no JSON: {error}") from error


Query = Mapping[str, str | int | bool]


def path_of(
    resource: Resource, namespace: str = "", name: str = "", subresource: str = "", query: Query | None = None
) -> str:
    """Return the target of a request about objects of a kind; a query of empty values is left out."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
    parts = "/".join([resource.name, *(quote(part, safe=":") for part in (name, subresource) if part)])
    return f"{root}{place}/{parts}{_text(query or {})}"


def _text(query: Query) -> str:
    kept = {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items() if value != ""
    }
    return f"?{urlencode(kept)}" if kept else ""

"""A small client of clusters' API servers, for our own pages: HTTP/1.1 through the tunnel as who is signed in.

Every request passes the same gate as one of kubectl: the same roles, the same identity inside the cluster, the same
record, the same end when the right to it ends. Nothing of the browser's request travels on, its cookies least of all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from towline.aio.streams import StreamError
from towline.control.access.actor import Access
from towline.control.access.service import Principal
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import words
from towline.control.kubernetes.addresses import Address
from towline.control.kubernetes.gate import Gate
from towline.control.kubernetes.requests import understand
from towline.control.kubernetes.visit import Visit
from towline.gateway.errors import UpstreamAway
from towline.gateway.interfaces import Answer, Ended, Peer, Tap, ToCluster
from towline.gateway.tunnelled import TunnelConnector
from towline.kube.errors import RequestRefused
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.wire.http1 import HeadError, RequestHead, ResponseBuffer, ResponseHead, parse_request_head
from towline.wire.http1 import parse_response_head as parse_head
from towline.wire.http1_body import BodyReader, body_reader
from towline.wire.yamux_model import TooManyStreams

if TYPE_CHECKING:
    from towline.tunnel.opening import TunnelStream

JSON = "application/json"
MOST_BYTES = 16 * 1024 * 1024
"""Of one answer that is held whole: etcd keeps 1.5 MiB of an object, and a page of 500 table rows is below 4 MiB."""
ANSWER_TIMEOUT = 30.0
"""Seconds for an answer that a page waits for: longer than an API server thinks about a list, shorter than patience."""
_CODES = {
    400: ErrorCode.INVALID,
    401: ErrorCode.FORBIDDEN,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.TOO_LARGE,
    422: ErrorCode.INVALID,
    429: ErrorCode.THROTTLED,
    503: ErrorCode.AGENT_AWAY,
    504: ErrorCode.AGENT_TIMEOUT,
}


class ClusterSaid(ApiError):
    """The API server answered with an error. `status` is its Status object, `http` its code."""

    def __init__(self, http: int, status: dict[str, Any]) -> None:
        message = str(status.get("message") or f"the API server answered {http}")[:2000]
        hint = "the cluster's own RBAC decides this, for you and for groups like towline:role:operator"
        super().__init__(_CODES.get(http, ErrorCode.AGENT_REFUSED), message, hint=hint if http == 403 else "")
        self.http = http
        self.said = status


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a cluster's API."""

    target: str
    """Path and query, encoded."""
    method: str = "GET"
    body: bytes = b""
    content_type: str = ""
    accept: str = JSON
    fields: tuple[tuple[str, str], ...] = ()
    """Further header fields, for an upgrade."""

    def raw(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: kubernetes", f"Accept: {self.accept}"]
        lines += ["User-Agent: towline-pages", *(f"{name}: {value}" for name, value in self.fields)]
        if self.content_type:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Answered:
    """An answer whose head is here; its body is read once."""

    def __init__(self, head: ResponseHead, method: str, stream: TunnelStream, held: bytes) -> None:
        self.head = head
        self.stream = stream
        self.received_bytes = 0
        self.tap: Tap | None = None
        """Who reads along behind a 101."""
        self.note = b""
        """What the user is told about that."""
        self._held = held
        self._reader: BodyReader = body_reader(head.framing_for(method.encode("ascii")), head.content_length or 0)

    @property
    def status(self) -> int:
        return self.head.status

    def take_held(self) -> bytes:
        """Return what came behind a 101."""
        held, self._held = self._held, b""
        return held

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises: ApiError: it was cut off."""
        data = self.take_held()
        while not self._reader.is_done:
            data = data or await self.stream.read()
            if not data:
                break
            self.received_bytes += len(data)
            for piece in self._reader.feed(data):
                yield piece
            data = b""
        if not self._reader.is_done and (self.head.chunked or self.head.content_length is not None):
            raise ApiError(ErrorCode.AGENT_REFUSED, "the answer of the API server was cut off")

    async def whole(self) -> bytes:
        """Return the body. Raises: ApiError: too large, or cut off."""
        found = bytearray()
        async for piece in self.pieces():
            found += piece
            if len(found) > MOST_BYTES:
                raise ApiError(ErrorCode.TOO_LARGE, "the answer of the API server is too large for a page")
        return bytes(found)


class Talker:
    """Asks clusters on behalf of people who are signed in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __repr__(self) -> str:
        return "<Talker>"

    async def get(self, access: Access, cluster: str, target: str, accept: str = JSON) -> Any:
        """Return a JSON answer. Raises: ApiError, ClusterSaid."""
        return await self.ask(access, cluster, Question(target, accept=accept))

    async def ask(self, access: Access, cluster: str, question: Question) -> Any:
        """Return the JSON of an answer. Raises: ApiError, ClusterSaid."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT), self.asked(access, cluster, question) as answer:
                return decoded(await answer.whole())
        except TimeoutError as error:
            message = f"the API server of {cluster} did not answer within {ANSWER_TIMEOUT:.0f} seconds"
            raise ApiError(ErrorCode.AGENT_TIMEOUT, message) from error

    @asynccontextmanager
    async def asked(self, access: Access, cluster: str, question: Question) -> AsyncIterator[Answered]:
        """Ask, and leave the body to the block. Errors of the API server are raised already.

        Raises: ApiError: not allowed, no agent, cut off; ClusterSaid.
        """
        head, route = await self._admitted(access, cluster, question)
        talk = _Talk(route)
        try:
            answer = await talk.begin(head, question, access.actor.request_id)
            if answer.status >= 400:
                raise ClusterSaid(answer.status, _status(await answer.whole()))
            yield answer
        except StreamError as error:
            raise talk.lost(error) from error
        except HeadError as error:
            raise ApiError(ErrorCode.AGENT_REFUSED, f"the API server's answer cannot be read: {error}") from error
        finally:
            talk.end()

    async def _admitted(self, access: Access, cluster: str, question: Question) -> tuple[RequestHead, ToCluster]:
        path, _, query = question.target.partition("?")
        raw = question.target.encode("ascii")
        address = Address(cluster, path.encode("ascii"), query.encode("ascii"), raw, b"")
        actor = access.actor
        peer = Peer(actor.address or "127.0.0.1", 0, "https", actor.address or "127.0.0.1")
        try:
            head = parse_request_head(question.raw())
            asked = understand(head, peer, actor.request_id, address)
        except HeadError as error:
            raise ApiError(ErrorCode.INVALID, str(error)) from error
        except RequestRefused as error:
            raise ApiError(ErrorCode.INVALID, error.message) from error
        decided = await self._gate.admit(asked, Principal(actor, access.rights, access.org_name))
        if isinstance(decided, Answer):
            raise refused(decided, cluster)
        return head, decided


class _Talk:
    """One request on its way: a stream of its own, and the visit that it is on record with."""

    def __init__(self, route: ToCluster) -> None:
        assert isinstance(route.connector, TunnelConnector)
        self._name = route.name
        self._connector = route.connector
        assert isinstance(route.treatment, Visit)
        self._visit = route.treatment
        self._stream: TunnelStream | None = None
        self._answer: Answered | None = None
        self._began = 0.0
        self._sent_bytes = 0
        self._why = ("", "")

    async def begin(self, head: RequestHead, question: Question, request_id: str) -> Answered:
        """Send the request and wait for the head of its answer. Raises: ApiError, StreamError, HeadError."""
        self._began = time.monotonic()
        self._visit.begin(self.cut)
        stream = self._stream = await self._open()
        if self._why[0]:
            raise self._gone()
        first = self._visit.upstream_head(head, request_id) + question.body
        self._sent_bytes = len(first)
        await stream.write(first)
        answer = self._answer = await _head_of(stream, question.method)
        if answer.status == 101:
            self._visit.answer_lines(answer.head)
            answer.tap, answer.note = self._visit.tap(), self._visit.note
            if self._why[0]:
                raise self._gone()
        return answer

    async def _open(self) -> TunnelStream:
        session = self._connector.find_session()
        if session is None:
            raise self._away("away", "no agent of this cluster is connected")
        try:
            stream: TunnelStream = await session.open_stream(self._connector.target)
        except TargetRefused as error:
            raise self._away(error.code, error.reason) from error
        except TunnelClosed as error:
            raise self._away("away", str(error)) from error
        except TooManyStreams as error:
            raise self._away("full", str(error)) from error
        except TimeoutError as error:
            raise self._away("timeout", str(error)) from error
        return stream

    def _away(self, refusal: str, why: str) -> ApiError:
        error = UpstreamAway(why)
        error.refusal = refusal
        return refused(words.lost(self._name, 502, "", why, error), self._name)

    def cut(self, code: str, why: str) -> None:
        """End it from outside: the right to it was withdrawn, or the server stops."""
        self._why = (code, why)
        if self._stream is not None:
            self._stream.abort(why)

    def lost(self, error: StreamError) -> ApiError:
        """Say why the stream ended."""
        if self._why[0]:
            return self._gone()
        reason = error.reason or "the connection to the cluster was lost"
        return ApiError(ErrorCode.AGENT_AWAY, reason, hint="try again")

    def _gone(self) -> ApiError:
        return ApiError(ErrorCode.FORBIDDEN, self._why[1])

    def end(self) -> None:
        if self._stream is not None:
            self._stream.abort("done")
        if not self._began:
            return
        status = self._answer.status if self._answer is not None else 0
        received = self._answer.received_bytes if self._answer is not None else 0
        outcome = self._why[0] or ("upgraded" if status == 101 else "done" if status else "upstream_lost")
        seconds = time.monotonic() - self._began
        # The client of this request are our own pages: what they sent is what came up, and what they got went down.
        self._visit.end(Ended(status, outcome, self._why[1], self._sent_bytes, received, seconds))


async def _head_of(stream: TunnelStream, method: str) -> Answered:
    """Return the final answer's head; interim ones are passed over. Raises: StreamError, HeadError."""
    buffer = ResponseBuffer()
    while True:
        raw = buffer.cut()
        if raw is not None:
            head = parse_head(raw)
            if head.status >= 200 or head.status == 101:
                return Answered(head, method, stream, buffer.take())
            continue
        data = await stream.read()
        if not data:
            raise HeadError(502, "cut", "it ended before its head did")
        buffer.feed(data)


def refused(answer: Answer, cluster: str) -> ApiError:
    """Turn a refusal of the gate into an error of our own API."""
    if answer.code == "unknown_cluster":
        return ApiError(ErrorCode.CLUSTER_NOT_FOUND, answer.message)
    code = _CODES.get(answer.status, ErrorCode.AGENT_REFUSED)
    hint = "`towline agent doctor` on its side says why" if answer.code == "agent_away" else ""
    return ApiError(code, answer.message, hint=hint, detail={"reason": answer.code, "cluster": cluster})


def decoded(data: bytes) -> Any:
    """Return JSON. Raises: ApiError."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ApiError(ErrorCode.AGENT_REFUSED, "the API server's answer is not JSON") from error


def _status(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {"message": data[:500].decode("utf-8", "replace").strip()}
    return found if isinstance(found, dict) else {}

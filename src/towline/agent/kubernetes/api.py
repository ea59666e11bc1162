"""Reading from the API server with the agent's own rights: HTTP/1.1 requests, one after the other on a connection.

For the agent's own needs alone: no impersonation, GET but for tokens, answers read piece by piece within limits. What
passes for users is `forward.py`'s. Which objects are read is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

import towline
from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.credentials import ApiServer, Credentials
from towline.agent.streams.refusal import Refused
from towline.aio.streams import ByteStream, StreamError
from towline.aio.transports import TransportStream
from towline.kube.objects import Status
from towline.wire.http1 import HeadError, ResponseBuffer, ResponseHead, parse_response_head
from towline.wire.http1_body import BodyReader, body_reader
from towline.wire.http1_build import build_request_head

ANSWER_TIMEOUT = 60.0
"""Seconds until an answer begins: the API server gives up on a LIST after as long."""
PIECE_TIMEOUT = 30.0
"""Seconds between two pieces of an answer that is not a watch."""
LARGEST_ERROR_BYTES = 64 * 1024
"""A Status is a few hundred bytes; what is longer is no Status of an API server."""
KEEP_ALIVE_AFTER = 5
"""Seconds of silence after which, and then every so many, the kernel asks whether the API server is still there: a
quiet watch says nothing, and one whose API server was switched off and is back must be known to be dead at once."""
LOST_AFTER = 15
"""Seconds that what the kernel sent or asked may stay unanswered; then the line is dead."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not what was asked for; text that is not UTF-8 among them."""

T = TypeVar("T")
_status = msgspec.json.Decoder(Status)


class ApiAway(KubernetesError):
    """The API server did not answer, or its answer was cut; the reason is in an operator's words."""


class ApiRefused(KubernetesError):
    """The API server said no. `retry_after`: seconds that it asks to wait; 0 when it does not."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"the API server answers {status}: {message or reason or 'no reason given'}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class TooLarge(KubernetesError):
    """An answer is larger than the caller takes."""


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Say what went wrong while a request was sent and the head of its answer was read. Raises: ApiAway."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            yield
    except TimeoutError as error:
        raise ApiAway(f"the API server did not answer within {ANSWER_TIMEOUT:g} s") from error
    except StreamError as error:
        raise ApiAway(f"the connection to the API server broke: {error.reason}") from error
    except HeadError as error:
        raise ApiAway(f"the API server does not speak HTTP/1.1: {error}") from error


class Answer:
    """One answer whose head has arrived. Read it to its end before the next request."""

    def __init__(self, head: ResponseHead, body: BodyReader, stream: ByteStream, first: list[bytes]) -> None:
        self.head = head
        self._body = body
        self._stream = stream
        self._first = first

    def __repr__(self) -> str:
        return f"<Answer {self.head.status} {'whole' if self.is_done else 'being read'}>"

    @property
    def is_done(self) -> bool:
        """True when its last byte has been read: the connection may be used again."""
        return self._body.is_done

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; ends cleanly only with the body's own end. Raises: ApiAway: it was cut."""
        for piece in self._first:
            yield piece
        while not self._body.is_done:
            for piece in await self._more():
                yield piece

    async def read(self, most_bytes: int) -> bytes:
        """Return the whole body. Raises: ApiAway. TooLarge: nothing of it is kept then."""
        found: list[bytes] = []
        size = 0
        pieces = self.pieces()
        while True:
            try:
                async with asyncio.timeout(PIECE_TIMEOUT):
                    piece = await anext(pieces, None)
            except TimeoutError as error:
                raise ApiAway("the API server stopped in the middle of an answer") from error
            if piece is None:
                return b"".join(found)
            size += len(piece)
            if size > most_bytes:
                raise TooLarge(f"an answer of more than {most_bytes} bytes")
            found.append(piece)

    async def _more(self) -> list[bytes]:
        try:
            data = await self._stream.read()
            if not data:
                raise ApiAway("the API server closed the connection in the middle of an answer")
            return self._body.feed(data)
        except StreamError as error:
            raise ApiAway(f"the connection to the API server broke: {error.reason}") from error
        except HeadError as error:
            raise ApiAway(f"the API server does not speak HTTP/1.1: {error}") from error


class Connection:
    """One connection, for one task. Requests one after the other."""

    def __init__(
        self,
        stream: ByteStream,
        server: ApiServer,
        forget: Callable[[], None],
        note_date: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._stream = stream
        self._server = server
        self._forget = forget
        self._note_date = note_date
        self._last: Answer | None = None

    def __repr__(self) -> str:
        return f"<Connection {'reusable' if self.is_reusable else 'used up'}>"

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        last = self._last
        return last is None or (last.is_done and last.head.keep_alive)

    async def ask(self, target: str) -> Answer:
        """Send a GET and wait for the head of its answer. Raises: ApiAway. ApiRefused: no 200."""
        answer = await self._exchange(target)
        if answer.head.status == 200:
            return answer
        raise await self._refused(answer)

    async def get(self, target: str, decoder: msgspec.json.Decoder[T], most_bytes: int) -> T:
        """Ask for one document. Raises: ApiAway, ApiRefused, TooLarge."""
        body = await (await self.ask(target)).read(most_bytes)
        try:
            return decoder.decode(body)
        except UNREADABLE as error:
            raise ApiAway(f"the answer to {target.partition('?')[0]} is not what was asked for: {error}") from error

    async def post(self, target: str, body: bytes, decoder: msgspec.json.Decoder[T], most_bytes: int) -> T:
        """Send a document and return the one that was made. Raises: ApiAway, ApiRefused, TooLarge."""
        answer = await self._exchange(target, body)
        if answer.head.status not in (200, 201):
            raise await self._refused(answer)
        try:
            return decoder.decode(await answer.read(most_bytes))
        except UNREADABLE as error:
            raise ApiAway(f"the answer to {target.partition('?')[0]} is not what was asked for") from error

    async def _exchange(self, target: str, body: bytes | None = None) -> Answer:
        lines = [
            (b"Host", self._server.authority),
            (b"User-Agent", f"towline-agent/{towline.__version__}".encode()),
            (b"Accept", b"application/json"),
        ]
        if self._server.authorization is not None:
            lines.append((b"Authorization", self._server.authorization))
        if body is not None:
            lines += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        method = b"GET" if body is None else b"POST"
        async with answering():
            await self._stream.write(build_request_head(method, target.encode("ascii"), lines) + (body or b""))
            self._last = await self._head()
        return self._last

    async def _head(self) -> Answer:
        buffer = ResponseBuffer()
        while (raw := buffer.cut()) is None:
            data = await self._stream.read()
            if not data:
                raise ApiAway("the API server closed the connection instead of answering")
            buffer.feed(data)
        head = parse_response_head(raw)
        self._note_date(head.get(b"date") or b"")
        body = body_reader(head.framing_for(b"GET"), head.content_length or 0)
        return Answer(head, body, self._stream, body.feed(buffer.take()) if len(buffer) else [])

    async def _refused(self, answer: Answer) -> ApiRefused:
        status = Status()
        with contextlib.suppress(TooLarge, *UNREADABLE):
            status = _status.decode(await answer.read(LARGEST_ERROR_BYTES))
        if answer.head.status == 401:
            self._forget()
        wait = (answer.head.get(b"retry-after") or b"").decode("latin-1")
        return ApiRefused(
            answer.head.status, status.reason, status.message[:500], float(wait) if wait.isdecimal() else 0.0
        )


Connect = Callable[[ApiServer], Awaitable[ByteStream]]


async def connect(server: ApiServer) -> ByteStream:
    """Open the connection underneath. Raises: Refused."""
    transport, stream = await upstream.dial(server, TransportStream)
    if not upstream.speaks_http1(transport):
        stream.abort("no HTTP/1.1")
        raise Refused("unreachable", "the API server wants another protocol than HTTP/1.1")
    upstream.keep_alive(transport, KEEP_ALIVE_AFTER, lost_after=LOST_AFTER)
    return stream


class Api:
    """Opens connections to the API server with the credentials of the moment."""

    def __init__(self, credentials: Credentials, *, connect: Connect = connect) -> None:
        self._credentials = credentials
        self._connect = connect
        self._clock = credentials.clock
        self._ahead = 0.0
        """Seconds since the epoch by the API server's clock, less our monotonic ones; 0: it never said."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Open a connection for a block. Raises: ApiAway. KubernetesError: there is nothing to connect to."""
        server = self._credentials.current()
        try:
            stream = await self._connect(server)
        except Refused as error:
            raise ApiAway(error.reason) from error
        try:
            yield Connection(stream, server, self._credentials.forget, self._note_date)
        finally:
            stream.abort("done")

    def now(self) -> float:
        """Return the cluster's time in seconds since the epoch, to about a second, however wrong our own clock is.

        It is what the API server's last answer said and the time since. Before it said anything, it is our own.
        """
        return self._clock.monotonic() + self._ahead if self._ahead else self._clock.now().timestamp()

    def _note_date(self, date: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            said = parsedate_to_datetime(date.decode("latin-1"))
            self._ahead = said.timestamp() - self._clock.monotonic()

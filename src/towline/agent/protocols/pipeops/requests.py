"""`proxy_request`: an HTTP request carried to its target, and its answer back as it comes.

Each request is a task of its own; chunks of its body keep their order. Nothing is cut after 30 seconds: an answer
that goes on for hours goes on, until the other side cancels it.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog

from towline.agent.protocols.pipeops.sockets import Sockets, wants_socket
from towline.agent.protocols.pipeops.speaking import Voice
from towline.agent.protocols.pipeops.upstream import Asked, Failed, Far, Reply, Upstream, head_of, read_reply
from towline.aio.streams import ByteStream, StreamError
from towline.aio.tasks import TaskOwner
from towline.wire import pipeops_frames as frames
from towline.wire import pipeops_messages as messages
from towline.wire.http1_body import encode_chunk, encode_last_chunk
from towline.wire.pipeops_messages import ProxyRequest

HEAD_TIMEOUT = 120.0
"""Seconds until an answer begins when the request says nothing else."""

CHUNK_BYTES = 32 * 1024
"""Of one streamed message, as the original has it."""

BINARY_FROM_BYTES = 10 * 1024
"""Buffered answers of this size and more are binary messages, as long as those are not yamux."""

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Of a body that comes faster than its target takes it: the protocol cannot ask the sender to wait."""

MAX_REQUESTS = 512
"""At once; more are refused."""

_log = structlog.get_logger("towline.agent.pipeops")


class Body:
    """The body of one request, as it arrives."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = 0
        self.is_over = False

    def feed(self, data: bytes) -> bool:
        """Take bytes. Returns: False when there is no room for them."""
        if self.is_over or not data:
            return True
        self._waiting += len(data)
        if self._waiting > MAX_WAITING_BYTES:
            return False
        self._pieces.put_nowait(data)
        return True

    def end(self) -> None:
        """There is no more."""
        if not self.is_over:
            self.is_over = True
            self._pieces.put_nowait(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            self._waiting -= len(piece)
            yield piece


class Requests:
    """The requests of one connection."""

    def __init__(self, voice: Voice, upstream: Upstream, sockets: Sockets, owner: TaskOwner) -> None:
        self._voice = voice
        self._upstream = upstream
        self._sockets = sockets
        self._owner = owner
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._bodies: dict[str, Body] = {}
        self._awaited: tuple[str, bytearray, int] | None = None

    def __repr__(self) -> str:
        return f"<Requests {len(self._tasks)} open>"

    # -- what arrives ------------------------------------------------------------------------------

    async def take(self, request: ProxyRequest, request_id: str) -> None:
        """Begin a request. Raises: TunnelClosed."""
        if not request_id or request_id in self._tasks:
            await self._refuse(request, request_id, "the request has no id, or one that is in use")
        elif len(self._tasks) >= MAX_REQUESTS:
            await self._refuse(request, request_id, f"{MAX_REQUESTS} requests are open")
        else:
            if request.use_streaming or request.streaming or request.body_binary:
                self._bodies[request_id] = Body()
            if request.body_binary:
                self._awaited = request_id, bytearray(), request.body_size
            task = self._owner.spawn(f"request {request_id[:60]}", self._carry(request, request_id))
            self._tasks[request_id] = task
            task.add_done_callback(lambda _: self._forget(request_id))

    async def chunk(self, message: messages.ProxyRequestChunk, request_id: str) -> None:
        """Take a piece of a body. One for no request, or for one that is over, is dropped."""
        body = self._bodies.get(request_id)
        if body is not None and not body.feed(message.data or message.chunk):
            await self.cancel(request_id, "the body comes faster than the target takes it")

    def end_body(self, request_id: str) -> None:
        if (body := self._bodies.get(request_id)) is not None:
            body.end()

    async def cancel(self, request_id: str, reason: str = "") -> None:
        """End a request, its answer included; says so when there is a reason. Raises: TunnelClosed."""
        task = self._tasks.get(request_id)
        if task is not None:
            task.cancel()
            if reason:
                await self._voice.say(messages.ProxyResponseAbort(error=reason), request_id)

    def binary(self, data: bytes) -> bool:
        """Take a binary message that may be a body. Returns: whether it was one."""
        if self._awaited is None:
            return False
        request_id, gathered, size = self._awaited
        gathered += data
        whole = len(gathered) >= size + len(request_id.encode()) + 2
        if whole:
            self._awaited = None
            self._body_arrived(request_id, bytes(gathered))
        return True

    def _body_arrived(self, request_id: str, data: bytes) -> None:
        try:
            frame = frames.decode_request(data)
        except frames.BadFrame as error:
            _log.warning("body dropped", reason=str(error))
            frame = frames.RequestFrame(request_id="", body=b"")
        task, body = self._tasks.get(request_id), self._bodies.get(request_id)
        if frame.request_id == request_id and body is not None and body.feed(frame.body):
            body.end()
        elif task is not None:
            task.cancel()

    def _forget(self, request_id: str) -> None:
        self._tasks.pop(request_id, None)
        self._bodies.pop(request_id, None)

    async def _refuse(self, request: ProxyRequest, request_id: str, reason: str) -> None:
        if request.supports_response_streaming:
            await self._voice.say(messages.ProxyResponseAbort(error=reason), request_id)
        else:
            await self._voice.say(messages.ProxyError(error=reason), request_id)

    # -- carrying ----------------------------------------------------------------------------------

    async def _carry(self, request: ProxyRequest, request_id: str) -> None:
        asked = asked_of(request)
        try:
            if wants_socket(request, asked):
                await self._sockets.open_by_request(request, asked, request_id)
                return
            await self._exchange(request, asked, request_id)
        except Failed as error:
            await self._say_failed(request, request_id, str(error))
        except StreamError as error:
            _log.debug("request ended", request=request_id[:60], reason=error.reason)

    async def _say_failed(self, request: ProxyRequest, request_id: str, reason: str) -> None:
        try:
            await self._refuse(request, request_id, reason)
        except StreamError as error:
            _log.debug("request ended", request=request_id[:60], reason=error.reason)

    async def _exchange(self, request: ProxyRequest, asked: Asked, request_id: str) -> None:
        far = await self._upstream.reach(asked)
        try:
            async with TaskOwner(f"body of {request_id[:60]}") as owner:
                async with _limit(request):
                    reply = await self._asked(request, asked, request_id, far, owner)
                if request.supports_response_streaming:
                    await self._stream(reply, request_id)
                else:
                    await self._buffered(reply, request_id)
        except TimeoutError as error:
            raise Failed("the target did not answer in time") from error
        finally:
            far.stream.abort("done")

    async def _asked(self, request: ProxyRequest, asked: Asked, request_id: str, far: Far, owner: TaskOwner) -> Reply:
        body = self._bodies.get(request_id)
        if body is None:
            whole = whole_body(request)
            length = (
                [(b"Content-Length", b"%d" % len(whole))] if whole or asked.method in ("POST", "PUT", "PATCH") else []
            )
            await _write(far.stream, head_of(asked, far, [*length, (b"Connection", b"close")]) + whole)
        else:
            chunked = [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")]
            await _write(far.stream, head_of(asked, far, chunked))
            owner.spawn("body", _send_body(far.stream, body))
        return await read_reply(asked, far)

    async def _stream(self, reply: Reply, request_id: str) -> None:
        voice = self._voice
        await voice.say(messages.ProxyResponseHeader(headers=reply.headers or None, status=reply.status), request_id)
        async for piece in reply.pieces():
            for begin in range(0, len(piece), CHUNK_BYTES):
                part = piece[begin : begin + CHUNK_BYTES]
                await voice.say(messages.ProxyResponseChunk(data=part, encoding="base64", size=len(part)), request_id)
        await voice.say(messages.ProxyResponseEnd(), request_id)

    async def _buffered(self, reply: Reply, request_id: str) -> None:
        body = bytearray()
        async for piece in reply.pieces():
            body += piece
            if len(body) > frames.MAX_BODY_BYTES:
                raise Failed(f"the answer has more than {frames.MAX_BODY_BYTES} bytes: ask for it as a stream")
        headers = reply.headers or None
        if len(body) >= BINARY_FROM_BYTES and not self._voice.is_multiplexed:
            frame = frames.ResponseFrame(request_id=request_id, status=reply.status, headers=headers, body=bytes(body))
            await self._voice.line.send_binary(frames.encode_response(frame))
            return
        text, encoding = frames.pack_body(bytes(body), headers)
        answer = messages.ProxyResponse(headers=headers, status=reply.status, body=text, encoding=encoding)
        await self._voice.say(answer, request_id)


def asked_of(request: ProxyRequest) -> Asked:
    """Return what of a request decides where it goes."""
    return Asked(
        method=(request.method or "GET").upper(),
        path=request.path,
        query=request.query.removeprefix("?"),
        service=request.service_name,
        namespace=request.namespace,
        port=request.service_port,
        is_encrypted=request.scheme == "https",
        headers={
            name: (values,) if isinstance(values, str) else tuple(values) for name, values in request.headers.items()
        },
    )


def whole_body(request: ProxyRequest) -> bytes:
    """Return a body that came with its request. Raises: Failed: it is not what it says."""
    body: Any = request.body
    if body is None:
        return b""
    if not isinstance(body, str):
        return msgspec.json.encode(body)
    if request.body_encoding != "base64":
        return body.encode("utf-8", "surrogatepass")
    try:
        return b64decode(body, validate=True)
    except (Base64Error, ValueError) as error:
        raise Failed(f"the body is no base64: {error}") from error


def _limit(request: ProxyRequest) -> asyncio.Timeout:
    """Until the answer begins: what the request says in milliseconds, or the usual."""
    told = request.timeout
    seconds = told / 1000 if isinstance(told, (int, float)) and told > 0 else HEAD_TIMEOUT
    return asyncio.timeout(min(seconds, 24 * 3600.0))


async def _send_body(stream: ByteStream, body: Body) -> None:
    try:
        async for piece in body.pieces():
            await stream.write(encode_chunk([piece]))
        await stream.write(encode_last_chunk([]))
    except StreamError as error:
        _log.debug("body not taken", reason=error.reason)


async def _write(stream: ByteStream, data: bytes) -> None:
    try:
        await stream.write(data)
    except StreamError as error:
        raise Failed(f"the target closed the connection: {error.reason}") from error

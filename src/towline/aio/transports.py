"""A byte stream on top of any asyncio transport: sockets, pipes, and the streams of a tunnel, which look like one.

`TransportStream` is the protocol object for callers that prefer awaiting to callbacks.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from towline.aio.streams import CHUNK_BYTES, Broken, ClosedHere, EndedThere, StreamError

READ_AHEAD_BYTES = 64 * 1024
"""Unread bytes at which the transport is told to stop reading: one chunk, so that a slow reader costs little."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer which does not read has to take the last bytes before the stream is dropped."""


class TransportStream(asyncio.Protocol):
    """The `ByteStream` of one transport."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._unread_bytes = 0
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False
        self._lost: StreamError | None = None
        self._closed_here: str | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._gone = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        state = "closed here" if self._closed_here is not None else repr(self._lost) if self._lost else "open"
        return f"<TransportStream {state} unread={self._unread_bytes} ended={self._ended}>"

    @property
    def transport(self) -> asyncio.Transport:
        """The transport underneath.

        Raises: Broken: it was never connected.
        """
        if self._transport is None:
            raise Broken("not connected")
        return self._transport

    # what callers use

    async def read(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._raise_if_over()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._take(max_bytes)

    async def write(self, data: bytes) -> None:
        self._raise_if_over()
        self.transport.write(data)
        while self._writing_paused and self._lost is None:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        if self.transport.is_closing() and self._lost is None:
            # it drops what is written, and says so in a later turn of the loop: a writer that never waits is its end
            await asyncio.wait([self._gone])
        if self._lost is not None:
            self._raise_if_over()

    async def write_eof(self) -> None:
        self._raise_if_over()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    async def aclose(self) -> None:
        if self._closed_here is None:
            self._closed_here = "closed"
        if self._transport is None or self._lost is not None:
            return
        self._transport.close()
        self._resume_reading()
        await asyncio.wait([self._gone], timeout=CLOSE_TIMEOUT)
        if not self._gone.done():
            self._transport.abort()

    def abort(self, reason: str = "") -> None:
        if self._closed_here is None:
            self._closed_here = reason or "aborted"
        if self._transport is not None:
            self._transport.abort()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._closed_here is not None:
            return
        self._chunks.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes >= READ_AHEAD_BYTES and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake_reader()
        return not self._is_tls()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = _as_stream_error(exc)
        if not self._gone.done():
            self._gone.set_result(None)
        self._wake_reader()
        self._wake_writer()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

    # inside

    def _take(self, max_bytes: int) -> bytes:
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._unread_bytes -= len(chunk)
        if self._unread_bytes < READ_AHEAD_BYTES:
            self._resume_reading()
        return chunk

    def _resume_reading(self) -> None:
        if self._reading_paused and self._lost is None:
            self._reading_paused = False
            self.transport.resume_reading()

    def _raise_if_over(self) -> None:
        if self._closed_here is not None:
            raise ClosedHere(self._closed_here)
        if self._lost is not None:
            raise self._lost

    def _is_tls(self) -> bool:
        # The TLS transports of asyncio and uvloop cannot be half-closed: they warn when asked to stay open.
        return isinstance(self.transport.get_extra_info("ssl_object"), ssl.SSLObject)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _as_stream_error(exc: Exception | None) -> StreamError:
    if exc is None:
        return EndedThere("closed")
    if isinstance(exc, StreamError):
        return exc
    error: StreamError
    if isinstance(exc, ConnectionResetError):
        error = EndedThere("connection reset")
    else:
        error = Broken(str(exc) or type(exc).__name__)
    error.__cause__ = exc
    return error


async def connect_tcp(host: str, port: int, *, timeout: float) -> TransportStream:
    """Open a TCP connection as a byte stream.

    Raises: OSError: as the system says. TimeoutError: no answer in time.
    """
    async with asyncio.timeout(timeout):
        _, stream = await asyncio.get_running_loop().create_connection(TransportStream, host, port)
    return stream


async def connect_unix(path: str, *, timeout: float) -> TransportStream:
    """Open a connection to a Unix socket as a byte stream. Raises as `connect_tcp`."""
    async with asyncio.timeout(timeout):
        _, stream = await asyncio.get_running_loop().create_unix_connection(TransportStream, path)
    return stream

"""Two byte streams connected to each other in memory: the fake that ships beside the `ByteStream` interface.

It behaves as a socket pair with a bounded buffer: a writer waits for its reader, each direction ends alone, an
abort is seen as an error on the other side.
"""

from __future__ import annotations

import asyncio
from collections import deque

from towline.aio.streams import CHUNK_BYTES, Broken, ClosedHere, EndedThere, StreamError

PIPE_BYTES = 64 * 1024
"""Room per direction unless told otherwise, as a small socket buffer has."""


class _Pipe:
    """One direction."""

    def __init__(self, room_bytes: int) -> None:
        self.chunks: deque[bytes] = deque()
        self.held_bytes = 0
        self.room_bytes = room_bytes
        self.ended = False
        self.error: StreamError | None = None
        self._changed: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    def fail(self, error: StreamError) -> None:
        if self.error is None:
            self.error = error
        self.notify()


class MemoryStream:
    """One end of a pair; see `memory_pair`."""

    def __init__(self, name: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._name = name
        self._in = incoming
        self._out = outgoing
        self._closed: str | None = None

    def __repr__(self) -> str:
        state = f"closed: {self._closed}" if self._closed is not None else "open"
        return f"<MemoryStream {self._name} {state} unread={self._in.held_bytes} ended={self._in.ended}>"

    async def read(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        while True:
            self._raise_if_closed()
            if self._in.chunks:
                return self._take(max_bytes)
            if self._in.error is not None:
                raise type(self._in.error)(self._in.error.reason)
            if self._in.ended:
                return b""
            await self._in.wait()

    async def write(self, data: bytes) -> None:
        self._raise_if_unwritable()
        if data:
            self._out.chunks.append(bytes(data))
            self._out.held_bytes += len(data)
            self._out.notify()
        while self._out.held_bytes >= self._out.room_bytes:
            await self._out.wait()
            self._raise_if_closed()
            if self._out.error is not None:
                raise type(self._out.error)(self._out.error.reason)

    async def write_eof(self) -> None:
        self._raise_if_closed()
        self._out.ended = True
        self._out.notify()

    async def aclose(self) -> None:
        if self._closed is not None:
            return
        self._closed = "closed"
        self._out.ended = True
        self._out.notify()
        self._in.fail(EndedThere("closed"))

    def abort(self, reason: str = "") -> None:
        if self._closed is not None:
            return
        self._closed = reason or "aborted"
        self._out.chunks.clear()
        self._out.held_bytes = 0
        self._out.fail(EndedThere(reason or "reset"))
        self._in.fail(EndedThere(reason or "reset"))

    def break_both(self, reason: str = "connection lost") -> None:
        """Lose the connection underneath, as a cut cable does: both ends get `Broken`."""
        for pipe in (self._in, self._out):
            pipe.fail(Broken(reason))

    def _take(self, max_bytes: int) -> bytes:
        chunk = self._in.chunks.popleft()
        if len(chunk) > max_bytes:
            self._in.chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._in.held_bytes -= len(chunk)
        self._in.notify()
        return chunk

    def _raise_if_closed(self) -> None:
        if self._closed is not None:
            raise ClosedHere(self._closed)

    def _raise_if_unwritable(self) -> None:
        self._raise_if_closed()
        if self._out.ended:
            raise ClosedHere("this direction was finished before")
        if self._out.error is not None:
            raise type(self._out.error)(self._out.error.reason)


def memory_pair(room_bytes: int = PIPE_BYTES) -> tuple[MemoryStream, MemoryStream]:
    """Make two connected byte streams."""
    one, two = _Pipe(room_bytes), _Pipe(room_bytes)
    return MemoryStream("a", one, two), MemoryStream("b", two, one)

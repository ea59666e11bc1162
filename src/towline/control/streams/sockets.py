"""A browser's or program's WebSocket as a byte stream, and the copy between it and a tunnel's stream.

Binary messages are bytes; the text message `{"eof":true}` ends one direction and leaves the other open.
"""

from __future__ import annotations

import asyncio

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from towline.aio.streams import CHUNK_BYTES, ByteStream, EndedThere, first_stream_error

EOF = '{"eof":true}'
CLOSE_OK = 1000
CLOSE_BAD = 4400
CLOSE_REFUSED = 4502
"""The agent refused the target, or could not reach it; the reason says why."""
CLOSE_GONE = 4503
"""The stream or its tunnel broke."""
REASON_BYTES = 120
"""A close reason holds 123 bytes. Source: RFC 6455, section 5.5."""


class SocketStream:
    """Reads and writes a WebSocket; it is accepted already."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.received_bytes = 0
        self.sent_bytes = 0

    async def read(self) -> bytes:
        """Return the next bytes, or b"" when the other side finished its direction. Raises: EndedThere."""
        while True:
            message = await self.receive()
            data = message.get("bytes")
            if isinstance(data, bytes) and data:
                self.received_bytes += len(data)
                return data
            if message.get("text") == EOF:
                return b""

    async def receive(self) -> dict[str, object]:
        """Return the next message as ASGI has it. Raises: EndedThere: the other side closed."""
        try:
            message = await self._websocket.receive()
        except WebSocketDisconnect as error:
            raise EndedThere("the client closed the connection") from error
        if message["type"] == "websocket.disconnect":
            raise EndedThere("the client closed the connection")
        return dict(message)

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other side does not read. Raises: EndedThere."""
        self.sent_bytes += len(data)
        try:
            await self._websocket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise EndedThere("the client closed the connection") from error

    async def write_eof(self) -> None:
        """Say that nothing more comes. Raises: EndedThere."""
        try:
            await self._websocket.send_text(EOF)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise EndedThere("the client closed the connection") from error

    async def until_closed(self) -> None:
        """Wait until the other side closes. Raises: EndedThere, always."""
        while True:
            await self.receive()


async def carry(socket: SocketStream, stream: ByteStream) -> None:
    """Copy both ways until both directions have ended, or one end is gone. Raises: StreamError."""
    finished = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            up = group.create_task(_up(socket, stream, finished), name="carry/up")
            group.create_task(_down(socket, stream, finished, up), name="carry/down")
    except BaseExceptionGroup as error:
        cause = first_stream_error(error)
        if cause is None:
            raise
        raise cause from error


async def _up(socket: SocketStream, stream: ByteStream, finished: asyncio.Event) -> None:
    while data := await socket.read():
        await stream.write(data)
    await stream.write_eof()
    finished.set()
    await socket.until_closed()


async def _down(socket: SocketStream, stream: ByteStream, finished: asyncio.Event, up: asyncio.Task[None]) -> None:
    while data := await stream.read(CHUNK_BYTES):
        await socket.write(data)
    await socket.write_eof()
    await finished.wait()
    up.cancel()


async def close(websocket: WebSocket, code: int, reason: str = "") -> None:
    """Close a WebSocket that may be closed already."""
    if websocket.application_state is WebSocketState.CONNECTED and websocket.client_state is WebSocketState.CONNECTED:
        text = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        try:
            await websocket.close(code, text)
        except (RuntimeError, WebSocketDisconnect):
            return

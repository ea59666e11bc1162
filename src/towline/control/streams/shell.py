"""A terminal between a WebSocket and an exec stream: one frame in each message, only of the kinds that belong there."""

from __future__ import annotations

import asyncio

from towline.aio.streams import EndedThere, first_stream_error
from towline.control.recordings import terminals
from towline.control.streams.opening import Opened
from towline.control.streams.sockets import SocketStream
from towline.wire.streams import (
    CLOSE_STDIN,
    EXIT,
    FRAME_HEAD_BYTES,
    MAX_FRAME_BYTES,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    BadFrame,
    Frame,
    FrameReader,
    encode_frame,
)

FROM_CLIENT = frozenset({STDIN, RESIZE, CLOSE_STDIN})
FROM_AGENT = frozenset({STDOUT, STDERR, EXIT})


async def talk(socket: SocketStream, opened: Opened) -> None:
    """Carry frames both ways until the command has ended. Raises: StreamError, BadFrame."""
    recorder = opened.recorder
    if recorder is not None:
        recorder.begin(opened.stream.abort)
        await socket.write(encode_frame(STDERR, recorder.note))
    try:
        async with asyncio.TaskGroup() as group:
            keys = group.create_task(_keys(socket, opened), name="shell/keys")
            group.create_task(_screen(socket, opened, keys), name="shell/screen")
    except BaseExceptionGroup as error:
        bad = error.subgroup(BadFrame)
        cause = bad.exceptions[0] if bad is not None else first_stream_error(error)
        if cause is None:
            raise
        raise cause from error


def client_frame(message: object) -> bytes:
    """Return a client's message when it is exactly one frame of a kind that clients send. Raises: BadFrame."""
    if not isinstance(message, bytes) or not FRAME_HEAD_BYTES <= len(message) <= FRAME_HEAD_BYTES + MAX_FRAME_BYTES:
        raise BadFrame("each message must be one binary frame")
    reader = FrameReader()
    frames = list(reader.feed(message))
    if len(frames) != 1 or frames[0].kind not in FROM_CLIENT:
        raise BadFrame("each message must be exactly one frame of standard input, size or end of input")
    if encode_frame(frames[0].kind, frames[0].body, frames[0].source) != message:
        raise BadFrame("the message holds more than one frame")
    return message


async def _keys(socket: SocketStream, opened: Opened) -> None:
    while True:
        message = (await socket.receive()).get("bytes")
        data = client_frame(message)
        opened.up_bytes += len(data)
        await opened.stream.write(data)
        if opened.recorder is not None:
            terminals.typed(opened.recorder, data[0], data[FRAME_HEAD_BYTES:])


async def _screen(socket: SocketStream, opened: Opened, keys: asyncio.Task[None]) -> None:
    reader = FrameReader()
    while data := await opened.stream.read():
        for frame in reader.feed(data):
            opened.down_bytes += len(frame.body)
            is_last = await _shown(socket, frame)
            if opened.recorder is not None:
                terminals.shown(opened.recorder, frame)
            if is_last:
                opened.detail["exit"] = frame.body.decode(errors="replace")[:200]
                keys.cancel()
                return
    raise EndedThere("the command's stream ended without an exit code")


async def _shown(socket: SocketStream, frame: Frame) -> bool:
    """Pass a frame on; tells whether it was the last one."""
    if frame.kind in FROM_AGENT:
        await socket.write(encode_frame(frame.kind, frame.body, frame.source))
    return frame.kind == EXIT

"""A terminal in a pod: our frames towards the browser, and numbered channels (`v5.channel.k8s.io`) towards the cluster.

WebSocket frames are those of the library `websockets`, without its input and output: the bytes travel in a stream of
the tunnel. Each message of a channel is one byte with its number, and data. Source: kubernetes.md 2.3.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol, State
from websockets.utils import accept_key

from towline.aio.streams import EndedThere, first_stream_error
from towline.control.access.actor import Access
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.kinds import PODS
from towline.control.kubernetes.talking import Answered, Question, Talker
from towline.control.streams.shell import client_frame
from towline.control.streams.sockets import SocketStream
from towline.wire.streams import (
    CLOSE_STDIN,
    EXIT,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    BadFrame,
    FrameReader,
    encode_frame,
)

PROTOCOL = "v5.channel.k8s.io"
KEYS, SCREEN, ERRORS, STATUS, SIZE, END = 0, 1, 2, 3, 4, 255
MOST_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one message of the API server; it sends 32 KiB at most today."""
BEST_SHELL = ("sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
"""What a terminal runs when nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Which command somebody wants to run, and where."""

    namespace: str
    pod: str
    container: str
    argv: Sequence[str] = BEST_SHELL
    tty: bool = True
    columns: int = 80
    rows: int = 24

    def target(self) -> str:
        query = [("container", self.container), ("stdin", "true"), ("stdout", "true")]
        query.append(("tty", "true") if self.tty else ("stderr", "true"))
        query += [("command", word) for word in self.argv]
        return f"{PODS.path(self.namespace, self.pod, 'exec')}?{urlencode(query)}"


@asynccontextmanager
async def opened(talker: Talker, access: Access, cluster: str, shell: Shell) -> AsyncIterator[Channels]:
    """Begin the command. Raises: ApiError, ClusterSaid: it was refused; StreamError."""
    key = base64.b64encode(os.urandom(16)).decode("ascii")
    fields = (
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Protocol", PROTOCOL),
    )  # fmt: skip
    question = Question(shell.target(), accept="*/*", fields=fields)
    async with talker.asked(access, cluster, question) as answer:
        _check(answer, key)
        yield Channels(answer)


def _check(answer: Answered, key: str) -> None:
    head = answer.head
    proof, protocol = head.get(b"sec-websocket-accept"), head.get(b"sec-websocket-protocol")
    if head.status != 101 or proof != accept_key(key).encode("ascii"):
        raise ApiError(ErrorCode.AGENT_REFUSED, "the API server did not open a shell")
    if protocol != PROTOCOL.encode("ascii"):
        raise ApiError(ErrorCode.AGENT_UNSUPPORTED, "the API server is older than 1.30, and speaks no v5 channels")


class Channels:
    """The numbered channels of one command that runs."""

    def __init__(self, answer: Answered) -> None:
        self._answer = answer
        self._stream = answer.stream
        self._tap = answer.tap
        self.note = answer.note
        self._protocol = Protocol(CLIENT, state=State.OPEN, max_size=MOST_MESSAGE_BYTES)
        self._parts: list[bytes] = []

    async def send(self, channel: int, data: bytes) -> None:
        """Send to a channel. Raises: StreamError."""
        try:
            self._protocol.send_binary(bytes([channel]) + data)
        except InvalidState as error:
            raise EndedThere("the API server closed the shell") from error
        await self._flush()

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield what comes, until the other end closes. Raises: StreamError."""
        data = self._answer.take_held()
        while True:
            if data:
                if self._tap is not None:
                    self._tap.down(data)
                self._answer.received_bytes += len(data)
                self._protocol.receive_data(data)
                for message in self._received():
                    yield message[0], message[1:]
                await self._flush()
            if self._protocol.state is not State.OPEN:
                return
            data = await self._stream.read()
            if not data:
                return

    def _received(self) -> Iterator[bytes]:
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                continue
            self._parts.append(bytes(event.data))
            if event.fin:
                message = b"".join(self._parts)
                self._parts.clear()
                if message:
                    yield message

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._stream.write(data)
                if self._tap is not None:
                    self._tap.up(data)


async def talk(socket: SocketStream, channels: Channels, shell: Shell) -> None:
    """Carry both ways until the command has ended. Raises: StreamError, BadFrame, ApiError."""
    if channels.note:
        await socket.write(encode_frame(STDERR, channels.note))
    if shell.tty:
        await channels.send(SIZE, _size(shell.columns, shell.rows))
    try:
        async with asyncio.TaskGroup() as group:
            keys = group.create_task(_keys(socket, channels), name="pod-shell/keys")
            group.create_task(_screen(socket, channels, keys), name="pod-shell/screen")
    except BaseExceptionGroup as error:
        raise _cause(error) from error


def _cause(error: BaseExceptionGroup[BaseException]) -> BaseException:
    known = error.subgroup((BadFrame, ApiError))
    while isinstance(known, BaseExceptionGroup):
        found = known.exceptions[0]
        if not isinstance(found, BaseExceptionGroup):
            return found
        known = found
    return first_stream_error(error) or error


async def _keys(socket: SocketStream, channels: Channels) -> None:
    while True:
        data = client_frame((await socket.receive()).get("bytes"))
        for frame in FrameReader().feed(data):
            if frame.kind == STDIN:
                await channels.send(KEYS, bytes(frame.body))
            elif frame.kind == RESIZE:
                await channels.send(SIZE, _resized(bytes(frame.body)))
            elif frame.kind == CLOSE_STDIN:
                await channels.send(END, bytes([KEYS]))


async def _screen(socket: SocketStream, channels: Channels, keys: asyncio.Task[None]) -> None:
    async for channel, data in channels.messages():
        if channel in (SCREEN, ERRORS) and data:
            await socket.write(encode_frame(STDOUT if channel == SCREEN else STDERR, data))
        elif channel == STATUS and data:
            await socket.write(encode_frame(EXIT, json.dumps(ending(data)).encode()))
            keys.cancel()
            return
    raise EndedThere("the session ended without an exit code; the command may still run")


def ending(data: bytes) -> dict[str, Any]:
    """Return how a command ended, from the Status that the API server sends last."""
    try:
        status = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"code": -1, "error": "the API server told no exit code"}
    if status.get("status") == "Success":
        return {"code": 0, "error": ""}
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).isdigit():
            return {"code": int(cause["message"]), "error": ""}
    return {"code": -1, "error": str(status.get("message") or "the command could not be run")[:1000]}


def _resized(body: bytes) -> bytes:
    try:
        size = msgspec.json.decode(body, type=dict[str, int])
        return _size(size["columns"], size["rows"])
    except (msgspec.DecodeError, KeyError) as error:
        raise BadFrame("a size is {columns, rows}") from error


def _size(columns: int, rows: int) -> bytes:
    return json.dumps({"Width": columns, "Height": rows}).encode() + b"\n"

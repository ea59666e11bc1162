"""Proxied WebSockets: to the API server for exec, attach and port-forward, and to applications.

Frames keep their order, an end at the target is told, and one that nobody reads ends alone. Source: pipeops.md 2.5.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections import deque
from collections.abc import Awaitable, Iterable

import structlog
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from towline.agent.protocols.pipeops.speaking import Voice
from towline.agent.protocols.pipeops.upstream import (
    Asked,
    Failed,
    Far,
    Reply,
    Upstream,
    head_of,
    is_api_path,
    read_reply,
)
from towline.aio.streams import ByteStream, StreamError
from towline.aio.tasks import TaskOwner
from towline.wire import pipeops_frames as frames
from towline.wire import pipeops_messages as messages
from towline.wire.pipeops_messages import ProxyRequest, ProxyWebsocketStart

OPEN_TIMEOUT = 20.0
"""Seconds until a target has upgraded: a kubelet that starts a shell may take some."""

MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Frames for a target that does not take them; then its socket ends."""
MAX_SOCKETS = 512

DEFAULT_CHANNELS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_CHANNELLED = (*DEFAULT_CHANNELS, "v5.channel.k8s.io")
_STREAMING = ("exec", "attach", "portforward")
_LAST_OUTPUT_CHANNEL = 3
_DROPPED = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-accept",
     "sec-websocket-protocol"}
)  # fmt: skip

_log = structlog.get_logger("towline.agent.pipeops")


def wants_socket(request: ProxyRequest, asked: Asked) -> bool:
    """Whether a request asks for an upgrade."""
    return request.is_websocket or bool(request.protocol) or asked.value("upgrade").lower() == "websocket"


class Socket:
    """One that is open. `in_channels`: frames of the API server are told as the original agent tells them."""

    def __init__(self, stream_id: str, far: ByteStream, *, is_kubernetes: bool, in_channels: bool) -> None:
        self.stream_id = stream_id
        self.far = far
        self.is_kubernetes = is_kubernetes
        self.in_channels = in_channels
        self.protocol = ClientProtocol(parse_uri("ws://target/"), state=State.OPEN, max_size=MAX_FRAME_BYTES)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._parts: list[bytes] = []
        self._kind = Opcode.BINARY
        self.ending = ""

    def __repr__(self) -> str:
        return f"<Socket {self.stream_id[:60]} {self._waiting_bytes} waiting>"

    def feed(self, kind: int, payload: bytes) -> bool:
        """Take a frame for the target. Returns: False when there is no room for it."""
        self._waiting_bytes += len(payload) + 64
        if self._waiting_bytes > MAX_WAITING_BYTES:
            return False
        self._waiting.append((kind, payload))
        self._news.set()
        return True

    async def send_waiting(self) -> None:
        """Send what is for the target, for ever. Raises: StreamError."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                kind, payload = self._waiting.popleft()
                self._waiting_bytes -= len(payload) + 64
                self._write(kind, payload)
                await self.flush()

    def _write(self, kind: int, payload: bytes) -> None:
        if self.in_channels and kind == frames.TEXT:
            kind, payload = frames.BINARY, b"\x00" + payload  # standard input
        match kind:
            case frames.TEXT:
                self.protocol.send_text(payload)
            case frames.CLOSE:
                self.protocol.send_close(1000)
            case frames.PING:
                self.protocol.send_ping(payload[:125])
            case frames.PONG:
                self.protocol.send_pong(payload[:125])
            case _:
                self.protocol.send_binary(payload)

    async def flush(self) -> None:
        """Raises: StreamError."""
        for data in self.protocol.data_to_send():
            if data:
                await self.far.write(data)

    def taken(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes of the target; returns the whole messages in them."""
        self.protocol.receive_data(data)
        found = []
        for event in self.protocol.events_received():
            if isinstance(event, Frame) and (message := self._gathered(event)) is not None:
                found.append(message)
        return found

    def _gathered(self, frame: Frame) -> tuple[int, bytes] | None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kind, self._parts = frame.opcode, []
        elif frame.opcode is not Opcode.CONT:
            return None
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        payload = b"".join(self._parts)
        self._parts = []
        if self.in_channels and self._kind is Opcode.BINARY and payload and payload[0] <= _LAST_OUTPUT_CHANNEL:
            return frames.TEXT, payload[1:]
        return int(self._kind), payload


class Sockets:
    """The proxied WebSockets of one connection."""

    def __init__(self, voice: Voice, upstream: Upstream, owner: TaskOwner) -> None:
        self._voice = voice
        self._upstream = upstream
        self._owner = owner
        self._open: dict[str, Socket] = {}
        self._early: dict[str, list[tuple[int, bytes]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Sockets {len(self._open)} open>"

    @property
    def count(self) -> int:
        return len(self._open)

    # -- what arrives ------------------------------------------------------------------------------

    async def start(self, message: ProxyWebsocketStart, request_id: str) -> None:
        """Open one to the API server, in a task of its own. Raises: TunnelClosed."""
        stream_id = message.stream_id or request_id
        if not stream_id or stream_id in self._tasks or stream_id in self._open:
            await self._refuse(stream_id, "the stream has no id, or one that is in use", request_id)
        elif len(self._tasks) >= MAX_SOCKETS:
            await self._refuse(stream_id, f"{MAX_SOCKETS} WebSockets are open", request_id)
        elif not is_api_path(message.path):
            await self._refuse(stream_id, "the path is none of the API server's", request_id)
        else:
            self._early[stream_id] = []
            task = self._owner.spawn(f"socket {stream_id[:60]}", self._serve_kubernetes(message, stream_id))
            self._tasks[stream_id] = task
            task.add_done_callback(lambda _: self._forget(stream_id))

    async def data(self, stream_id: str, message: messages.WebsocketData) -> None:
        """Take a frame for a target; one for no stream is dropped. Raises: TunnelClosed."""
        kind, payload = frames.split_websocket(message.data, message.message_type)
        socket, early = self._open.get(stream_id), self._early.get(stream_id)
        has_room = True
        if socket is not None:
            has_room = socket.feed(kind, payload)
        elif early is not None:
            early.append((kind, payload))
            has_room = sum(len(each) + 64 for _, each in early) <= MAX_WAITING_BYTES
        if not has_room:
            await self._voice.say(messages.Backpressure(reason="channel_full", request_id=stream_id), stream_id)
            self.close(stream_id)

    def close(self, stream_id: str) -> None:
        """The other side ends a stream."""
        if (socket := self._open.get(stream_id)) is not None and socket.protocol.state is State.OPEN:
            socket.feed(frames.CLOSE, b"")
            # A target that answers no close is left alone: its end is told by the task either way.
            asyncio.get_running_loop().call_later(1.0, socket.far.abort, "closed by the control plane")
        elif (task := self._tasks.get(stream_id)) is not None:
            task.cancel()

    # -- opening -----------------------------------------------------------------------------------

    async def _serve_kubernetes(self, message: ProxyWebsocketStart, stream_id: str) -> None:
        headers = {
            name: (values,) if isinstance(values, str) else tuple(values) for name, values in message.headers.items()
        }
        asked = Asked(method="GET", path=message.path, query=message.query.removeprefix("?"), headers=headers)
        try:
            far, reply = await self._upgraded(asked, _protocols(message.protocol, asked))
            chosen = (reply.head.get(b"sec-websocket-protocol") or b"").decode("latin-1")
            await self._serve(stream_id, far, reply, is_kubernetes=True, in_channels=chosen in _CHANNELLED)
        except Failed as error:
            await self._refuse(stream_id, str(error), stream_id)
            await self._voice.say(messages.WebsocketClose(stream_id=stream_id), stream_id)
        except StreamError as error:
            _log.debug("socket ended", stream=stream_id[:60], reason=error.reason)

    async def open_by_request(self, request: ProxyRequest, asked: Asked, request_id: str) -> None:
        """Open one that a `proxy_request` asks for, and serve it to its end. Raises: Failed, TunnelClosed."""
        self._early[request_id] = []
        try:
            far, reply = await self._upgraded(asked, _protocols(request.protocol, asked))
            header = messages.ProxyResponseHeader(headers=reply.headers or None, status=101)
            if request.supports_response_streaming:
                await self._voice.say(header, request_id)
                await self._voice.say(messages.ProxyResponseEnd(), request_id)
            else:
                await self._voice.say(messages.ProxyResponse(headers=reply.headers or None, status=101), request_id)
            await self._serve(request_id, far, reply, is_kubernetes=False, in_channels=False)
        finally:
            self._forget(request_id)

    async def _upgraded(self, asked: Asked, protocols: tuple[str, ...]) -> tuple[Far, Reply]:
        """Raises: Failed: not reached, or not upgraded."""
        asked = self._proven(asked)
        far = await self._upstream.reach(asked)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await far.stream.write(head_of(asked, far, _upgrade_lines(protocols)))
                reply = await read_reply(asked, far)
        except (TimeoutError, StreamError) as error:
            far.stream.abort("not upgraded")
            raise Failed(f"the target did not upgrade: {str(error) or 'no answer in time'}") from error
        except BaseException:
            far.stream.abort("not upgraded")
            raise
        if reply.status != 101:
            far.stream.abort("not upgraded")
            raise Failed(f"the target answered {reply.status} instead of upgrading")
        return far, reply

    def _proven(self, asked: Asked) -> Asked:
        """Give a stream to the API server the agent's own token when it has none, where that token was given away."""
        kept = {name: values for name, values in asked.headers.items() if name.lower() not in _DROPPED}
        own = self._upstream.own_authorization() if is_api_path(asked.path) and not asked.names_service else ""
        if own and not asked.value("authorization"):
            kept["Authorization"] = (own,)
        return Asked(asked.method, asked.path, asked.query, asked.service, asked.namespace, asked.port,
                     asked.is_encrypted, kept)  # fmt: skip

    # -- at work -----------------------------------------------------------------------------------

    async def _serve(self, stream_id: str, far: Far, reply: Reply, *, is_kubernetes: bool, in_channels: bool) -> None:
        """Carry frames both ways until one side ends. Raises: TunnelClosed."""
        socket = Socket(stream_id, far.stream, is_kubernetes=is_kubernetes, in_channels=in_channels)
        for kind, payload in self._early.pop(stream_id, ()):
            socket.feed(kind, payload)
        self._open[stream_id] = socket
        try:
            async with TaskOwner(f"socket {stream_id[:60]}") as owner:
                owner.spawn("to the target", _quietly(socket.send_waiting()))
                await self._read(socket, reply.taken())
        finally:
            self._open.pop(stream_id, None)
            far.stream.abort("over")
        await self._voice.say(messages.WebsocketClose(stream_id=stream_id), stream_id)

    async def _read(self, socket: Socket, data: bytes) -> None:
        """Tell what the target says, to its end. Raises: TunnelClosed."""
        try:
            while True:
                for kind, payload in socket.taken(data) if data else ():
                    await self._tell(socket, kind, payload)
                if not await _has_flushed(socket) or socket.protocol.state is not State.OPEN:
                    return
                data = await _read_or_end(socket.far)
                if not data:
                    return
        except ProtocolError as error:
            _log.info("the target broke the WebSocket", stream=socket.stream_id[:60], reason=str(error))

    async def _tell(self, socket: Socket, kind: int, payload: bytes) -> None:
        data = frames.websocket_data(kind, payload)
        if socket.is_kubernetes:
            message = messages.WebsocketData(stream_id=socket.stream_id, data=data)
        else:
            message = messages.WebsocketData(
                stream_id=socket.stream_id, request_id=socket.stream_id, message_type=kind, data=data
            )
        await self._voice.say(message, socket.stream_id)

    async def _refuse(self, stream_id: str, reason: str, request_id: str) -> None:
        await self._voice.say(messages.ProxyError(error=reason, request_id=stream_id), request_id or stream_id)

    def _forget(self, stream_id: str) -> None:
        self._tasks.pop(stream_id, None)
        self._early.pop(stream_id, None)


def _protocols(named: str, asked: Asked) -> tuple[str, ...]:
    """Return the subprotocols to offer: those that are named, else those of the API server's streams."""
    found = [*named.split(","), *asked.value("sec-websocket-protocol").split(",")]
    offered = tuple(dict.fromkeys(filter(None, (each.strip() for each in found))))
    if not offered and any(part in _STREAMING for part in asked.path.split("/")) and not asked.names_service:
        return DEFAULT_CHANNELS
    return offered


def _upgrade_lines(protocols: Iterable[str]) -> list[tuple[bytes, bytes]]:
    lines = [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", base64.b64encode(os.urandom(16))),
    ]
    offered = ", ".join(protocols).encode("latin-1", "replace")
    return [*lines, (b"Sec-WebSocket-Protocol", offered)] if offered else lines


async def _has_flushed(socket: Socket) -> bool:
    """Send what the protocol itself answers, a close say. Returns: False when the target is gone already."""
    try:
        await socket.flush()
    except StreamError:
        return False
    return True


async def _read_or_end(stream: ByteStream) -> bytes:
    try:
        return await stream.read()
    except StreamError:
        return b""


async def _quietly(sending: Awaitable[None]) -> None:
    try:
        await sending
    except StreamError as error:
        _log.debug("the target takes no more", reason=error.reason)

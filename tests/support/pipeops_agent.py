"""A PipeOps agent that a test plays by hand: a WebSocket client as bare as the real one's, and its messages.

It does what a test says and nothing by itself, except that it answers the server's pings. Frames are cut as the real
agent's library cuts them, every 4096 bytes, unless told otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from towline.wire.pipeops import WEBSOCKET_PATH
from towline.wire.yamux import Yamux
from towline.wire.yamux_model import Data, Ended, Opened, Stream

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FRAGMENT_BYTES = 4096
PATIENCE = 5.0


class Refused(Exception):
    """The upgrade was answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Gone(Exception):
    """The server closed the connection."""


@dataclass
class PlayedAgent:
    """One connection. `head` is the server's answer to the upgrade."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes
    closed_with: int = 0
    pongs: list[bytes] = field(default_factory=list)
    drops_binary: bool = False
    """Yamux is answered by somebody else, such as a recording."""
    yamux: Yamux | None = None
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    yamux_in: dict[int, bytearray] = field(default_factory=dict)
    yamux_ended: set[int] = field(default_factory=set)
    yamux_streams: dict[int, Stream] = field(default_factory=dict)

    # -- frames --------------------------------------------------------------------------------

    async def send_frame(self, kind: int, payload: bytes, *, fin: bool = True) -> None:
        mask = os.urandom(4)
        size = len(payload)
        first = bytes((kind | (0x80 if fin else 0),))
        if size < 126:
            head = first + bytes((0x80 | size,))
        elif size < 65536:
            head = first + bytes((0x80 | 126,)) + size.to_bytes(2, "big")
        else:
            head = first + bytes((0x80 | 127,)) + size.to_bytes(8, "big")
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")).to_bytes(
            size, "big"
        )
        self.writer.write(head + mask + masked)
        await self.writer.drain()

    async def send(self, kind: int, payload: bytes, *, fragment: int = FRAGMENT_BYTES) -> None:
        """Send a message, in fragments as the real agent's library makes them."""
        async with self.sending:
            await self._send_pieces(kind, payload, fragment)

    async def _send_pieces(self, kind: int, payload: bytes, fragment: int) -> None:
        pieces = [payload[at : at + fragment] for at in range(0, len(payload), fragment)] or [b""]
        for number, piece in enumerate(pieces):
            await self.send_frame(kind if number == 0 else 0, piece, fin=number == len(pieces) - 1)

    async def say(self, name: str, payload: Any = None, **envelope: Any) -> None:
        """Send a message of the protocol."""
        message = {"type": name, **envelope, "payload": {} if payload is None else payload}
        await self.send(TEXT, json.dumps(message).encode() + b"\n")

    async def next_frame(self) -> tuple[int, bytes]:
        """The next frame of the server that is no ping or pong. Raises: Gone: it closed."""
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 127
                if size > 125:
                    size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
                payload = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
                raise Gone from error
            kind = first & 15
            if kind == PING:
                await self.send_frame(PONG, payload)
            elif kind == PONG:
                self.pongs.append(payload)
                return kind, payload
            elif kind == CLOSE:
                self.closed_with = int.from_bytes(payload[:2], "big")
                raise Gone
            else:
                return kind, payload

    async def next(self, *names: str) -> dict[str, Any]:
        """The next text message, of these types when some are named; binary ones go to yamux."""
        async with asyncio.timeout(PATIENCE):
            while True:
                kind, payload = await self.next_frame()
                if kind == BINARY:
                    assert payload, "an empty binary message"
                    if not self.drops_binary:
                        await self.yamux_arrived(payload)
                elif kind == TEXT:
                    message: dict[str, Any] = json.loads(payload)
                    if not names or message["type"] in names:
                        return message

    async def until_closed(self) -> int:
        """Wait for the server's end; returns the close code, 0 when there was none."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.next_frame()
                except Gone:
                    return self.closed_with

    # -- yamux ---------------------------------------------------------------------------------

    async def speak_yamux(self) -> None:
        """Answer the offer that has come; what another session carried before is forgotten."""
        self.yamux_in, self.yamux_ended, self.yamux_streams = {}, set(), {}
        self.yamux = Yamux(is_client=True)
        await self.say("gateway_hello_ack", {"use_yamux": True})

    async def yamux_arrived(self, data: bytes) -> None:
        assert self.yamux is not None, "binary bytes before yamux was agreed"
        for event in self.yamux.receive(data):
            match event:
                case Opened(stream=stream):
                    self.yamux_streams[stream.id] = stream
                    self.yamux_in[stream.id] = bytearray()
                case Data(stream=stream, payload=payload):
                    self.yamux_in[stream.id] += payload
                    self.yamux.consume(stream, len(payload))
                case Ended(stream=stream):
                    self.yamux_ended.add(stream.id)
        await self.flush_yamux()

    async def flush_yamux(self) -> None:
        """Send what yamux has to say, each frame's head and body as messages of their own, as the real agent does."""
        async with self.flushing:
            await self._flush_yamux()

    async def _flush_yamux(self) -> None:
        assert self.yamux is not None
        while self.yamux.has_output:
            out = bytearray()
            self.yamux.take(out, 1)
            at = 0
            while at < len(out):
                size = int.from_bytes(out[at + 8 : at + 12], "big") if out[at + 1] == 0 else 0
                await self.send(BINARY, bytes(out[at : at + 12]))
                if size:
                    await self.send(BINARY, bytes(out[at + 12 : at + 12 + size]))
                at += 12 + size

    async def stream(self, stream_id: int, size: int) -> bytes:
        """Wait until a stream has brought so many bytes; returns them."""
        async with asyncio.timeout(PATIENCE):
            while len(self.yamux_in.get(stream_id, b"")) < size:
                kind, payload = await self.next_frame()
                if kind == BINARY:
                    await self.yamux_arrived(payload)
        return bytes(self.yamux_in[stream_id])

    async def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        assert self.yamux is not None
        stream = self.yamux_streams[stream_id]
        self.yamux.write(stream, data)
        if end:
            self.yamux.finish(stream)
        await self.flush_yamux()

    async def close(self) -> None:
        self.writer.close()


async def upgrade(
    port: int,
    token: str,
    context: ssl.SSLContext | None,
    *,
    path: str = WEBSOCKET_PATH,
    source: str | None = None,
    patience: float = PATIENCE,
    **headers: str,
) -> PlayedAgent:
    """Connect as the real agent does. Args: source: the address to dial from. Raises: Refused."""
    own = None if source is None else (source, 0)
    reader, writer = await asyncio.open_connection(
        "localhost" if own is None else "127.0.0.1", port, ssl=context, local_addr=own
    )
    lines = {
        "Host": f"localhost:{port}",
        "User-Agent": "Go-http-client/1.1",
        **({"Authorization": f"Bearer {token}"} if token else {}),
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    writer.write(request.encode())
    try:
        async with asyncio.timeout(patience):
            head = await reader.readuntil(b"\r\n\r\n")
    except BaseException:
        writer.close()
        raise
    status = int(head.split(b" ")[1])
    if status != 101:
        writer.close()
        raise Refused(status)
    return PlayedAgent(reader, writer, head)


@asynccontextmanager
async def agent(port: int, token: str, context: ssl.SSLContext, **more: str) -> AsyncIterator[PlayedAgent]:
    """A connection for a block."""
    played = await upgrade(port, token, context, **more)
    try:
        yield played
    finally:
        await played.close()


REGISTER: dict[str, Any] = {
    "agent_id": "agent-1",
    "name": "shop",
    "k8s_version": "v1.36.3",
    "hostname": "node-1",
    "agent_version": "1.0.0-dev",
    "server_ip": "192.0.2.4",
    "region": "eu",
    "cloud_provider": "bare-metal",
    "tunnel_port_config": {"kubernetes_api": 6443, "kubelet": 10250, "agent_http": 8080},
    "labels": {"hostname": "node-1"},
    "server_specs": {"cpu_cores": 2, "memory_gb": 23, "disk_gb": 251, "os": "linux"},
    "features": {"supports_streaming": True},
    "metadata": {"agent_mode": "vm-agent"},
    "k8s_service_token": "sa-token-of-the-agent",
}


def heartbeat(agent_id: str, cluster_id: str, **metadata: Any) -> dict[str, Any]:
    """The payload of a heartbeat."""
    known = {
        "agent_version": "1.0.0-dev", "cpu_usage": "0%", "gateway_routes": 0, "is_private": True, "k8s_nodes": 1,
        "k8s_pods": 3, "k8s_version": "v1.36.3", "memory_usage": "0%",
    }  # fmt: skip
    return {
        "agent_id": agent_id, "cluster_id": cluster_id, "metadata": {**known, **metadata}, "status": "healthy",
        "tunnel_status": "connected",
    }  # fmt: skip

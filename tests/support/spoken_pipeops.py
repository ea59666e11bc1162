"""A PipeOps WebSocket control plane of which the test says every word, and its end of raw streams."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from tests.support.older_planes import Plane, PlaneLine
from tests.unit.wire.yamux_pair import End

from towline.wire import pipeops_frames as frames

SECRET = "Bearer secret-of-the-agent"


class PipeOpsPlane(Plane):
    """Speaks the WebSocket; the test says every word."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def registered(self, **more: Any) -> PlaneLine:
        """The next connection, registered."""
        line = await self.connected()
        asked = await line.next()
        assert asked["type"] == "register"
        answer = {"cluster_id": "clu-1", **more}
        await line.send({"type": "register_success", "request_id": asked["request_id"], "payload": answer})
        return line


async def said(line: PlaneLine, kind: str, request_id: str = "") -> dict[str, Any]:
    """The next message of a kind; heartbeats and others are passed over."""
    while True:
        message = await line.next()
        if message["type"] == kind and (not request_id or message.get("request_id") == request_id):
            return message


async def whole(line: PlaneLine, request_id: str) -> tuple[int, bytes]:
    """Status and body of a streamed answer."""
    header = await said(line, "proxy_response_header", request_id)
    body = b""
    while True:
        message = await line.next()
        if message.get("request_id") != request_id:
            continue
        if message["type"] != "proxy_response_chunk":
            assert message["type"] == "proxy_response_end", message
            return header["payload"]["status"], body
        body += base64.b64decode(message["payload"]["data"])


def request(request_id: str, path: str, **more: Any) -> dict[str, Any]:
    payload = {"method": "GET", "path": path, "headers": {"Authorization": SECRET}, "supports_response_streaming": True}
    return {"type": "proxy_request", "request_id": request_id, "payload": payload | more}


class Raw:
    """The control plane's end of yamux on one connection."""

    def __init__(self, line: PlaneLine) -> None:
        self.line = line
        self.end = End(is_client=False, accepts=False)

    async def flush(self) -> None:
        self.end.flush()
        if self.end.wire:
            data, self.end.wire = bytes(self.end.wire), bytearray()
            await self.line.send(data)

    async def take(self) -> None:
        """Take what the agent sends next."""
        async with asyncio.timeout(20):
            message = await self.line.messages.get()
        if isinstance(message, bytes):
            self.end.feed(message)
            self.end.consume_all()
            await self.flush()

    async def ask(self, header: frames.StreamHeader, data: bytes) -> bytes:
        """Open a stream, send bytes and finish; returns what comes until the agent's end."""
        stream = self.end.yamux.open()
        self.end.yamux.write(stream, frames.encode_stream_header(header) + data)
        await self.flush()
        while stream.id not in self.end.ended and stream.id not in self.end.reset:
            await self.take()
        return bytes(self.end.got.get(stream.id, b""))


async def raw_of(line: PlaneLine) -> Raw:
    await line.send({"type": "gateway_hello", "payload": {"use_yamux": True}})
    assert (await said(line, "gateway_hello_ack"))["payload"] == {"use_yamux": True}
    return Raw(line)

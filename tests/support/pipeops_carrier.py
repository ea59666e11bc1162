"""A PipeOps agent that works: it proxies to a real API server and dials for yamux streams, as the real one does.

It is written from what is known of the real agent alone, and shares no code with Towline's own agent: what it carries,
an agent that nobody here built carries too. `speaks_yamux` false is one that does not know the offer; everything then
goes by `proxy_request` and `proxy_websocket_start`, with the losses that the real one has.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from typing import Any

import aiohttp
import httpx
from tests.support.pipeops_agent import BINARY, REGISTER, TEXT, Gone, PlayedAgent, heartbeat
from tests.testbed.kubernetes.cluster import Cluster

from towline.wire import pipeops_frames

CHUNK_BYTES = 32 * 1024
CUT_AFTER = 30.0
"""Seconds that the real agent lets any request to the API server last."""
QUEUE = 100
"""Frames for one WebSocket that wait; the real agent drops the next one in silence."""


class Carrier:
    """See the module. Args: services: (namespace, name, port) to a loopback port, for yamux streams."""

    def __init__(
        self,
        played: PlayedAgent,
        cluster: Cluster,
        token: str,
        *,
        speaks_yamux: bool = True,
        services: dict[tuple[str, str, int], int] | None = None,
    ) -> None:
        self.played = played
        self.cluster = cluster
        self.token = token
        self.speaks_yamux = speaks_yamux
        self.services = {("default", "kubernetes", 443): cluster.api_port, **(services or {})}
        self.cut_after = CUT_AFTER
        self.asked: list[str] = []
        """Paths of requests that were proxied as messages."""
        self.sockets: dict[str, asyncio.Queue[bytes | None]] = {}
        self.dropped = 0
        """Frames that found no room."""
        self.dialled: list[tuple[str, str, int]] = []
        self.cluster_id = ""
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._begun: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._trust = ssl.create_default_context(cafile=str(cluster.home / "authority.crt"))
        self._client = httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{cluster.api_port}", verify=self._trust, timeout=CUT_AFTER,
            limits=httpx.Limits(max_connections=None),
        )  # fmt: skip

    async def run(self) -> None:
        """Register and serve until the connection ends."""
        await self.played.say("register", {**REGISTER, "k8s_service_token": self.token}, request_id="req_1")
        try:
            while True:
                kind, payload = await self.played.next_frame()
                if kind == BINARY:
                    await self.played.yamux_arrived(payload)
                    self._look_at_streams()
                elif kind == TEXT:
                    await self._take(json.loads(payload))
        except Gone:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._close_all()
            await self._client.aclose()

    async def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "register_success":
                self.cluster_id = message["payload"]["cluster_id"]
                await self.played.say("heartbeat", heartbeat("agent-1", self.cluster_id))
            case "ping":
                await self.played.say("pong", {"timestamp": "2026-11-21T06:24:28Z"}, request_id=message["request_id"])
            case "gateway_hello" if self.speaks_yamux:
                await self._close_all()
                self._begun.clear()
                await self.played.speak_yamux()
            case "gateway_hello":
                await self.played.say("protocol_fallback", _fallback(message["type"]))
            case "proxy_request":
                self._spawn(self._proxy(message["request_id"], message["payload"]))
            case "proxy_websocket_start":
                stream_id = message["payload"]["stream_id"]
                self.sockets[stream_id] = asyncio.Queue()
                self._spawn(self._socket(stream_id, message["payload"]))
            case "proxy_websocket_data" | "proxy_websocket_close":
                self._into_socket(message["payload"])

    async def _proxy(self, request_id: str, asked: dict[str, Any]) -> None:
        self.asked.append(asked["path"])

        async def say(name: str, payload: Any = None) -> None:
            await self.played.say(name, payload, request_id=request_id)

        path = asked["path"] + (f"?{asked['query']}" if asked.get("query") else "")
        body = asked.get("body") or ""
        content = base64.b64decode(body) if asked.get("body_encoding") == "base64" else body.encode()
        assert not {name.lower() for name in asked["headers"]} & {"content-length", "host"}
        try:
            async with (
                asyncio.timeout(self.cut_after),
                self._client.stream(asked["method"], path, headers=_lines(asked["headers"]), content=content) as answer,
            ):
                headers = {name.title(): [value] for name, value in answer.headers.items()}
                await say("proxy_response_header", {"headers": headers, "status": answer.status_code})
                async for read in answer.aiter_raw():  # what one read gave, sent at once
                    for chunk in (read[at : at + CHUNK_BYTES] for at in range(0, len(read), CHUNK_BYTES)):
                        data = base64.b64encode(chunk).decode()
                        told = {"data": data, "encoding": "base64", "size": len(chunk)}
                        await say("proxy_response_chunk", told)
            await say("proxy_response_end")
        except (httpx.HTTPError, TimeoutError) as error:
            await say("proxy_response_abort", {"error": str(error) or "context deadline exceeded"})

    async def _close_all(self) -> None:
        writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # -- WebSockets ------------------------------------------------------------------------------

    async def _socket(self, stream_id: str, asked: dict[str, Any]) -> None:
        self.asked.append(asked["path"])
        protocol = asked.get("protocol", "")
        query = f"?{asked['query']}" if asked.get("query") else ""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(
                    f"wss://127.0.0.1:{self.cluster.api_port}{asked['path']}{query}", ssl=self._trust,
                    protocols=[protocol] if protocol else [], headers=_lines(asked["headers"]), max_msg_size=0,
                ) as far,
            ):  # fmt: skip
                self._spawn(self._feed(stream_id, far))
                async for frame in far:
                    await self._tell(stream_id, frame.data, in_channels=protocol.endswith("channel.k8s.io"))
                self.sockets[stream_id].put_nowait(None)
        except (OSError, aiohttp.ClientError) as error:
            await self.played.say("proxy_error", {"error": str(error)}, request_id=stream_id)
        del self.sockets[stream_id]
        await self.played.say("proxy_websocket_close", {"stream_id": stream_id}, request_id=stream_id)

    async def _tell(self, stream_id: str, frame: str | bytes, *, in_channels: bool) -> None:
        if isinstance(frame, str):
            data = b"\x01" + frame.encode()
        elif in_channels and frame and frame[0] <= 3:
            data = b"\x01" + frame[1:]
        else:
            data = b"\x02" + frame
        told = {"stream_id": stream_id, "data": base64.b64encode(data).decode()}
        await self.played.say("proxy_websocket_data", told, request_id=stream_id)

    async def _feed(self, stream_id: str, far: aiohttp.ClientWebSocketResponse) -> None:
        queue = self.sockets[stream_id]
        with contextlib.suppress(OSError, aiohttp.ClientError):
            while (data := await queue.get()) is not None:
                await far.send_frame(data[1:], aiohttp.WSMsgType(data[0]))
            await far.close()

    def _into_socket(self, payload: dict[str, Any]) -> None:
        queue = self.sockets.get(payload["stream_id"])
        if queue is None:
            return
        if "data" not in payload:
            queue.put_nowait(None)
        elif queue.qsize() < QUEUE:
            queue.put_nowait(base64.b64decode(payload["data"]))
        else:
            self.dropped += 1

    # -- yamux streams ---------------------------------------------------------------------------

    def _look_at_streams(self) -> None:
        for stream_id, data in self.played.yamux_in.items():
            if stream_id not in self._begun:
                split = pipeops_frames.split_stream_header(data)
                if split is not None:
                    self._begun.add(stream_id)
                    header, end = split
                    del data[:end]
                    self._spawn(self._dial(stream_id, (header.namespace, header.service, header.port)))
            elif stream_id in self._writers:
                self._pass_on(stream_id)

    async def _dial(self, stream_id: int, place: tuple[str, str, int]) -> None:
        self.dialled.append(place)
        yamux = self.played.yamux
        port = self.services.get(place)
        try:
            if port is None:
                raise OSError("no such service")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await self.played.write(stream_id, b"", end=True)
            return
        self._writers[stream_id] = writer
        self._pass_on(stream_id)
        with contextlib.suppress(ConnectionError, Gone):
            while (data := await reader.read(CHUNK_BYTES)) and self.played.yamux is yamux:
                await self.played.write(stream_id, data)
                while self.played.yamux_streams[stream_id].queued_bytes > 256 * 1024:
                    await asyncio.sleep(0.001)
            if self.played.yamux is yamux:
                await self.played.write(stream_id, b"", end=True)

    def _pass_on(self, stream_id: int) -> None:
        data, writer = self.played.yamux_in[stream_id], self._writers[stream_id]
        if writer.is_closing():
            return
        if data:
            writer.write(bytes(data))
            data.clear()
        if stream_id in self.played.yamux_ended and writer.can_write_eof() and not writer.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()
        if self.played.yamux_streams[stream_id].gone:
            writer.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lines(headers: dict[str, str | list[str]]) -> list[tuple[str, str]]:
    return [
        (name, value) for name, given in headers.items() for value in ([given] if isinstance(given, str) else given)
    ]


def _fallback(unknown: str) -> dict[str, Any]:
    """What an agent says of a message that it does not know."""
    return {
        "agent_version": "pipeops-k8-agent", "unknown_type": unknown, "supported_types": ["ping", "proxy_request"],
        "fallback_mode": "legacy_proxy", "protocol_version": "1.0", "timestamp": "2026-11-21T06:25:29Z",
    }  # fmt: skip

"""The recording of a real PipeOps WebSocket agent, replayed at the real server message by message.

The agent's side is sent word for word; only ids that the control plane chose are exchanged. What the recording's
control plane asked is asked here through the same session, and what reaches the wire must mean the same.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support import prepared
from tests.support.pipeops_agent import BINARY, PING, TEXT, PlayedAgent, upgrade
from tests.support.pipeops_plane import Plane, pipeops_plane, until
from tests.support.pipeops_traces import agent_texts, recorded
from tests.support.served import trusting

from towline.aio.streams import StreamError
from towline.control.protocols.pipeops.kube import API_SERVER, DIRECT
from towline.control.protocols.pipeops.streams import open_stream
from towline.tunnel.opening import TunnelStream
from towline.wire import pipeops, pipeops_frames, streams
from towline.wire import pipeops_messages as messages

RECORDED_CLUSTER = "11111111-2222-3333-4444-555555555555"
WEB = streams.KubeService(namespace="default", name="web", port="80")


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as made:
        yield made


@dataclass
class Collected:
    """An answer as it came."""

    goes_on = False
    status: int = 0
    body: bytes = b""
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    has_ended: bool = False
    error: str = ""

    def answered(self, status: int, headers: messages.Headers) -> None:
        self.status = status

    def arrived(self, data: bytes) -> None:
        self.body += data

    def framed(self, kind: int, payload: bytes) -> None:
        self.frames.append((kind, payload))

    def ended(self) -> None:
        self.has_ended = True

    def failed(self, error: StreamError) -> None:
        self.error = str(error)


@dataclass
class Replay:
    """One recording on its way."""

    plane: Plane
    played: PlayedAgent
    cluster_id: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Collected] = field(default_factory=dict)
    streams: dict[int, TunnelStream] = field(default_factory=dict)
    sent: int = 0
    """Whole text messages of the agent."""

    def ours(self, text: str) -> str:
        """Exchange what the control plane chose."""
        text = text.replace(RECORDED_CLUSTER, self.cluster_id or RECORDED_CLUSTER)
        for theirs, own in self.ids.items():
            for key in ("request_id", "stream_id"):
                text = text.replace(f'"{key}":"{theirs}"', f'"{key}":"{own}"')
        return text

    async def agent(self, entry: dict[str, Any]) -> None:
        match entry["frame"]:
            case "ping":
                await self.played.send_frame(PING, entry["data"].encode())
            case "text" if entry["raw"].endswith("\n"):
                await self.played.send(TEXT, self.ours(entry["raw"]).encode())
                self.sent += 1
            case "binary" if self.plane.session.connection.mux is not None:
                data = bytes.fromhex(entry["hex"])
                await self.played.send(BINARY, data.ljust(entry["size"], b"\0"))  # the recorder cut what is in TLS

    async def server(self, entry: dict[str, Any]) -> None:
        if entry["frame"] == "binary":
            await self.server_bytes(bytes.fromhex(entry["hex"]))
            return
        if "msg" not in entry:
            return  # cut by the recorder: a chunk of a body
        theirs = entry["msg"]
        match theirs["type"]:
            case "register_success":
                answer = await self.played.next("register_success")
                assert answer["request_id"] == theirs["request_id"]
                assert answer["payload"]["cluster_id"] == answer["payload"]["cluster_uuid"] != ""
                assert self.cluster_id in ("", answer["payload"]["cluster_id"])
                self.cluster_id = answer["payload"]["cluster_id"]
                if self.plane.session.connection.mux is None:
                    assert (await self.played.next("gateway_hello"))["payload"] == {"use_yamux": True}
            case "gateway_hello" | "no_such_thing":
                pass  # offered after the registration; and never sent
            case _:
                await self.ask(theirs)

    async def ask(self, theirs: dict[str, Any]) -> None:
        """Send what the recorded control plane sent, and compare what reaches the wire."""
        connection = self.plane.session.connection
        known = theirs.get("request_id", "")

        def own(request_id: str) -> messages.Message:
            self.ids[known] = request_id
            words = self.ours(json.dumps(theirs, separators=(",", ":")))
            return pipeops.decode(words.encode(), is_agent=True).message

        if theirs["type"] in ("proxy_request", "proxy_websocket_start"):
            self.answers[known] = Collected()
            connection.requests.begin_as(own, self.answers[known])
        else:
            connection.say(own(self.ids.get(known, known)), request_id=self.ids[known])
        seen = await self.played.next(theirs["type"])
        assert json.loads(self.ours(json.dumps(theirs, separators=(",", ":")))) == seen

    async def server_bytes(self, data: bytes) -> None:
        """Open the streams that the recorded control plane opened, and compare their headers."""
        if len(data) <= 12 or data[12:14] != b"\x01\x01":
            return
        theirs, _ = pipeops_frames.split_stream_header(data[12:]) or pytest.fail("not a header")
        session = self.plane.session
        if theirs.service == "web":
            stream = await session.open_stream(WEB)
            await stream.write(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
        else:
            assert session.connection.mux is not None
            stream = TunnelStream()
            open_stream(session.connection.mux, API_SERVER, DIRECT, lambda: stream)
        stream_id = stream.transport.get_extra_info("stream_id")
        assert stream_id == int.from_bytes(data[4:8], "big")
        self.streams[stream_id] = stream
        got = await self.wire(stream_id, len(data) - 12)
        ours, _ = pipeops_frames.split_stream_header(got) or pytest.fail("not a header")
        assert (ours.service, ours.namespace, ours.port, ours.protocol) == (
            theirs.service, theirs.namespace, theirs.port, theirs.protocol,
        )  # fmt: skip

    async def wire(self, stream_id: int, size: int) -> bytes:
        """What the server wrote into a stream, read frame by frame: this agent answers for itself."""
        got, raw = b"", b""
        async with asyncio.timeout(10):
            while len(got) < size:
                kind, payload = await self.played.next_frame()
                if kind != BINARY:
                    continue
                raw += payload
                while len(raw) >= 12:
                    length = int.from_bytes(raw[8:12], "big") if raw[1] == 0 else 0
                    if len(raw) < 12 + length:
                        break
                    if int.from_bytes(raw[4:8], "big") == stream_id:
                        got += raw[12 : 12 + length]
                    raw = raw[12 + length :]
        return got


async def test_the_recorded_agent_meets_the_same_answers_here(plane: Plane) -> None:
    entries = list(recorded("pipeops-ws"))
    first = entries[0]
    headers = {name: value for name, value in first["headers"].items() if name not in ("Host", "Authorization")}
    played = await upgrade(plane.running.port, plane.token, trusting(plane.running), path=first["path"], **headers)
    played.drops_binary = True  # the recording answers
    replay = Replay(plane, played)
    for entry in entries[1:]:
        match entry["dir"]:
            case "agent":
                await replay.agent(entry)
                if '"gateway_hello_ack"' in entry.get("raw", ""):
                    await until(lambda: plane.session.connection.mux)
            case "cp":
                await replay.server(entry)
            case "rest":
                answer = await plane.call(entry["method"], entry["path"], token="")
                assert answer.status_code == entry["status"]
    connection = plane.session.connection
    assert (connection.strikes, connection.requests.strays) == (0, 0)
    assert replay.sent == len(list(agent_texts("pipeops-ws")))
    answers = replay.answers
    assert {name: one.status for name, one in answers.items() if one.status} == {
        "r1": 200, "r2": 200, "r3": 404, "r4": 201, "r5": 200, "r6": 201, "r7": 200, "r9": 200, "r10": 200, "r20": 200,
    }  # fmt: skip
    assert "request canceled" in answers["r10"].error
    assert answers["r9"].body == b"hello from web-5d9948bb55-tzblj\n"
    assert json.loads(answers["r2"].body)["gitVersion"] == "v1.36.3"
    assert answers["x3"].frames[:3] == [(1, b"1"), (1, b"1b3V0Cg=="), (1, b"2ZXJyCg==")]
    assert all(answers[name].has_ended for name in ("x1", "x2", "x3", "x4", "p1"))
    web = replay.streams[2]
    page = await web.read()
    assert page.startswith(b"HTTP/1.1 200 OK")
    played.writer.close()

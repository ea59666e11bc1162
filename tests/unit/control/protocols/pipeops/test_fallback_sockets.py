"""Exec, attach and port-forward on a line of an agent without yamux."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from tests.support.fallback_line import END, Bench, OneLine, chunk, header
from tests.support.pipeops_traces import recorded
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol, State

from towline.control.protocols.pipeops import fallback_sockets as limits
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages
from towline.wire.pipeops_frames import BINARY, PING, TEXT, websocket_data

POD = "/api/v1/namespaces/a/pods/b"
EXEC = f"{POD}/exec?command=sh&stdout=true&stderr=true"
V5, BASE64, FORWARD = "v5.channel.k8s.io", "v4.base64.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"
UPGRADE_REQUIRED = b'{"kind":"Status","message":"Upgrade request required","code":400}'


@pytest.fixture
async def line() -> OneLine:
    return Bench().line()


class Client:
    """The client's end of a WebSocket, once it is open."""

    def __init__(self, line: OneLine) -> None:
        self.line = line
        self.protocol = Protocol(CLIENT, state=State.OPEN)

    def send(self, payload: bytes, kind: int = BINARY) -> None:
        (self.protocol.send_text if kind == TEXT else self.protocol.send_binary)(payload)
        self.line.protocol.data_received(b"".join(self.protocol.data_to_send()))

    def close(self) -> None:
        self.protocol.send_close(1000)
        self.line.protocol.data_received(b"".join(self.protocol.data_to_send()))

    def received(self, data: bytes | None = None) -> list[tuple[int, bytes]]:
        self.protocol.receive_data(self.line.read() if data is None else data)
        return [
            (int(event.opcode), bytes(event.data))
            for event in self.protocol.events_received()
            if isinstance(event, Frame)
        ]


def data(payload: bytes, kind: int = TEXT) -> messages.WebsocketData:
    return messages.WebsocketData(data=websocket_data(kind, payload))


def opened(line: OneLine) -> tuple[Client, bytes]:
    """Take the 101; returns the client, and the head."""
    head, _, rest = line.read().partition(b"\r\n\r\n")
    client = Client(line)
    if rest:
        line.pipe.written += rest
    return client, head


def sent(line: OneLine) -> list[bytes]:
    """The frames that the agent has been given."""
    frames = []
    for message, _ in line.bench.agent.take():
        assert isinstance(message, messages.WebsocketData)
        frames.append(message.data)
    return frames


def test_an_exec_opens_with_the_first_message_and_keeps_its_channels(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    start, stream = line.started()
    assert (start.path, start.protocol, start.query) == (f"{POD}/exec", BASE64, EXEC.partition("?")[2])
    assert start.headers == {}
    assert line.read() == b""
    for entry in recorded("pipeops-ws"):
        if entry["dir"] == "agent" and entry.get("raw", "").endswith("\n"):
            envelope = pipeops.decode(entry["raw"].encode())
            if envelope.request_id == "x3":
                line.tell(stream, envelope.message)
    client, head = opened(line)
    assert head.startswith(b"HTTP/1.1 101 ") and b"Sec-WebSocket-Protocol: v5.channel.k8s.io" in head
    assert b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in head
    *output, (_, status), (closing, code) = client.received()
    assert [payload for _, payload in output] == [b"\x01", b"\x01out\n", b"\x02err\n", b"\x01abc"]
    assert status[0] == 3 and json.loads(status[1:])["status"] == "Failure"
    assert (closing, code) == (Opcode.CLOSE, b"\x03\xe8")
    assert line.pipe.closed == "ended"


def test_input_reaches_the_agent_in_base64(line: OneLine) -> None:
    line.upgrade(f"{POD}/exec?stdin=true&tty=true&stdout=true", V5)
    _, stream = line.started()
    line.tell(stream, data(b"1"))
    client, _ = opened(line)
    client.send(b"\x00ls\n")
    client.send(b"\xff\x00")  # the end of the input, which a terminal says with a key
    assert sent(line) == [b"\x020bHMK"]


def test_the_end_of_the_input_reaches_a_command_without_a_terminal(line: OneLine) -> None:
    line.upgrade(f"{POD}/exec?command=cat&stdin=true&stdout=true&stderr=true", V5)
    start, stream = line.started()
    assert start.protocol == V5
    line.tell(stream, data(b""))
    client, _ = opened(line)
    client.send(b"\x00fed")
    client.send(b"\xff\x00")
    assert sent(line) == [b"\x02\x00fed", b"\x02\xff\x00"]
    line.tell(stream, data(b"fed"), data(b'{"metadata":{},"status":"Success"}'), messages.WebsocketClose())
    assert [payload[:4] for _, payload in client.received()] == [b"\x01", b"\x01fed", b'\x03{"m', b"\x03\xe8"]


def test_messages_in_pieces_are_put_together(line: OneLine) -> None:
    line.upgrade(f"{POD}/exec?stdin=true&tty=true", V5)
    _, stream = line.started()
    line.tell(stream, data(b"1"))
    client, _ = opened(line)
    for frame in (
        Frame(Opcode.BINARY, b"\x00l", fin=False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, b"s"),
    ):  # fmt: skip
        line.protocol.data_received(frame.serialize(mask=True))
    assert sent(line) == [b"\x020bHM="]
    assert (int(Opcode.PONG), b"?") in client.received()


async def test_a_port_forward_passes_frame_by_frame_after_a_quiet_start(line: OneLine) -> None:
    line.upgrade(f"{POD}/portforward?ports=8080", FORWARD)
    start, stream = line.started()
    assert start.protocol == FORWARD
    await line.bench.clock.advance(limits.QUIET_START)
    client, head = opened(line)
    assert FORWARD.encode() in head
    client.send(b"\x80\x03spdy")
    assert sent(line) == [b"\x02\x80\x03spdy"]
    line.tell(stream, data(b"\x80\x03back", BINARY), data(b"", PING))
    assert client.received() == [(BINARY, b"\x80\x03back")]
    client.close()
    ((message, stream_id),) = line.bench.agent.take()
    assert isinstance(message, messages.WebsocketClose) and message.stream_id == stream_id == stream
    assert line.pipe.closed == "ended"
    line.tell(stream, messages.WebsocketClose(stream_id=stream))
    assert len(line.bench.agent.requests) == line.bench.agent.requests.strays == 0


def test_a_refusal_is_the_api_servers_own(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    _, stream = line.started()
    line.tell(stream, messages.ProxyError(error="websocket: bad handshake"), messages.WebsocketClose())
    request, request_id = line.asked()
    assert (request.method, request.path, "Upgrade" in request.headers) == ("GET", f"{POD}/exec", False)
    line.tell(request_id, header(403, Content_Type="application/json"), chunk(b'{"message":"may not"}'), END)
    head, body, is_whole = line.answer()
    assert (head.status, body, is_whole) == (403, b'{"message":"may not"}', True)


def test_a_refusal_without_the_api_servers_reasons_has_the_agents(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    _, stream = line.started()
    line.tell(stream, messages.ProxyError(error="no route to host"))
    _, request_id = line.asked()
    line.tell(request_id, header(400), chunk(UPGRADE_REQUIRED), END)
    head, body, _ = line.answer()
    assert head.status == 502 and b"no route to host" in body


async def test_an_exec_that_never_begins_is_given_up(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    line.started()
    await line.bench.clock.advance(limits.OPEN_TIMEOUT)
    (closed, _), (asked, request_id) = line.bench.agent.take()
    assert isinstance(closed, messages.WebsocketClose) and isinstance(asked, messages.ProxyRequest)
    line.tell(request_id, messages.ProxyResponseAbort(error="context deadline exceeded"))
    assert line.answer()[0].status == 504


def test_spdy_is_refused_with_a_way_out_where_the_api_server_would_have_allowed_it(line: OneLine) -> None:
    line.ask(f"POST {EXEC}", "Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
    request, request_id = line.asked()
    assert request.method == "POST"
    line.tell(request_id, header(400), chunk(UPGRADE_REQUIRED), END)
    head, body, _ = line.answer()
    assert head.status == 400 and b"kubectl 1.31" in body


def test_spdy_is_refused_by_the_api_server_where_it_would_have(line: OneLine) -> None:
    line.ask(f"POST {EXEC}", "Connection: Upgrade", "Upgrade: SPDY/3.1")
    _, request_id = line.asked()
    line.tell(request_id, header(404), chunk(b'{"message":"not found"}'), END)
    assert line.answer()[1] == b'{"message":"not found"}'


def test_an_upgrade_of_a_workload_is_never_asked_without_the_upgrade(line: OneLine) -> None:
    line.upgrade(f"{POD}/proxy/ws")
    _, stream = line.started()
    line.tell(stream, messages.ProxyError(error="bad handshake"))
    assert line.bench.agent.take() == []
    assert line.answer()[0].status == 502


@pytest.mark.parametrize("path", [f"{POD}/proxy/a..b"])
def test_a_path_that_the_agent_would_change_is_refused(line: OneLine, path: str) -> None:
    line.upgrade(path)
    assert line.bench.agent.take() == []
    assert line.answer()[0].status == 400


def test_channels_that_cannot_be_carried_are_refused_by_name(line: OneLine) -> None:
    line.upgrade(EXEC, "v2.channel.k8s.io")
    head, body, _ = line.answer()
    assert head.status == 400 and V5.encode() in body and line.bench.agent.take() == []


def test_a_message_that_no_channel_has_ends_the_socket(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    _, stream = line.started()
    line.tell(stream, data(b"1"), data(b"1%%%"))
    client, _ = opened(line)
    assert client.received()[-1][0] == Opcode.CLOSE
    ((message, _),) = line.bench.agent.take()
    assert isinstance(message, messages.WebsocketClose)


def test_what_a_client_says_that_is_no_websocket_ends_it_at_both_ends(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    _, stream = line.started()
    line.tell(stream, data(b"1"))
    opened(line)
    line.protocol.data_received(b"\xff\xff\xff\xff")
    ((message, _),) = line.bench.agent.take()
    assert isinstance(message, messages.WebsocketClose) and line.pipe.closed == "ended"


def test_a_client_that_goes_away_has_the_agent_close_its_side(line: OneLine) -> None:
    line.upgrade(EXEC, V5)
    _, stream = line.started()
    line.lose()
    ((message, stream_id),) = line.bench.agent.take()
    assert isinstance(message, messages.WebsocketClose) and stream_id == stream
    line.tell(stream, data(b"1"), messages.WebsocketClose())
    assert len(line.bench.agent.requests) == 0


async def test_input_waits_where_the_agent_would_drop_it(line: OneLine) -> None:
    line.upgrade(f"{POD}/exec?stdin=true&tty=true", V5)
    _, stream = line.started()
    line.tell(stream, data(b"1"))
    client, _ = opened(line)
    client.send(b"\x00" + bytes(limits.INPUT_RATE // 4))
    assert line.pipe.is_paused
    assert b64decode(sent(line)[0][2:]) == bytes(32 * 1024)
    await line.bench.clock.advance(0.2)
    assert line.pipe.is_paused
    await line.bench.clock.advance(0.3)
    assert not line.pipe.is_paused
    line.bench.agent.is_full = True
    client.send(b"\x00x")
    await line.bench.clock.advance(5)
    assert line.pipe.is_paused
    line.bench.agent.is_full = False
    await line.bench.clock.advance(1)
    assert not line.pipe.is_paused

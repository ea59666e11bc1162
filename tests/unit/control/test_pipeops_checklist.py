"""What a control plane must never do to a PipeOps agent, and what it may ignore: rules of section 0 and rows of 2."""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest
from tests.support.pipeops_bench import ACK, Bench

import towline.control
from towline.aio.tasks import TaskOwner
from towline.control.agents import refusals
from towline.control.agents.refusals import Refusal, Refused
from towline.control.protocols import admission
from towline.control.protocols.pipeops import connection as connections
from towline.control.protocols.pipeops import office, session
from towline.tunnel.transport import GONE
from towline.wire import pipeops, pipeops_frames
from towline.wire import pipeops_messages as messages

DEADLY = {"TcpTunnelStart", "TcpTunnelData", "TcpTunnelClose", "UdpTunnelData", "ProxyStreamData"}
"""Messages that end the agent's process, or the agent's tunnels that nobody uses."""
LOST_WORDS = ("not registered", "cluster not found")
REFUSALS = list({
    each.code: each for module in (admission, refusals) for each in vars(module).values() if isinstance(each, Refusal)
}.values())  # fmt: skip


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    owner = TaskOwner("test")
    yield Bench(owner)
    await owner.close()


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call in the control plane's code, by the last word of what is called."""
    files = Path(towline.control.__file__).parent.rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    found = (node for node in nodes if isinstance(node, ast.Call))
    return [(getattr(node.func, "attr", getattr(node.func, "id", "")), node) for node in found]


# -- never -----------------------------------------------------------------------------------------


def test_the_control_plane_makes_no_message_that_ends_an_agents_process() -> None:
    assert {kind.__name__ for kind in pipeops.TYPES.values()} >= DEADLY
    assert not DEADLY & {name for name, _ in calls()}


def test_no_request_announces_a_binary_body_or_a_cancel() -> None:
    made = [call for name, call in calls() if name == "ProxyRequest"]
    assert made
    assert all("body_binary" not in {word.arg for word in call.keywords} for call in made)
    assert "ProxyCancel" not in {name for name, _ in calls()}


def test_every_request_asks_for_a_streamed_answer_and_names_no_scheme() -> None:
    for name, call in calls():
        if name == "ProxyRequest":
            given = {word.arg: word.value for word in call.keywords}
            streamed = given["supports_response_streaming"]
            assert isinstance(streamed, ast.Constant) and streamed.value is True
            assert "scheme" not in given


async def test_no_empty_binary_message_is_sent(bench: Bench) -> None:
    bench.connection.offer_yamux()
    bench.connection.text_arrived(ACK)
    mux = bench.connection.mux
    assert mux is not None
    stream = mux.open()
    stream.owner = GONE
    for _ in range(3):
        mux.schedule()
        mux.flush()
    mux.yamux.write(stream, b"")
    mux.yamux.finish(stream)
    mux.flush()
    assert bench.line.sizes and 0 not in bench.line.sizes


def test_no_error_but_one_makes_an_agent_forget_its_cluster() -> None:
    said = [call for name, call in calls() if name == "Error" and call.keywords and call.keywords[0].arg == "error"]
    words = {ast.unparse(call.keywords[0].value) for call in said}
    assert words == {"REGISTER_AGAIN", "CANNOT_READ"}
    assert any(lost in session.REGISTER_AGAIN for lost in LOST_WORDS)
    assert not any(lost in connections.CANNOT_READ for lost in LOST_WORDS)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_no_refusal_of_an_upgrade_is_a_401_or_403_in_gateway_mode(refusal: Refusal) -> None:
    assert office.status_of(Refused(refusal), is_gateway=True) == 503
    assert office.status_of(Refused(refusal), is_gateway=False) in (401, 403, 429, 503)


# -- messages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["backpressure", "tcp_tunnel_data", "tcp_tunnel_close", "udp_tunnel_data"])
async def test_messages_that_ask_for_nothing_are_counted_and_the_line_lives(bench: Bench, name: str) -> None:
    payload = {"reason": "channel_full", "data": "AAAA", "tunnel_id": "t"}
    bench.connection.text_arrived(json.dumps({"type": name, "request_id": "x", "payload": payload}).encode())
    assert bench.connection.tally["message_ignored"] == 1
    assert (bench.line.types(), bench.line.closed, bench.connection.strikes) == ([], None, 0)


async def test_a_fallback_for_a_type_that_the_agent_does_not_know_is_counted(bench: Bench) -> None:
    payload = {
        "agent_version": "pipeops-k8-agent", "fallback_mode": "legacy_proxy", "protocol_version": "1.0",
        "supported_types": ["ping"], "timestamp": "2026-11-21T06:24:28Z", "unknown_type": "register_error",
    }  # fmt: skip
    bench.connection.text_arrived(json.dumps({"type": "protocol_fallback", "payload": payload}).encode())
    assert bench.connection.tally["message_ignored"] == 1
    assert bench.line.closed is None


async def test_the_offer_of_yamux_names_no_window_that_would_break_the_agents_session(bench: Bench) -> None:
    bench.connection.offer_yamux()
    (hello,) = bench.line.said
    assert hello == {"type": "gateway_hello", "payload": {"use_yamux": True}}


async def test_a_binary_answer_before_yamux_goes_to_its_request(bench: Bench) -> None:
    frame = pipeops_frames.ResponseFrame(request_id="nobody", status=200, headers=None, body=b"x" * 20_000)
    data = pipeops_frames.encode_response(frame)
    for at in range(0, len(data), 4096):
        bench.connection.binary_arrived(memoryview(data)[at : at + 4096])
    bench.connection.binary_ended()
    assert (bench.connection.requests.strays, bench.connection.strikes) == (1, 0)


async def test_a_binary_message_that_is_no_answer_is_refused_and_the_line_lives(bench: Bench) -> None:
    bench.connection.binary_arrived(memoryview(b"\x00\x05ab"))
    bench.connection.binary_ended()
    assert (bench.connection.strikes, bench.line.closed) == (1, None)


def test_there_is_no_negative_answer_to_a_registration() -> None:
    assert "register_error" not in pipeops.TYPES


@pytest.mark.parametrize(
    "message",
    [
        messages.RegisterSuccess(cluster_id="c"), messages.HeartbeatAck(), messages.Ping(), messages.Pong(),
        messages.Error(error="x"), messages.GatewayHello(use_yamux=True), messages.ProxyRequest(path="/api"),
    ],
    ids=pipeops.type_name,
)  # fmt: skip
def test_what_is_sent_has_an_object_for_payload_and_no_timestamp(message: messages.Message) -> None:
    text = pipeops.encode(message, request_id="r")
    written = json.loads(text)
    assert isinstance(written["payload"], dict)
    assert "timestamp" not in written
    assert pipeops.decode(text, is_agent=True).message == message

"""Channels of exec and attach between clients and a PipeOps agent, by what a real agent said."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pipeops_traces import recorded

from towline.control.protocols.pipeops.channels import (
    MOST_PIECE_BYTES,
    PORT_FORWARD,
    V4,
    V4_BASE64,
    V5,
    AsBase64,
    BadChannel,
    InBase64,
    Merged,
    Passing,
    choose,
)
from towline.control.protocols.pipeops.translation import CannotCarry, Carried
from towline.wire.pipeops_frames import BINARY, TEXT, split_websocket

EXEC = Carried("GET", "/api/v1/namespaces/a/pods/b/exec", "", {}, is_exec_family=True)


def asking(query: str) -> Carried:
    return Carried("GET", EXEC.path, query, {}, is_exec_family=True)


def told(stream: str) -> list[tuple[int, bytes]]:
    """What the recorded agent told of a WebSocket, as kinds and payloads."""
    found = []
    for entry in recorded("pipeops-ws"):
        if entry["dir"] != "agent" or not entry.get("raw", "").endswith("\n"):
            continue
        message: dict[str, Any] = json.loads(entry["raw"])
        if message["type"] == "proxy_websocket_data" and message["request_id"] == stream:
            found.append(split_websocket(b64decode(message["payload"]["data"])))
    return found


def test_recorded_channels_in_base64_lose_nothing() -> None:
    channels = InBase64(V5)
    down = [piece for kind, payload in told("x3") for piece in channels.down(kind, payload)]
    assert [payload for _, payload in down[:4]] == [b"\x01", b"\x01out\n", b"\x02err\n", b"\x01abc"]
    assert {kind for kind, _ in down} == {BINARY}
    assert channels.up(BINARY, b"\x00abc") == [(BINARY, b"0YWJj")]  # what the recording's control plane sent


def test_a_recorded_terminal_gets_its_size_and_its_end() -> None:
    channels = InBase64(V4)
    assert channels.up(BINARY, b'\x04{"Width":97,"Height":31}') == [(BINARY, b"4eyJXaWR0aCI6OTcsIkhlaWdodCI6MzF9")]
    *_, (_, last) = [piece for kind, payload in told("x4") for piece in channels.down(kind, payload)]
    assert last[0] == 3 and json.loads(last[1:])["details"]["causes"][0]["message"] == "3"


def test_recorded_merged_channels_are_output_but_for_their_end() -> None:
    channels = Merged()
    down = [piece for kind, payload in told("x2") for piece in channels.down(kind, payload)]
    assert down == [(BINARY, b"\x01" + text) for text in (b"", b"err\n", b"out\n", b"abc")]
    ((kind, last),) = channels.end()
    assert (kind, last[0], json.loads(last[1:])["status"]) == (BINARY, 3, "Failure")
    assert channels.end() == []


def test_output_that_looks_like_an_end_is_output_when_more_comes() -> None:
    channels, status = Merged(), b'{"metadata":{},"status":"Success"}'
    assert channels.down(TEXT, status) == []
    assert channels.down(TEXT, b"more") == [(BINARY, b"\x01" + status), (BINARY, b"\x01more")]
    assert channels.down(TEXT, status) == []
    assert channels.end() == [(BINARY, b"\x03" + status)]


def test_the_end_of_the_input_reaches_a_command_that_reads_it() -> None:
    channels = choose(asking("command=cat&stdin=true&stdout=true"), [V5])
    assert isinstance(channels, Merged)
    assert channels.up(BINARY, b"\xff\x00") == [(BINARY, b"\xff\x00")]


@pytest.mark.parametrize("query", ["stdout=true", "stdin=true&tty=true", "stdin=false", "stdin=1&tty=1"])
def test_everything_else_keeps_its_channels(query: str) -> None:
    channels = choose(asking(query), ["v9", V5, V4])
    assert isinstance(channels, InBase64) and channels.client_protocol == V5
    assert channels.up(BINARY, b"\xff\x00") == []


def test_what_a_client_offers_decides() -> None:
    assert isinstance(choose(asking("stdin=true"), [V4]), InBase64)
    assert isinstance(choose(EXEC, [V4_BASE64]), AsBase64)
    assert isinstance(choose(EXEC, [PORT_FORWARD]), Passing)
    with pytest.raises(CannotCarry, match="none of which"):
        choose(EXEC, ["channel.k8s.io"])
    with pytest.raises(CannotCarry):
        choose(EXEC, [])


def test_frames_of_a_workload_pass_as_they_are() -> None:
    channels = choose(Carried("GET", "/api/v1/namespaces/a/pods/b/proxy/ws", "", {}), ["chat", "older"])
    assert (channels.agent_protocol, channels.greets) == ("chat", False)
    assert channels.up(TEXT, b"x") == channels.down(TEXT, b"x") == [(TEXT, b"x")]


@given(st.integers(0, 4), st.binary(max_size=200))
def test_base64_goes_there_and_back(channel: int, data: bytes) -> None:
    channels = InBase64(V5)
    ((kind, payload),) = channels.up(BINARY, bytes((channel,)) + data)
    assert kind == BINARY
    assert channels.down(TEXT, payload) == [(BINARY, bytes((channel,)) + data)]


def test_input_goes_in_pieces_that_the_api_server_takes() -> None:
    data = bytes(MOST_PIECE_BYTES * 2 + 1)
    for channels in (InBase64(V5), Merged()):
        assert len(channels.up(BINARY, b"\x00" + data)) == 3


@given(st.sampled_from([TEXT, BINARY]), st.binary(max_size=60))
def test_whatever_an_agent_says_is_a_channel_or_refused(kind: int, payload: bytes) -> None:
    for channels in (InBase64(V5), Merged(), AsBase64(), Passing("")):
        try:
            channels.down(kind, payload)
            channels.end()
        except BadChannel:
            assert isinstance(channels, InBase64)


@given(st.binary(max_size=60))
def test_whatever_a_client_says_is_passed_or_dropped(payload: bytes) -> None:
    for channels in (InBase64(V5), Merged(), AsBase64(), Passing("")):
        channels.up(BINARY, payload)

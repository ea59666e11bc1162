"""Frames of a proxied WebSocket as the original tells those of the API server's channels; bodies within bounds."""

import pytest
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from towline.agent.protocols.pipeops.requests import MAX_WAITING_BYTES, Body, asked_of, whole_body
from towline.agent.protocols.pipeops.sockets import Socket
from towline.agent.protocols.pipeops.upstream import Asked, Failed, is_api_path
from towline.aio.memory import memory_pair
from towline.wire import pipeops_frames as frames
from towline.wire.pipeops_messages import ProxyRequest


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """What a server writes."""
    server = ServerProtocol(state=State.OPEN)
    server.send_text(payload) if opcode is Opcode.TEXT else server.send_binary(payload)
    return b"".join(server.data_to_send())


def socket(*, in_channels: bool) -> Socket:
    return Socket("s", memory_pair()[0], is_kubernetes=True, in_channels=in_channels)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"\x01out", (frames.TEXT, b"out")), (b"\x02err", (frames.TEXT, b"err")), (b"\x03{}", (frames.TEXT, b"{}")),
        (b"\x04resize", (frames.BINARY, b"\x04resize")), (b"", (frames.BINARY, b"")),
    ],
)  # fmt: skip
def test_output_channels_are_told_as_text_as_the_original_does(payload: bytes, told: tuple[int, bytes]) -> None:
    assert socket(in_channels=True).taken(frame(Opcode.BINARY, payload)) == [told]


@pytest.mark.parametrize("payload", [b"\x01out", b"\x03{}"])
def test_frames_of_other_protocols_pass_unchanged(payload: bytes) -> None:
    assert socket(in_channels=False).taken(frame(Opcode.BINARY, payload)) == [(frames.BINARY, payload)]


def test_text_of_the_api_server_passes_unchanged() -> None:
    assert socket(in_channels=True).taken(frame(Opcode.TEXT, b"1b3V0")) == [(frames.TEXT, b"1b3V0")]


def test_frames_cut_at_every_byte_are_whole() -> None:
    data, one = frame(Opcode.TEXT, b"hello"), socket(in_channels=False)
    found = [message for at in range(len(data)) for message in one.taken(data[at : at + 1])]
    assert found == [(frames.TEXT, b"hello")]


async def test_text_to_a_channelled_stream_is_standard_input() -> None:
    one, server = socket(in_channels=True), ServerProtocol(state=State.OPEN)
    one._write(frames.TEXT, b"ls\n")
    server.receive_data(b"".join(one.protocol.data_to_send()))
    assert [bytes(event.data) for event in server.events_received()] == [b"\x00ls\n"]


def test_a_body_that_is_not_taken_is_bounded() -> None:
    body = Body()
    assert body.feed(b"x" * MAX_WAITING_BYTES)
    assert not body.feed(b"y")
    body.end()
    assert body.feed(b"after its end"), "dropped, no error"


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (ProxyRequest(), b""),
        (ProxyRequest(body="a"), b"a"),
        (ProxyRequest(body="YQ==", body_encoding="base64"), b"a"),
        (ProxyRequest(body={"a": [1]}), b'{"a":[1]}'),
    ],
)  # fmt: skip
def test_bodies_are_read_as_they_say(request_: ProxyRequest, body: bytes) -> None:
    assert whole_body(request_) == body


def test_a_body_that_is_no_base64_fails() -> None:
    with pytest.raises(Failed):
        whole_body(ProxyRequest(body="%%%", body_encoding="base64"))


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("", "", b"/"), ("/a b", "", b"/a%20b"), ("/a%2Fb", "", b"/a%252Fb"), ("/ä", "q=%20;x", b"/%C3%A4?q=%20;x"),
        ("/a", "x=\r\nHost: b", b"/a?x=%0D%0AHost:%20b"),
    ],
)  # fmt: skip
def test_paths_are_escaped_and_queries_kept(path: str, query: str, target: bytes) -> None:
    assert asked_of(ProxyRequest(path=path, query=query)).target == target


def test_a_request_names_its_service_with_all_three_words() -> None:
    assert Asked("GET", "/", service="a", namespace="b", port=1).names_service
    assert not Asked("GET", "/", service="a", namespace="b").names_service


@pytest.mark.parametrize(
    ("path", "is_api"), [("/api", True), ("/apis/x", True), ("/version", True), ("/apiary", False), ("/", False)]
)
def test_paths_of_the_api_server_are_known(path: str, is_api: bool) -> None:
    assert is_api_path(path) is is_api

"""Binary layouts of the PipeOps WebSocket: recorded bytes, every cut, bombs, and anything at all."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pipeops_traces import recorded

from towline.wire import pipeops_frames as frames
from towline.wire.pipeops_messages import ProxyResponse

HEADER = frames.StreamHeader(service="web", namespace="default", port=80, tunnel_id="tun-1")
RECORDED_HEADER = bytes.fromhex("010100500003776562000764656661756c74000574756e2d31")
NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=63)


def test_a_stream_header_is_the_one_recorded():
    assert frames.encode_stream_header(HEADER) == RECORDED_HEADER
    assert frames.split_stream_header(RECORDED_HEADER) == (HEADER, len(RECORDED_HEADER))


def test_a_stream_header_may_come_in_pieces():
    for at in range(len(RECORDED_HEADER)):
        assert frames.split_stream_header(RECORDED_HEADER[:at]) is None
    assert frames.split_stream_header(RECORDED_HEADER + b"GET /") == (HEADER, len(RECORDED_HEADER))


@given(NAMES, NAMES, NAMES, st.integers(1, 65535), st.sampled_from([1, 2]))
def test_any_stream_header_comes_back(service, namespace, tunnel_id, port, protocol):
    header = frames.StreamHeader(
        service=service, namespace=namespace, tunnel_id=tunnel_id, port=port, protocol=protocol
    )
    encoded = frames.encode_stream_header(header)
    assert frames.split_stream_header(encoded) == (header, len(encoded))


@pytest.mark.parametrize("bad", [{"port": 0}, {"port": 70000}, {"service": "x" * 254}, {"tunnel_id": "ä" * 127}])
def test_a_stream_header_that_names_nothing_is_refused(bad):
    given_values = {"service": "web", "namespace": "default", "port": 80, **bad}
    with pytest.raises(frames.BadFrame):
        frames.encode_stream_header(frames.StreamHeader(**given_values))


def test_a_name_over_the_limit_is_refused_before_it_is_there():
    with pytest.raises(frames.BadFrame, match="limit"):
        frames.split_stream_header(b"\x01\x01\x00\x50\xff\xff")


def test_another_protocol_than_udp_is_tcp():
    found = frames.split_stream_header(b"\x01\x09" + RECORDED_HEADER[2:])
    assert found is not None and found[0].protocol == frames.TCP


def test_a_recorded_binary_answer_begins_as_told():
    entry = next(e for e in recorded("pipeops-ws") if e["dir"] == "agent" and e.get("hex", "").startswith("0002"))
    data = bytes.fromhex(entry["hex"])
    assert data[:12] == b"\x00\x02r8" + (200).to_bytes(4, "big") + (0x13F).to_bytes(4, "big")
    with pytest.raises(frames.BadFrame, match="ends before"):
        frames.decode_response(data)


@given(NAMES, st.integers(0, 2**32 - 1), st.none() | st.dictionaries(NAMES, st.lists(NAMES).map(tuple)), st.binary())
def test_any_binary_answer_comes_back(request_id, status, headers, body):
    frame = frames.ResponseFrame(request_id=request_id, status=status, headers=headers, body=body)
    assert frames.decode_response(frames.encode_response(frame)) == frame


@given(NAMES, st.binary())
def test_any_binary_request_comes_back(request_id, body):
    frame = frames.RequestFrame(request_id=request_id, body=body)
    assert frames.decode_request(frames.encode_request(frame)) == frame


@pytest.mark.parametrize("read", [frames.decode_response, frames.decode_request, frames.split_stream_header])
@given(data=st.binary(max_size=80))
def test_any_bytes_are_a_frame_or_refused(read, data):
    try:
        read(data)
    except frames.BadFrame as error:
        assert str(error)


def answer(body: bytes, **headers: str) -> frames.ResponseFrame:
    named = {name.replace("_", "-").title(): (value,) for name, value in headers.items()}
    return frames.ResponseFrame(request_id="r", status=200, headers=named, body=body)


def test_a_binary_body_that_the_transport_compressed_is_inflated():
    assert frames.whole_body(answer(gzip.compress(b"{}"), content_type="application/json")) == b"{}"


def test_a_binary_body_that_the_server_compressed_stays_as_it_is():
    packed = gzip.compress(b"{}")
    assert frames.whole_body(answer(packed, content_type="application/json", content_encoding="gzip")) == packed
    assert frames.whole_body(answer(packed, content_type="application/gzip")) == packed


@pytest.mark.parametrize("kind", ["application/json", "image/png"])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 20_000])
def test_a_buffered_body_comes_back(kind, size):
    body = b"a" * size
    packed, encoding = frames.pack_body(body, {"Content-Type": (kind,)})
    assert frames.whole_body(ProxyResponse(status=200, headers=None, body=packed, encoding=encoding)) == body
    assert encoding == ("" if not size else "gzip" if size >= 1024 and "json" in kind else "base64")


def test_a_recorded_buffered_body_is_read():
    raw = next(e["raw"] for e in recorded("pipeops-ws") if '"proxy_response"' in e.get("raw", ""))
    payload = json.loads(raw)["payload"]
    body = frames.whole_body(ProxyResponse(status=200, headers=None, body=payload["body"], encoding="base64"))
    assert json.loads(body)["gitVersion"] == "v1.36.3"


def test_a_bomb_is_refused():
    bomb = gzip.compress(bytes(frames.MAX_BODY_BYTES + 1))
    with pytest.raises(frames.BadFrame, match="inflates"):
        frames.inflate(bomb)


@pytest.mark.parametrize("cut", [gzip.compress(b"x" * 99, mtime=0)[:-3], b"\x1f\x8bnonsense"], ids=["cut", "odd"])
def test_a_broken_gzip_is_refused(cut):
    with pytest.raises(frames.BadFrame):
        frames.inflate(cut)


def test_a_body_that_is_no_base64_is_refused():
    with pytest.raises(frames.BadFrame, match="base64"):
        frames.whole_body(ProxyResponse(status=200, headers=None, body="%%%", encoding="base64"))


def test_websocket_data_begins_with_its_type():
    assert frames.websocket_data(frames.BINARY, b"\x01x") == b"\x02\x01x"
    assert frames.split_websocket(b"\x02\x01x") == (frames.BINARY, b"\x01x")


def test_data_without_a_type_byte_has_that_of_the_message_or_is_binary():
    assert frames.split_websocket(b"hello", 1) == (frames.TEXT, b"hello")
    assert frames.split_websocket(b"hello") == (frames.BINARY, b"hello")
    assert frames.split_websocket(b"") == (frames.BINARY, b"")

"""Shells read along: what was shown and typed comes out of the bytes of both ways of carrying channels."""

import base64
import itertools
import os
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube.channels import Decoder, Event, Undecodable, WebSocketChannels, said
from towline.kube.spdy import DICTIONARY, Announcement, SpdyStreams

V5 = "v5.channel.k8s.io"


def frame(body: bytes, *, mask: bytes = b"", opcode: int = 2, fin: bool = True) -> bytes:
    """A WebSocket frame."""
    length = len(body)
    if length < 126:
        size = bytes([length])
    elif length < 65536:
        size = b"\x7e" + length.to_bytes(2, "big")
    else:
        size = b"\x7f" + length.to_bytes(8, "big")
    head = bytes([(0x80 if fin else 0) | opcode, size[0] | (0x80 if mask else 0)]) + size[1:]
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body)) if mask else body
    return head + mask + masked


class Client:
    """The client's side of SPDY, as client-go speaks it."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self.number = 1

    def open(self, word: str) -> bytes:
        pairs = [(b"streamtype", word.encode())]
        block = len(pairs).to_bytes(4, "big")
        for name, value in pairs:
            block += len(name).to_bytes(4, "big") + name + len(value).to_bytes(4, "big") + value
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        payload = self.number.to_bytes(4, "big") + bytes(6) + packed
        self.number += 2
        return b"\x80\x03\x00\x01\x00" + len(payload).to_bytes(3, "big") + payload


def data(stream: int, body: bytes) -> bytes:
    return stream.to_bytes(4, "big") + b"\x00" + len(body).to_bytes(3, "big") + body


def reply(stream: int) -> bytes:
    payload = stream.to_bytes(4, "big") + b"\x01\x02\x03"
    return b"\x80\x03\x00\x02\x00" + len(payload).to_bytes(3, "big") + payload


def joined(events: Iterable[Event]) -> list[tuple[str, bytes]]:
    """Events with neighbours of one kind put together: how bytes were cut means nothing."""
    found: list[tuple[str, bytes]] = []
    for kind, body in events:
        if kind == "s":
            found = [one for one in found if one[0] != "s"] + [(kind, body)]
        elif found and found[-1][0] == kind != "r":
            found[-1] = (kind, found[-1][1] + body)
        else:
            found.append((kind, body))
    return found


def in_pieces(take: Callable[[bytes], list[Event]], raw: bytes, cuts: list[int]) -> list[Event]:
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [event for begin, end in itertools.pairwise(places) for event in take(raw[begin:end])]


MASK = b"\x11\x22\x33\x44"
UP = b"".join(
    [
        frame(b'\x04{"Width":120,"Height":40}\n', mask=MASK),
        frame(b"\x00ls\r", mask=b"\x01\x02\x03\x04"),
        frame(b"", opcode=9, mask=MASK),
        frame(b"\x00pass", mask=MASK, fin=False),
        frame(b"ping", opcode=9, mask=MASK),
        frame(b"word\r", mask=b"\x05\x06\x07\x08", opcode=0),
        frame(b"\x01forged output", mask=MASK),
        frame(b"\xff\x00", mask=MASK),
    ]
)
DOWN = b"".join(
    [
        frame(b"\x01"),
        frame(b"\x01" + b"a" * 200),
        frame(b"\x02err"),
        frame(b"\x01" + b"b" * 70_000),
        frame(b'\x03{"status":"Success"}'),
    ]
)


@given(st.lists(st.integers(0, 80_000), max_size=20))
def test_a_websocket_is_read_however_it_is_cut(cuts: list[int]) -> None:
    decoder = WebSocketChannels(V5, keys=True)
    assert joined(in_pieces(decoder.up, UP, cuts)) == [("r", b"120x40"), ("i", b"ls\rpassword\r")]
    shown = joined(in_pieces(decoder.down, DOWN, cuts))
    assert shown == [("o", b"a" * 200 + b"err" + b"b" * 70_000), ("s", b'{"status":"Success"}')]


def test_keys_are_not_even_unmasked_without_being_asked_for() -> None:
    assert joined(WebSocketChannels(V5).up(UP)) == [("r", b"120x40")]


def test_base64_channels_are_read() -> None:
    decoder = WebSocketChannels("base64.channel.k8s.io", keys=True)
    text = b"1" + base64.b64encode(b"hello world")
    raw = frame(text[:6], opcode=1, fin=False) + frame(text[6:], opcode=0)
    assert joined(decoder.down(raw)) == [("o", b"hello world")]
    with pytest.raises(Undecodable, match="base64"):
        decoder.down(frame(b"1====", opcode=1))


@pytest.mark.parametrize("raw", [b"\xc2\x05\x01hell", b"\x83\x05\x01hell"])
def test_extensions_and_unknown_frames_are_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        WebSocketChannels(V5).down(raw)


def test_an_unknown_protocol_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="v9"):
        WebSocketChannels("v9.channel.k8s.io")


@pytest.mark.parametrize("protocol", [V5, "v4.base64.channel.k8s.io"])
def test_what_we_say_is_read_as_any_other_message(protocol: str) -> None:
    for text in (b"short", b"long" * 100):
        assert joined(WebSocketChannels(protocol).down(said(protocol, 2, text))) == [("o", text)]


def spdy_session() -> tuple[bytes, bytes]:
    client = Client()
    up = b"".join(client.open(word) for word in ("error", "stdin", "stdout", "resize"))
    up += data(7, b'{"Width":90,"Height":20}\n') + data(3, b"id\r") + data(5, b"forged")
    up += b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"  # a ping
    settings = b"\x80\x03\x00\x04\x00\x00\x00\x0c" + bytes(12)
    down = reply(1) + settings + reply(3) + reply(5) + reply(7) + data(5, b"uid=0") + data(5, b"") + data(5, b"(root)")
    return up, down + data(1, b'{"status":"Success"}')


@given(st.lists(st.integers(0, 400), max_size=20))
def test_spdy_is_read_however_it_is_cut(cuts: list[int]) -> None:
    up, down = spdy_session()
    decoder = SpdyStreams(keys=True)
    assert joined(in_pieces(decoder.up, up, cuts)) == [("r", b"90x20"), ("i", b"id\r")]
    assert joined(in_pieces(decoder.down, down, cuts)) == [("o", b"uid=0(root)"), ("s", b'{"status":"Success"}')]


def test_a_stream_of_unknown_name_counts_as_output() -> None:
    decoder = SpdyStreams()
    decoder.up(Client().open("something"))
    assert joined(decoder.down(data(1, b"shown"))) == [("o", b"shown")]


@given(st.lists(st.integers(0, 400), max_size=10))
def test_an_announcement_stands_behind_the_reply_to_its_stream(cuts: list[int]) -> None:
    up, down = spdy_session()
    streams = SpdyStreams()
    streams.up(up)
    note = Announcement(streams, 1, b"recorded\r\n")
    places = sorted({0, len(down), *(cut % (len(down) + 1) for cut in cuts)})
    pieces = [down[begin:end] for begin, end in itertools.pairwise(places)]
    out = b"".join(piece if note.is_done else note.insert(piece) for piece in pieces)
    assert out == down.replace(reply(5), reply(5) + data(5, b"recorded\r\n"))
    assert joined(SpdyStreams.down(streams, out))[0] == ("o", b"recorded\r\nuid=0(root)")


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_undecodable(raw: bytes) -> None:
    decoders: list[Decoder] = [WebSocketChannels(V5, keys=True), SpdyStreams(keys=True)]
    for decoder in decoders:
        for take in (decoder.up, decoder.down):
            try:
                take(raw)
            except Undecodable:
                continue


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_of_a_head_does_no_harm(place: int, byte: int) -> None:
    up, down = spdy_session()
    broken = bytearray(up)
    broken[place % len(up)] = byte
    decoder = SpdyStreams(keys=True)
    try:
        decoder.up(bytes(broken))
        decoder.down(down)
    except Undecodable:
        return


def test_a_bomb_of_headers_is_undecodable() -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(bytes(50_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = (1).to_bytes(4, "big") + bytes(6) + block
    with pytest.raises(Undecodable, match="too large"):
        SpdyStreams().up(b"\x80\x03\x00\x01\x00" + len(payload).to_bytes(3, "big") + payload)


def test_a_size_that_is_none_is_passed_over() -> None:
    up = frame(b'\x04{"Width":"x"}\n', mask=MASK) + frame(b"\x04" + b"[" * 3000 + b"}", mask=MASK)
    up += frame(b'\x04{"Width":99999999,"Height":1}', mask=MASK) + frame(b'\x04{"Width":8,"Height":9}', mask=MASK)
    assert WebSocketChannels(V5).up(up) == [("r", b"8x9")]


def test_random_output_comes_out_whole() -> None:
    body = os.urandom(100_000)
    raw = b"".join(frame(b"\x01" + body[at : at + 32_000]) for at in range(0, len(body), 32_000))
    assert joined(WebSocketChannels(V5).down(raw)) == [("o", body)]

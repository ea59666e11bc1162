"""Frames of SPDY as a client and a kubelet send them, cut anywhere: when something can be added behind, and what."""

from __future__ import annotations

import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube import last_words as spdy
from towline.kube.last_words import CommandWitness
from towline.kube.spdy import DICTIONARY, SYN_STREAM

STATUS = b'{"status":"Success"}'


def opening(stream: int, kind: str, packer: zlib._Compress) -> bytes:
    """A frame that opens a stream, as kubectl does."""
    pairs = [(b"streamtype", kind.encode())]
    block = struct.pack(">I", len(pairs))
    for name, value in pairs:
        block += struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value
    packed = packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)
    return control(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + packed)


def control(kind: int, content: bytes, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, len(content)) + content


def frame(stream: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags << 24 | len(content)) + content


def of_client(first: str = "error") -> bytes:
    packer = zlib.compressobj(zdict=DICTIONARY)
    return b"".join(opening(1 + 2 * at, kind, packer) for at, kind in enumerate((first, "stdin", "stdout")))


def witness(client: bytes | None = None) -> CommandWitness:
    made = CommandWitness()
    made.from_client(of_client() if client is None else client)
    return made


def test_command_that_broke_off_fails_on_its_error_stream() -> None:
    there = witness()
    there.from_target(control(2, b"\0\0\0\1......") + frame(5, b"output"))

    words = there.last_words("the cluster has gone")

    stream, rest = struct.unpack(">II", words[:8])
    assert (stream, rest >> 24, rest & 0xFFFFFF) == (1, spdy.FIN, len(words) - 8)
    told = json.loads(words[8:])
    assert (told["status"], told["message"]) == ("Failure", "the cluster has gone")
    assert there.last_words("again") == b""


@pytest.mark.parametrize(
    "told",
    [
        frame(1, STATUS), frame(1, b"", spdy.FIN), frame(1, STATUS, spdy.FIN),
        control(spdy.RST_STREAM, b"\0\0\0\1\0\0\0\5"), control(spdy.GOAWAY, b"\0\0\0\1\0\0\0\0"),
    ],
)  # fmt: skip
def test_nothing_is_added_to_what_the_other_side_has_told(told: bytes) -> None:
    there = witness()
    there.from_target(frame(5, b"output") + told)
    assert there.last_words("gone") == b""


@pytest.mark.parametrize("cut", range(1, 8 + 6))
def test_nothing_is_added_within_a_frame(cut: int) -> None:
    there = witness()
    there.from_target(frame(5, b"before") + frame(5, b"output")[:cut])
    assert there.last_words("gone") == b""


@pytest.mark.parametrize(
    "client",
    [b"", of_client("stdout"), of_client()[:-100], b"GET / HTTP/1.1\r\n\r\n", control(1, b""), control(1, b"x" * 50),
     control(1, b"x" * 20_000), control(6, b"ping")],
)  # fmt: skip
def test_nothing_is_added_where_the_error_stream_is_not_known(client: bytes) -> None:
    there = witness(client[:30] if client == of_client()[:-100] else client)
    there.from_target(frame(5, b"output"))
    assert there.last_words("gone") == b""


def test_nothing_is_added_to_what_is_no_spdy() -> None:
    there = witness()
    there.from_target(control(2, b"", version=2))
    assert there.last_words("gone") == b""


@given(st.lists(st.integers(1, 40)), st.lists(st.binary(max_size=60), max_size=6))
def test_cuts_of_the_bytes_change_nothing(sizes: list[int], outputs: list[bytes]) -> None:
    client, target = of_client(), b"".join(frame(5, each) for each in outputs)
    whole, cut = CommandWitness(), CommandWitness()
    for there, pieces in ((whole, (client, target)), (cut, None)):
        for feed, data in ((there.from_client, client), (there.from_target, target)):
            if pieces is not None:
                feed(data)
                continue
            at = 0
            for size in [*sizes, len(data)]:
                feed(data[at : at + size])
                at += size
    assert whole.last_words("gone") == cut.last_words("gone") != b""

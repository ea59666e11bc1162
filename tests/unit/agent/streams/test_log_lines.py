import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.agent.streams.log_lines import (
    BLOCK_BYTES,
    CUT_NOTE,
    ENTRY_BYTES,
    MAX_LINE_BYTES,
    FileCutter,
    FrameCutter,
    TerminalCutter,
    frames,
)
from towline.wire.streams import STDERR, STDOUT, FrameReader

A = b"2026-11-21T10:14:02.000000001Z "
B = b"2026-11-21T10:14:02.000000002Z "


def framed(kind: int, entry: bytes) -> bytes:
    return struct.pack(">BxxxI", kind, len(entry)) + entry


def entry(text: str, stream: str = "stdout", time: str = "2026-11-21T10:14:02.000000001Z") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n"


@given(st.lists(st.integers(1, 40), max_size=12))
def test_frames_cut_anywhere_give_the_same_lines(cuts):
    given_entries = [(1, A + b"one\n"), (2, B + b"two\n"), (1, B + b"\xff\x00\x1b[0m\r\n"), (1, A + b"\n")]
    data = b"".join(framed(*each) for each in given_entries)
    cutter, lines, at = FrameCutter(), [], 0
    for size in [*cuts, len(data)]:
        lines += cutter.feed(data[at : at + size])
        at += size
    assert lines == given_entries


def test_entries_of_one_line_are_joined_and_lose_their_stamps():
    cutter = FrameCutter()
    assert cutter.feed(framed(1, A + b"x" * ENTRY_BYTES)) == []
    assert cutter.feed(framed(2, B + b"between\n")) == [(STDERR, B + b"between\n")]
    assert cutter.feed(framed(1, A + b"end\n")) == [(STDOUT, A + b"x" * ENTRY_BYTES + b"end\n")]


def test_line_that_never_ended_stays_apart_from_the_next_one():
    cutter = FrameCutter()
    assert cutter.feed(framed(1, A + b"half")) == []
    assert cutter.feed(framed(1, B + b"whole\n")) == [(1, A + b"half\n"), (1, B + b"whole\n")]


def test_line_that_never_ended_is_flushed_once():
    cutter = FrameCutter()
    cutter.feed(framed(1, A + b"half"))
    assert cutter.flush() == [(1, A + b"half\n")]
    assert cutter.flush() == []


@pytest.mark.parametrize("parts", [4, 700])
def test_long_line_is_cut_and_not_held(parts):
    cutter = FrameCutter()
    for _ in range(parts):
        assert cutter.feed(framed(1, A + b"x" * ENTRY_BYTES)) == []
    assert sum(map(len, cutter._joiner.open.values())) <= MAX_LINE_BYTES + ENTRY_BYTES
    ((kind, line),) = cutter.feed(framed(1, A + b"\n"))
    assert (kind, len(line)) == (1, MAX_LINE_BYTES)
    assert line.startswith(A + b"xxx")
    assert line.endswith(b"x" + CUT_NOTE)


def test_engines_own_words_are_no_lines():
    cutter = FrameCutter()
    assert cutter.feed(framed(3, b"Error grabbing logs: gone\n")) == []
    assert cutter.errors == ["Error grabbing logs: gone"]


@given(st.lists(st.integers(1, 40), max_size=12))
def test_terminal_lines_lose_their_carriage_return(cuts):
    data = A + b"one\r\n" + B + b"a\rb\r\n" + B + b"open"
    cutter, lines, at = TerminalCutter(), [], 0
    for size in [*cuts, len(data)]:
        lines += cutter.feed(data[at : at + size])
        at += size
    assert lines == [(1, A + b"one\n"), (1, B + b"a\rb\n")]
    assert cutter.flush() == [(1, B + b"open\n")]


def test_stamps_inside_a_split_terminal_line_are_taken_out():
    text = b"y" * (2 * ENTRY_BYTES + 100)
    data = A + text[:ENTRY_BYTES] + A + text[ENTRY_BYTES : 2 * ENTRY_BYTES] + A + text[2 * ENTRY_BYTES :] + b"\r\n"
    assert TerminalCutter().feed(data) == [(1, A + text + b"\n")]


def test_terminal_line_without_end_does_not_fill_the_memory():
    cutter = TerminalCutter()
    cutter.feed(A)
    for _ in range(50):
        assert cutter.feed(b"z" * 100_000) == []
    assert len(cutter._rest) <= 2 * MAX_LINE_BYTES
    ((_, line),) = cutter.feed(b"\n")
    assert len(line) == MAX_LINE_BYTES


def test_file_entries_become_lines_with_full_stamps():
    data = entry("one\n") + entry("é\x00\n", "stderr", "2026-11-21T10:14:02.5Z")
    assert FileCutter().feed(data) == [
        (STDOUT, A + b"one\n"),
        (STDERR, b"2026-11-21T10:14:02.500000000Z " + "é\x00\n".encode()),
    ]


def test_file_entries_of_one_line_are_joined():
    cutter = FileCutter()
    assert cutter.feed(entry("x" * ENTRY_BYTES)) == []
    assert cutter.feed(entry("y\n")) == [(STDOUT, A + b"x" * ENTRY_BYTES + b"y\n")]


def test_damaged_line_of_a_file_costs_only_itself():
    assert FileCutter().feed(entry("one\n") + b'\x00\x00{"log\n' + entry("two\n")) == [
        (STDOUT, A + b"one\n"),
        (STDOUT, A + b"two\n"),
    ]


def test_same_output_gives_the_same_lines_by_file_and_by_engine():
    texts = ["a\n", "b" * ENTRY_BYTES, "c\n", "d\n"]
    by_engine = FrameCutter().feed(b"".join(framed(1, A + text.encode()) for text in texts))
    assert FileCutter().feed(b"".join(map(entry, texts))) == by_engine


@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(0, MAX_LINE_BYTES - len(A) - 1)), max_size=12))
def test_frames_hold_whole_lines_in_order_and_are_no_larger_than_a_block(shapes):
    lines = [(kind, A + b"x" * size + b"\n") for kind, size in shapes]
    found = []
    for frame in FrameReader().feed(b"".join(frames(lines, 5))):
        assert frame.source == 5
        assert len(frame.body) <= BLOCK_BYTES
        assert frame.body.endswith(b"\n")
        found += [(frame.kind, line + b"\n") for line in frame.body.split(b"\n")[:-1]]
    assert found == lines


def test_lines_of_a_terminals_file_lose_their_carriage_return():
    assert FileCutter(is_terminal=True).feed(entry("a\rb\r\n")) == [(STDOUT, A + b"a\rb\n")]

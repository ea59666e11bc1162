"""Lines of asciicast v2: whole characters, true times, whatever the bytes are."""

import json

from hypothesis import given
from hypothesis import strategies as st

from towline.control.recordings.asciicast import Encoder, head, line


def test_a_character_that_is_cut_comes_with_its_rest() -> None:
    encoder = Encoder()
    euro = "€".encode()
    lines = encoder.lines([(0.5, "o", euro[:1]), (0.75, "o", euro[1:] + b"!")])
    assert lines == '[0.75,"o","€!"]\n'.encode()


def test_what_never_becomes_whole_is_replaced_at_the_end() -> None:
    encoder = Encoder()
    assert encoder.lines([(1.0, "o", b"a\xe2")]) == b'[1.0,"o","a"]\n'
    assert json.loads(encoder.rest(2.0)) == [2.0, "o", "\ufffd"]
    assert encoder.rest(3.0) == b""


def test_keys_and_output_do_not_share_half_characters() -> None:
    encoder = Encoder()
    lines = encoder.lines([(0, "o", b"\xe2"), (0, "i", b"x"), (1, "o", b"\x82\xac"), (2, "r", b"80x24")])
    assert [json.loads(one) for one in lines.splitlines()] == [[0, "i", "x"], [1, "o", "€"], [2, "r", "80x24"]]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_become_the_same_text_however_they_are_cut(pieces: list[bytes]) -> None:
    encoder = Encoder()
    lines = encoder.lines((0.0, "o", piece) for piece in pieces) + encoder.rest(1.0)
    text = "".join(json.loads(one)[2] for one in lines.split(b"\n") if one)
    assert text == b"".join(pieces).decode("utf-8", "replace")


def test_the_head_is_version_two() -> None:
    made = head(
        columns=100, rows=30, began=1_790_000_000.5, seconds=1.25, title="ada", command="", more={"id": "rec_1"}
    )
    assert json.loads(made) == {
        "version": 2, "width": 100, "height": 30, "timestamp": 1_790_000_000, "duration": 1.25, "title": "ada",
        "env": {"TERM": "xterm-256color"}, "towline": {"id": "rec_1"},
    }  # fmt: skip
    assert line(1.23456789, "m", "x") == b'[1.234568,"m","x"]\n'

"""Log frames as JSON lines."""

import json

import msgspec

from towline.control.streams.lines import LineWriter
from towline.wire.streams import EVENT, SOURCE, STDERR, STDOUT, LogSource, encode_frame

SOURCE_FRAME = encode_frame(
    SOURCE, msgspec.json.encode(LogSource(container="c1", name="shop-web-1", project="shop", service="web")), 7
)


def _lines(data: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in data.splitlines()]


def test_each_line_of_a_frame_is_one_object() -> None:
    body = b"2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z two words\n"
    lines = _lines(LineWriter().feed(SOURCE_FRAME + encode_frame(STDERR, body, 7)))
    assert [line["text"] for line in lines] == ["one", "two words"]
    assert lines[1] == {
        "project": "shop",
        "service": "web",
        "container": "shop-web-1",
        "at": "2026-01-01T00:00:00.2Z",
        "stream": "stderr",
        "text": "two words",
    }


def test_frames_cut_anywhere_give_the_same_lines() -> None:
    data = SOURCE_FRAME + encode_frame(STDOUT, b"2026-01-01T00:00:00Z a\n", 7)
    writer = LineWriter()
    assert _lines(b"".join(writer.feed(bytes([byte])) for byte in data))[0]["text"] == "a"


def test_text_that_is_not_utf8_is_still_json() -> None:
    data = SOURCE_FRAME + encode_frame(STDOUT, b"2026-01-01T00:00:00Z \xff\x1b[31m\n", 7)
    assert "\x1b" in _lines(LineWriter().feed(data))[0]["text"]
    assert b"\x1b" not in LineWriter().feed(data)


def test_an_event_says_about_which_container_it_is() -> None:
    data = SOURCE_FRAME + encode_frame(EVENT, b'{"text":"restarted","at":"2026-01-01T00:00:00Z"}', 7)
    assert _lines(LineWriter().feed(data))[0]["event"] == "restarted"


def test_a_frame_of_an_undeclared_source_does_no_harm() -> None:
    assert _lines(LineWriter().feed(encode_frame(STDOUT, b"t x\n", 3)))[0]["container"] == ""

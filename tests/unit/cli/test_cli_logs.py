import json

import pytest

from towline.cli.logs import LogPrinter
from towline.wire.streams import EVENT, SOURCE, STDERR, STDOUT, encode_frame

WEB = {"container": "c1", "name": "shop-web-1", "project": "shop", "service": "web"}
AT = "2026-11-21T10:00:00.000000001Z"
LATER = "2026-11-21T10:00:00.000000002Z"


def source(number: int = 0, **fields: str) -> bytes:
    return encode_frame(SOURCE, json.dumps(WEB | fields).encode(), number)


def lines(*texts: tuple[str, str], kind: int = STDOUT, number: int = 0) -> bytes:
    return encode_frame(kind, "".join(f"{at} {text}\n" for at, text in texts).encode(), number)


def printed(printer: LogPrinter, data: bytes) -> bytes:
    return b"".join(text for _, text in printer.feed(data))


def test_a_line_is_printed_behind_its_service() -> None:
    assert printed(LogPrinter(), source() + lines((AT, "hello"))) == b"web | hello\n"


def test_a_line_keeps_its_spaces_and_may_be_empty() -> None:
    assert printed(LogPrinter(names=False), source() + lines((AT, "  a  b "), (AT, ""))) == b"  a  b \n\n"


def test_timestamps_are_printed_when_asked_for() -> None:
    assert printed(LogPrinter(timestamps=True), source() + lines((AT, "x"))) == f"web | {AT} x\n".encode()


def test_frames_may_be_cut_anywhere() -> None:
    data = source() + lines((AT, "one"), (LATER, "two"), kind=STDERR)
    for cut in range(len(data)):
        printer = LogPrinter()
        assert printed(printer, data[:cut]) + printed(printer, data[cut:]) == b"web | one\nweb | two\n"


def test_the_cursor_counts_the_lines_of_the_last_timestamp() -> None:
    printer = LogPrinter()
    printed(printer, source() + lines((AT, "a"), (LATER, "b"), (LATER, "c")))
    assert printer.cursors == {"c1": f"{LATER}/2"}


def test_the_cursor_goes_on_counting_over_blocks_of_one_timestamp() -> None:
    printer = LogPrinter()
    printed(printer, source() + lines((AT, "a"), (AT, "b")) + lines((AT, "c")))
    assert printer.cursors == {"c1": f"{AT}/3"}


def test_the_cursor_survives_a_reconnect_and_half_a_frame_does_not() -> None:
    printer = LogPrinter()
    printed(printer, source() + lines((AT, "a")) + lines((AT, "lost"))[:10])
    printer.reconnected()
    assert printed(printer, source() + lines((AT, "b"))) == b"web | b\n"
    assert printer.cursors == {"c1": f"{AT}/2"}


def test_lines_of_a_source_that_was_not_declared_are_left_out() -> None:
    assert printed(LogPrinter(), lines((AT, "who?"), number=7)) == b""


def test_events_are_marked() -> None:
    frame = encode_frame(EVENT, json.dumps({"text": "restarted", "at": 1}).encode())
    assert printed(LogPrinter(), source() + frame) == b"-- shop-web-1 restarted\n"


@pytest.mark.parametrize("steering", ["\x1b]0;title\x07", "\x1b[2J", "\x08", "\x00", "\x1bc"])
def test_on_a_terminal_control_sequences_are_taken_out(steering: str) -> None:
    text = printed(LogPrinter(names=False, colours=True), source() + lines((AT, f"a{steering}b")))
    assert b"\x1b" not in text
    assert b"\x07" not in text and b"\x08" not in text and b"\x00" not in text


def test_on_a_terminal_colours_stay() -> None:
    text = printed(LogPrinter(names=False, colours=True), source() + lines((AT, "\x1b[31mred\x1b[0m")))
    assert text == b"\x1b[31mred\x1b[0m\n"

"""Compose's progress, mostly on what Compose 2.40.3 really printed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose.progress import MAX_LINE_BYTES, Kind, LineSplitter, Progress, left_starting, parse_line

SAMPLES = Path(__file__).parent / "samples"


def _read(name: str) -> list[Progress]:
    lines = (SAMPLES / f"{name}.jsonl").read_bytes().splitlines()
    return [event for line in lines for event in parse_line(line)]


def test_up_tells_what_becomes_of_each_resource() -> None:
    events = _read("up")
    assert events[0] == Progress(Kind.VOLUME, "demo_dd", "Creating")
    assert Progress(Kind.CONTAINER, "demo-bad-1", "Started") in events
    assert events[-1] == Progress(Kind.CONTAINER, "demo-mig-1", "Exited")
    assert not any(event.is_error for event in events)


def test_pull_tells_bytes_of_each_layer_and_its_service() -> None:
    events = _read("pull")
    assert events[0] == Progress(Kind.IMAGE, "web", "Pulling")
    layer = next(event for event in events if event.kind is Kind.LAYER and event.total)
    assert (layer.parent, layer.status, layer.percent, layer.text) == ("web", "Downloading", 1, "")
    assert events[-1] == Progress(Kind.IMAGE, "web", "Pulled")


def test_a_failed_pull_gives_the_reason() -> None:
    errors = [event for event in _read("pullfail") if event.is_error]
    assert errors[0].subject == "web"
    assert "connection refused" in errors[-1].text


def test_a_failed_up_gives_the_reason_and_the_container() -> None:
    errors = [event for event in _read("upmissing") if event.is_error]
    assert errors[0].subject == "demo-web-1"
    assert errors[-1].text.startswith("Error response from daemon: No such image")


def test_a_build_tells_its_steps_and_output() -> None:
    events = _read("build")
    assert {event.kind for event in events} == {Kind.BUILD}
    assert any("RUN echo hi" in event.subject and event.status == "Done" for event in events)
    assert any(event.text.startswith("hi") for event in events)


def test_warnings_are_told_apart() -> None:
    line = b'{"level":"warning","msg":"The \\"X\\" variable is not set.","time":"2026-11-21T09:34:22Z"}'
    assert parse_line(line) == (Progress(Kind.WARNING, text='The "X" variable is not set.'),)


@pytest.mark.parametrize("line", [b"", b"   \n", b"{}", b'{"id":5}'])
def test_lines_that_say_nothing_give_nothing(line: bytes) -> None:
    assert parse_line(line) == ()


def test_plain_text_of_older_versions_is_passed_on() -> None:
    assert parse_line(b" Container demo-web-1  Started\n") == (
        Progress(Kind.TEXT, text="Container demo-web-1  Started"),
    )


def test_escape_sequences_never_get_through() -> None:
    (event,) = parse_line(b'{"error":true,"message":"\\u001b[2J\\u0000owned\\r"}')
    assert event.text == "\\x1b[2J\\x00owned\\x0d"
    (plain,) = parse_line(b"\x1b[31mred \xff\xfe")
    assert plain.text.startswith("\\x1b[31mred")


def test_a_huge_line_is_cut() -> None:
    (event,) = parse_line(b'{"error":true,"message":"' + b"x" * 10_000_000 + b'"}')
    assert len(event.text) <= 64 * 1024


def test_numbers_are_believed_only_when_they_are_numbers() -> None:
    (event,) = parse_line(b'{"id":"a","parent_id":"b","text":"x","current":true,"total":-5}')
    assert (event.current, event.total, event.percent) == (0, 0, None)


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    parse_line(line)
    parse_line(b"{" + line)


def test_deep_nesting_is_only_text() -> None:
    assert parse_line(b'{"a":' + b"[" * 100_000)[0].kind is Kind.TEXT


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=7))
def test_lines_are_the_same_however_the_bytes_arrive(lines: list[bytes], size: int) -> None:
    whole = b"\n".join(line.replace(b"\n", b"") for line in lines)
    splitter = LineSplitter()
    found = [line for at in range(0, len(whole), size) for line in splitter.feed(whole[at : at + size])]
    found += splitter.finish()
    assert b"\n".join(found) == whole.removesuffix(b"\n")


def test_a_line_without_end_costs_bounded_memory() -> None:
    splitter = LineSplitter()
    found = [line for _ in range(100) for line in splitter.feed(b"x" * 10_000)]
    assert [len(line) for line in found] == [MAX_LINE_BYTES]
    assert list(splitter.feed(b"tail\nnext\n")) == [b"next"]


def test_containers_that_were_about_to_start_when_a_command_broke_off_are_known() -> None:
    lines = [
        b'{"id":"Container demo-web-1","status":"Starting"}',
        b'{"id":"Container demo-mig-1","status":"Starting"}',
        b'{"id":"Container demo-web-1","status":"Started"}',
        b'{"error":true,"message":"unexpected EOF"}',
    ]
    assert left_starting(b"\n".join(lines)) == {"demo-mig-1"}
    assert left_starting(b"") == frozenset()

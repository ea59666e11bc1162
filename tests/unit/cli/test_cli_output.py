from datetime import UTC, datetime, timedelta

import pytest

from towline.cli.errors import AWAY, FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, CliError, from_answer
from towline.cli.output import ago, printable, size
from towline.cli.sse import ServerEvent, parse_events

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (0, "just now"),
        (30, "30 s ago"),
        (90, "1 min ago"),
        (7200, "2 h ago"),
        (3 * 86400, "3 d ago"),
        (-120, "in 2 min"),
    ],
)
def test_times_are_told_as_people_tell_them(passed: float, words: str) -> None:
    assert ago((NOW - timedelta(seconds=passed)).isoformat(), NOW) == words


def test_no_time_is_never() -> None:
    assert ago(None) == "never"


def test_sizes_have_binary_units() -> None:
    assert (size(512), size(2048), size(3 * 1024**3), size(None)) == ("512 B", "2 KiB", "3 GiB", "0 B")


def test_control_characters_of_others_are_shown_and_not_sent_to_the_terminal() -> None:
    assert printable("a\x1b[31m\x07ü\n") == "a\\x1b[31m\\x07ü\n"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, NOT_ALLOWED),
        (403, NOT_ALLOWED),
        (404, NOT_FOUND),
        (409, FAILED),
        (422, USAGE),
        (500, FAILED),
        (503, AWAY),
        (504, AWAY),
    ],
)
def test_each_status_becomes_its_documented_exit_code(status: int, code: int) -> None:
    assert from_answer(status, {"error": {"message": "no"}}, request="GET /x").code == code


def test_an_error_carries_message_hint_and_problems_with_their_lines() -> None:
    detail = {"problems": [{"message": "tab", "line": 3, "path": "services.web"}, {"message": "empty"}]}
    error = from_answer(422, {"error": {"message": "bad file", "hint": "mend it", "detail": detail}}, request="x")
    assert (error.message, error.hint, error.problems) == (
        "bad file",
        "mend it",
        ("line 3: tab (services.web)", "empty"),
    )


def test_an_answer_that_is_no_error_of_ours_says_its_status() -> None:
    assert isinstance(from_answer(502, "<html>", request="GET /x"), CliError)
    assert "502" in from_answer(502, "<html>", request="GET /x").message


def test_server_sent_events_are_read_with_kind_id_and_joined_data() -> None:
    lines = [": comment", "event: progress", "id: 7", "data: {", "data: }", "", "data: x", "", "event: none", ""]
    assert list(parse_events(lines)) == [ServerEvent("progress", "{\n}", "7"), ServerEvent("message", "x", "7")]

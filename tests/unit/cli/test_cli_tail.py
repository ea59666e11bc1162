"""What `towline tail` prints of each event."""

import json
from typing import Any

import pytest

from towline.cli.commands import tail
from towline.cli.errors import CliError
from towline.cli.output import Format

LINE: dict[str, Any] = {
    "at": "2026-11-21T10:11:12.345678Z",
    "route": "web",
    "request_id": "r-1",
    "address": "192.0.2.7",
    "method": "GET",
    "host": "shop.example.net",
    "path": "/a\x1b[31m",
    "status": 200,
    "received_bytes": 0,
    "sent_bytes": 12,
    "seconds": 0.0421,
    "outcome": "done",
}


def test_request_is_one_line_without_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    tail._take("request", LINE, Format.TABLE)
    printed = capsys.readouterr().out
    assert printed.startswith("10:11:12.345  200")
    assert "42 ms  192.0.2.7" in printed
    assert "GET shop.example.net/a" in printed
    assert "\x1b[31m" not in printed
    assert printed.count("\n") == 1


def test_request_that_was_not_answered_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    tail._take("request", LINE | {"status": 0, "outcome": "client_gone"}, Format.TABLE)
    printed = capsys.readouterr().out
    assert "---" in printed
    assert "client_gone" in printed


def test_programs_read_json_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    tail._take("request", LINE, Format.JSON)
    assert json.loads(capsys.readouterr().out) == LINE


def test_lines_that_were_left_out_are_told_and_the_end_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    tail._take("dropped", {"count": 7}, Format.TABLE)
    assert "7 requests" in capsys.readouterr().err
    with pytest.raises(CliError, match="withdrawn"):
        tail._take("end", {"error": {"message": "access to this stream was withdrawn"}}, Format.TABLE)

"""Tables and spans of time as kubectl and docker print them."""

from datetime import UTC, datetime

import pytest

from towline.agent.commands.docker.listing import size
from towline.agent.commands.tables import Table, age, span


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    lines = Table(["Name", "Ready"]).lay_out([["a-long-name", True], ["b", None]])
    assert lines == ["NAME          READY", "a-long-name   true", "b             <none>"]


def test_later_rows_come_without_a_header() -> None:
    table = Table(["Name"])
    table.lay_out([["a"]])
    assert table.lay_out([["b"]]) == ["b"]
    assert Table(["Name"], with_header=False).lay_out([["a"]]) == ["a"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (700, "11m"), (3 * 3600, "3h"), (3.5 * 3600, "3h30m"),
        (20 * 3600, "20h"), (3 * 86400 + 3600, "3d1h"), (30 * 86400, "30d"), (800 * 86400, "2y70d"), (-5, "0s"),
    ],
)  # fmt: skip
def test_spans_read_as_kubectls(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_an_age_that_nobody_knows_is_unknown() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert age("2026-01-01T00:00:00Z", now) == "60s"
    assert age(None, now) == age("yesterday", now) == "<unknown>"


@pytest.mark.parametrize(("amount", "shown"), [(0, "0B"), (999, "999B"), (1500, "1.5kB"), (7_340_000, "7.34MB")])
def test_sizes_read_as_dockers(amount: int, shown: str) -> None:
    assert size(amount) == shown

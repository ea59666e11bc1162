"""Ranges, steps and names of questions about usage."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from towline.control.errors import ApiError
from towline.control.usage import history, packing, pages
from towline.control.usage.history import Asked, Chosen, choose, frame, put_together
from towline.control.usage.packing import Point, one

NOW = 1_800_000_000.0
HOUR = 3600.0


def asked(**changes: Any) -> Asked:
    return Asked(**{"kind": "pod", "begin": NOW - HOUR, "end": NOW, **changes})


@pytest.mark.parametrize(("hours", "step", "points"), [(1, 60, 60), (6, 300, 72), (24, 300, 288)])
def test_the_step_follows_from_the_range(hours: int, step: int, points: int) -> None:
    begin, end, found = frame(asked(begin=NOW - hours * HOUR), NOW)
    assert (found, (end - begin) // found) == (step, points)


def test_a_range_that_begins_before_what_is_kept_begins_with_it() -> None:
    begin, _, step = frame(asked(begin=NOW - 100 * HOUR), NOW)
    assert (begin, step) == (NOW - 24 * HOUR, 300)


@pytest.mark.parametrize(
    "changes",
    [
        {"begin": NOW}, {"step": 30}, {"step": 420}, {"begin": NOW - 5 * HOUR, "step": 60},
        {"begin": NOW - 50 * HOUR, "end": NOW - 30 * HOUR}, {"begin": NOW + HOUR, "end": NOW + 2 * HOUR},
    ],
)  # fmt: skip
def test_ranges_without_an_answer_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        frame(asked(**changes), NOW)


def test_who_sees_some_namespaces_gets_no_name_of_another() -> None:
    chosen = choose(asked(namespace="shop", name="cart"), {"web"})
    assert not chosen.keeps("shop/cart", "pod")
    assert choose(asked(), {"web"}).keeps("web/a", "pod")
    assert not choose(asked(), {"web"}).keeps("website/a", "pod")
    assert not choose(asked(kind="namespace"), {"web"}).keeps("shop", "namespace")


def test_points_of_several_blocks_are_put_together_with_their_gaps() -> None:
    def block(begins: int, **cpu: int) -> tuple[int, bytes]:
        (made,) = packing.pack({f"web/{name}": one(value, 1) for name, value in cpu.items()})
        return begins, made.data

    blocks = [block(0, a=10, b=1), block(60, a=20), block(240, a=30)]
    (series,) = put_together(blocks, "pod", Chosen("web/a"), 0, 300, 60)
    assert [None if point is None else point.cpu for point in series.points] == [10, 20, None, None, 30]
    assert (series.namespace, series.name, series.whole.cpu) == ("web", "a", 20)
    (wide,) = put_together(blocks, "pod", Chosen("web/a"), 0, 300, 300)
    assert [point and point.cpu for point in wide.points] == [20]


@pytest.mark.parametrize(
    ("known", "connected", "word"),
    [
        (None, True, "unknown"),
        ({"source": "none", "reason": "no metrics"}, True, "unknown"),
        ({"source": "metrics"}, True, "measured"),
        ({"source": "metrics", "reason": "nodes are not measured"}, True, "partial"),
        ({"source": "metrics", "left_out": 3}, True, "partial"),
        ({"source": "metrics", "age": 600}, True, "away"),
        ({"source": "metrics", "age": 600}, False, "away"),
    ],
)
def test_it_is_said_how_well_a_cluster_is_measured(known: dict[str, Any] | None, connected: bool, word: str) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    row: Any = None
    if known is not None:
        sampled_at = now - timedelta(seconds=known.pop("age", 0))
        row = SimpleNamespace(**{"source": "none", "reason": "", "left_out": 0, "sampled_at": sampled_at, **known})
    cluster: Any = SimpleNamespace(connected=connected)
    state = history.standing(cluster, row, now)
    assert state.word == word
    assert bool(state.reason) == (word != "measured")


def test_series_are_ranked_by_the_mean_of_their_samples() -> None:
    def block(begins: int, **points: Point) -> tuple[int, bytes]:
        (made,) = packing.pack({f"web/{name}": point for name, point in points.items()})
        return begins, made.data

    busy, idle = Point(1, 90, 90, 90, 1, 1, 1), Point(9, 10, 10, 10, 5, 5, 5)
    blocks = [block(0, a=busy, b=one(30, 9), c=one(1, 1)), block(60, a=idle, b=one(30, 9))]
    assert history.rank(blocks, "pod", Chosen(), "cpu") == ["web/b", "web/a", "web/c"]
    assert history.rank(blocks, "pod", Chosen(), "memory") == ["web/b", "web/a", "web/c"]
    assert history.rank(blocks, "pod", Chosen(), "name") == ["web/a", "web/b", "web/c"]
    assert history.rank(blocks, "pod", Chosen("web/c"), "cpu") == ["web/c"]


@pytest.mark.parametrize(("cpu", "step", "points"), [((1, 2, None), 60, 2), ((1, None, 2), 60, 3), ((1, None), 300, 2)])
def test_a_minute_that_is_not_written_yet_is_no_gap(cpu: tuple[int | None, ...], step: int, points: int) -> None:
    series = history.Series("", "n1", [None if one_ is None else one(one_, 1) for one_ in cpu], one(1, 1))
    state = history.State("measured", "", "metrics", 0, None)
    row: Any = None
    found = history.History(row, state, False, "node", 0, len(cpu) * step, step, [series], 1)
    shown = pages.without_last(found)
    assert (len(shown.series[0].points), shown.end) == (points, points * step)

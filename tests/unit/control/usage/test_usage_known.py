"""What an agent tells of usage is added up by minutes; what is missing counts for nothing."""

from typing import Any

import pytest

from towline.control.usage.known import CLOSEST, Broken, Known, Minute
from towline.control.usage.packing import Point
from towline.wire import kube_usage
from towline.wire.kube_usage import LARGEST, Series
from towline.wire.link import KubeUsage

POD = Series(0, "pod", "web", "a")


def told(sequence: int, cpu: int | None = None, **changes: Any) -> KubeUsage:
    values = (0, cpu, 100) if cpu is not None else ()
    return KubeUsage(**{"sequence": sequence, "source": "metrics", "values": values, **changes})


def first(cpu: int = 10, **changes: Any) -> KubeUsage:
    return told(1, cpu, full=True, named=(POD,), **changes)


def test_samples_of_a_minute_are_one_point() -> None:
    known = Known()
    assert known.take(first(10), 60.0) is None
    assert known.take(told(2, 30), 90.0) is None
    minute = known.take(told(3, 50), 120.0)
    assert minute == Minute(60, {"pod": {"web/a": Point(2, 20, 10, 30, 100, 100, 100)}})
    assert known.close() == Minute(120, {"pod": {"web/a": Point(1, 50, 50, 50, 100, 100, 100)}})
    assert known.close() is None


def test_what_did_not_change_counts_in_every_sample() -> None:
    known = Known()
    known.take(first(10), 0.0)
    known.take(told(2), 30.0)
    assert known.close() == Minute(0, {"pod": {"web/a": Point(2, 10, 10, 10, 100, 100, 100)}})


def test_a_series_that_is_gone_counts_no_more() -> None:
    known = Known()
    known.take(first(10), 0.0)
    minute = known.take(told(2, gone=(0,)), 60.0)
    assert minute is not None
    assert known.close() is None
    assert len(known) == 0


def test_a_sample_counts_when_its_last_part_is_there() -> None:
    known = Known()
    known.take(first(10, more=True), 0.0)
    assert known.minute == 0
    known.take(told(2, named=(Series(1, "pod", "web", "b"),), values=(1, 5, 5)), 1.0)
    minute = known.close()
    assert minute is not None
    assert sorted(minute.points["pod"]) == ["web/a", "web/b"]


@pytest.mark.parametrize("sequence", [1, 3, 7])
def test_after_a_missing_message_only_a_full_sample_counts(sequence: int) -> None:
    known = Known()
    known.take(first(10), 0.0)
    with pytest.raises(Broken):
        known.take(told(sequence, 99), 30.0)
    with pytest.raises(Broken):
        known.take(told(sequence + 1, 99), 60.0)
    assert known.take(told(9, 20, full=True, named=(POD,)), 90.0) is not None
    assert known.take(told(10, 30), 119.0) is None


def test_samples_that_follow_too_closely_change_what_is_known_alone() -> None:
    known = Known()
    known.take(first(10), 0.0)
    known.take(told(2, 1000), CLOSEST - 1)
    known.take(told(3), CLOSEST + 1)
    minute = known.close()
    assert minute is not None
    assert minute.points["pod"]["web/a"].samples == 2


def test_a_clock_that_was_set_back_loses_no_minute() -> None:
    known = Known()
    known.take(first(10), 6000.0)
    minute = known.take(told(2, 20), 600.0)
    assert minute is not None
    assert (minute.begins, known.minute) == (6000, 600)


def test_series_beyond_the_limit_are_counted_as_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kube_usage.MOST_SERIES, "pod", 2)
    known = Known()
    named = tuple(Series(number, "pod", "web", f"p{number}") for number in range(5))
    known.take(told(1, full=True, named=named, left_out=4), 0.0)
    assert (len(known), known.standing.left_out) == (2, 7)


def test_bad_text_and_numbers_do_no_harm() -> None:
    known = Known()
    named = (Series(0, "pod", "w\x00eb", "a\x1b[31m" + "x" * 400),)
    known.take(told(1, full=True, named=named, values=(0, -5, 2**62, 9, 9, 9, 1)), 0.0)
    minute = known.close()
    assert minute is not None
    ((name, point),) = minute.points["pod"].items()
    assert name.isprintable()
    assert len(name) <= 317
    assert (point.cpu, point.memory) == (0, LARGEST)

"""Charts are drawn where somebody measured, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.usage import charts, views
from towline.control.usage.charts import HIGH, WIDE, Gap, Span, chart

spans = st.tuples(*[st.integers(0, 10**6)] * 3).map(lambda found: tuple(map(float, sorted(found))))


def test_a_gap_cuts_the_line() -> None:
    found = chart([(1, 1, 2), (1, 2, 2), None, None, (2, 2, 2)], 0, 60)
    assert found.lines == ("M0 50 L100 50 L300 0 L400 0", "M800 0 L900 0 L1000 0")
    assert found.gaps == (Gap(400, 400),)


def test_a_single_point_is_as_wide_as_its_step() -> None:
    assert chart([None, (0, 1, 1), None, None], 0, 60).lines == ("M250 0 L375 0 L500 0",)


def test_nothing_measured_is_one_gap_and_no_line() -> None:
    found = chart([None, None], 0, 60)
    assert (found.lines, found.bands, found.gaps) == ((), (), (Gap(0, WIDE),))


def test_a_measured_zero_is_a_line_on_the_ground() -> None:
    assert chart([(0, 0, 0)], 0, 60).lines == (f"M0 {HIGH} L500 {HIGH} L1000 {HIGH}",)


def test_ticks_divide_the_time() -> None:
    moments = [(at.hour, at.minute) for at, _ in chart([None] * 60, 0, 60).ticks]
    assert moments == [(0, 0), (0, 15), (0, 30), (0, 45), (1, 0)]


@given(st.lists(st.none() | spans, min_size=1, max_size=60))
def test_lines_and_gaps_share_the_whole_width(points: list[Span | None]) -> None:
    found = chart(points, 0, 60)
    drawn = 0.0
    for line in found.lines:
        corners = line[1:].split(" L")
        drawn += float(corners[-1].split()[0]) - float(corners[0].split()[0])
        assert all(0 <= float(corner.split()[1]) <= HIGH for corner in corners)
    assert drawn + sum(gap.width for gap in found.gaps) == pytest.approx(WIDE, abs=1)


@given(st.floats(0.001, 1e15))
def test_the_upper_edge_is_round_and_near(value: float) -> None:
    assert value * 0.999 <= charts.round_up(value) <= value * 2.51
    assert value <= charts.round_up_binary(value) or value <= 1
    assert charts.round_up_binary(value) <= max(1.0, value * 2)


@pytest.mark.parametrize(
    ("units", "words"),
    [(0, "0m"), (5, "0.5m"), (123, "12m"), (9_990, "999m"), (10_000, "1 core"), (25_000, "2.5 cores")],
)
def test_cpu_is_written_as_kubernetes_does(units: int, words: str) -> None:
    assert views.cores(units) == words

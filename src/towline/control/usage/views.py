"""What pages show of the history of usage: charts with their words, and rows of tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towline.control.usage import charts
from towline.control.usage.charts import Chart, Span
from towline.control.usage.history import History, Series, State
from towline.control.usage.packing import Point
from towline.control.web import seconds, size
from towline.wire.kube_usage import CPU_UNITS, MEMORY_UNIT

RANGES: dict[str, int] = {"1h": 3600, "6h": 6 * 3600, "24h": 24 * 3600}
"""What a page offers, by the word in its address."""
DEFAULT_RANGE = "1h"
SOURCES = {"metrics": "the metrics API", "kubelet": "the kubelets", "none": "nobody"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart with its words."""

    key: str
    title: str
    chart: Chart
    top: str
    half: str
    low: str
    mean: str
    high: str
    missing: str
    """How long nobody measured; empty: it was measured all the time."""
    words: str
    """All of it in a sentence, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what it is, a small chart, and its figures."""

    namespace: str
    name: str
    spark: tuple[str, ...]
    cpu: str
    cpu_high: str
    memory: str
    memory_high: str


@dataclass(frozen=True, slots=True)
class Shown:
    """The charts of one thing, or why there are none."""

    state: State
    source: str
    figures: tuple[Figure, ...]
    range: str
    step: str


def shown(found: History, range_: str, about: str) -> Shown:
    """Return the charts of the first series of a history. Args: about: what it is, in words."""
    figures: tuple[Figure, ...] = ()
    if found.series:
        one = found.series[0]
        figures = (_figure("cpu", "CPU", one, found, about), _figure("memory", "Memory", one, found, about))
    return Shown(found.state, SOURCES[found.state.source], figures, range_, seconds(found.step))


def rows(found: History) -> list[Row]:
    """Return the series of a history as lines of a table."""
    return [_row(one) for one in found.series]


def _row(one: Series) -> Row:
    whole = one.whole
    return Row(
        one.namespace, one.name, charts.spark(_spans(one.points, "cpu")), cores(whole.cpu), cores(whole.cpu_high),
        memory(whole.memory), memory(whole.memory_high),
    )  # fmt: skip


def _figure(key: str, title: str, one: Series, found: History, about: str) -> Figure:
    chart = charts.chart(_spans(one.points, key), found.begin, found.step, binary=key == "memory")
    show = cores if key == "cpu" else memory
    low, mean, high = (show(value) for value in _span(one.whole, key))
    missing = sum(point is None for point in one.points) * found.step
    silent = f"; not measured for {seconds(missing)} of it" if missing else ""
    length = seconds(found.end - found.begin)
    words = f"{title} of {about} in {length}: least {low}, mean {mean}, most {high}{silent}."
    return Figure(
        key, title, chart, show(chart.top), show(chart.top / 2), low, mean, high, seconds(missing) if missing else "",
        words,
    )  # fmt: skip


def _spans(points: Sequence[Point | None], key: str) -> list[Span | None]:
    return [None if point is None else _span(point, key) for point in points]


def _span(point: Point, key: str) -> Span:
    if key == "cpu":
        return point.cpu_low, point.cpu, point.cpu_high
    return point.memory_low, point.memory, point.memory_high


def cores(units: float) -> str:
    """Return CPU as Kubernetes writes it: thousandths below one core."""
    thousandths = units * 1000 / CPU_UNITS
    if thousandths >= 1000:
        return f"{thousandths / 1000:.2f}".rstrip("0").rstrip(".") + (" core" if thousandths == 1000 else " cores")
    return f"{thousandths:.0f}m" if thousandths >= 10 or thousandths == 0 else f"{thousandths:.1f}m"


def memory(units: float) -> str:
    """Return memory with its unit."""
    return size(units * MEMORY_UNIT)

"""Charts of usage: points to lines, bands, gaps and ticks, in the units of the box that a page draws. Pure.

The box is WIDE by HIGH and stretched to its place; text stands beside it in HTML, so that it is readable on a phone. A
line is never drawn over a step that nobody measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor, log2, log10

WIDE, HIGH = 1000, 100
TICKS = 4
"""Parts of the time axis: five labels fit beside each other at 360 px."""

ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""Upper edges whose halves are short numbers too."""

Span = tuple[float, float, float]
"""Least, mean and most of one step."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Steps that nobody measured, in the units of the box."""

    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What a page draws."""

    lines: tuple[str, ...]
    """Paths of the mean, one for each stretch that was measured."""
    bands: tuple[str, ...]
    """Areas from the least to the most."""
    gaps: tuple[Gap, ...]
    top: float
    """What the upper edge stands for, in the points' own unit."""
    ticks: tuple[tuple[datetime, bool], ...]
    """Moments below the axis, and whether the label may go where there is little room."""


def chart(points: Sequence[Span | None], begin: int, step: int, *, binary: bool = False) -> Chart:
    """Return the chart of points that begin at a moment.

    Args: binary: memory, whose round numbers are powers of two.
    """
    count = max(len(points), 1)
    width = WIDE / count
    most = max((one[2] for one in points if one is not None), default=0.0)
    top = round_up_binary(most) if binary else round_up(most)
    stretches = _stretches(points)
    return Chart(
        tuple(_line(points, stretch, width, top) for stretch in stretches),
        tuple(_band(points, stretch, width, top) for stretch in stretches),
        tuple(_gaps(stretches, count, width)),
        top,
        tuple(
            (datetime.fromtimestamp(begin + step * count * place / TICKS, UTC), place % 2 == 1)
            for place in range(TICKS + 1)
        ),
    )


def _stretches(points: Sequence[Span | None]) -> list[range]:
    """Return where points follow each other without a gap."""
    found: list[range] = []
    begin: int | None = None
    for at, point in enumerate([*points, None]):
        if point is not None and begin is None:
            begin = at
        elif point is None and begin is not None:
            found.append(range(begin, at))
            begin = None
    return found


def _gaps(stretches: Sequence[range], count: int, width: float) -> list[Gap]:
    edges = [0, *(edge for one in stretches for edge in (one.start, one.stop)), count]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Gap(_short(begin * width), _short((end - begin) * width)) for begin, end in pairs if end > begin]


def _line(points: Sequence[Span | None], stretch: range, width: float, top: float) -> str:
    return "M" + " L".join(_places(points, stretch, width, top, 1))


def _band(points: Sequence[Span | None], stretch: range, width: float, top: float) -> str:
    there = _places(points, stretch, width, top, 2)
    return "M" + " L".join([*there, *reversed(_places(points, stretch, width, top, 0))]) + "Z"


def _places(points: Sequence[Span | None], stretch: range, width: float, top: float, which: int) -> list[str]:
    """Return the corners of one line: a point in the middle of its step, and the outer edges of the stretch."""
    heights = [_height(point[which], top) for point in (points[at] for at in stretch) if point is not None]
    middles = [f"{_short((at + 0.5) * width):g} {height:g}" for at, height in zip(stretch, heights, strict=True)]
    first = f"{_short(stretch.start * width):g} {heights[0]:g}"
    last = f"{_short(stretch.stop * width):g} {heights[-1]:g}"
    return [first, *middles, last]


def _height(value: float, top: float) -> float:
    return _short(HIGH - HIGH * min(value / top, 1.0))


def _short(value: float) -> float:
    return round(value, 2)


def round_up(value: float) -> float:
    """Return the next of ROUND times a power of ten that is not less; 1 for nothing."""
    if value <= 0:
        return 1.0
    scale: float = 10.0 ** floor(log10(value))
    return next(step * scale for step in ROUND if value <= step * scale * 1.000001)


def round_up_binary(value: float) -> float:
    """Return the next power of two, or one and a half of one, that is not less; 1 for nothing."""
    if value <= 1:
        return 1.0
    power: float = 2.0 ** ceil(log2(value))
    return 0.75 * power if value <= 0.75 * power else power


def spark(points: Sequence[Span | None]) -> tuple[str, ...]:
    """Return the paths of a small chart without axes."""
    return chart(points, 0, 1).lines

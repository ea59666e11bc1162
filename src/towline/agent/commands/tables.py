"""Tables of text, as kubectl and docker print them: columns three blanks apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

GAP = "   "
WIDEST = 400
"""Characters of one cell: a longer one makes every line of the table as long."""


class Table:
    """Prints rows that come in parts under one header; a column keeps the width that it has got."""

    def __init__(self, header: Sequence[str], *, with_header: bool = True) -> None:
        self._header = [name.upper() for name in header]
        self._widths = [len(name) for name in self._header]
        self._begun = not with_header

    def lay_out(self, rows: Iterable[Sequence[object]]) -> list[str]:
        """Return the lines of some rows, behind the header when they are the first."""
        cells = [[_cell(value) for value in row] for row in rows]
        for row in cells:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], len(cell))
        if not self._begun:
            self._begun = True
            cells.insert(0, self._header)
        return [self._line(row) for row in cells]

    def _line(self, row: Sequence[str]) -> str:
        return GAP.join(cell.ljust(width) for cell, width in zip(row, self._widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "<none>"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("\n", " ")[:WIDEST]


def age(stamp: str | None, now: datetime) -> str:
    """Return how long ago a moment was, as kubectl writes it: `5m`, `3h12m`, `4d`; `<unknown>` without one."""
    if not stamp:
        return "<unknown>"
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return "<unknown>"
    return span((now - moment.replace(tzinfo=moment.tzinfo or UTC)).total_seconds())


def span(seconds: float) -> str:
    """Return a duration as kubectl writes it. Source: apimachinery, duration.HumanDuration."""
    left = max(0, int(seconds))
    days, hours, minutes = left // 86400, left // 3600, left // 60
    if left < 120:
        return f"{left}s"
    if minutes < 10:
        return f"{minutes}m{left % 60}s" if left % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"

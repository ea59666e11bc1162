"""How results are printed: tables for people, JSON or YAML for programs. Nothing is coloured outside a terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

STATE_STYLES = {
    "healthy": "green", "degraded": "yellow", "down": "red", "working": "blue", "unknown": "bright_black",
    "succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "blue", "waiting": "yellow",
    "expired": "red", "superseded": "bright_black", "active": "green", "suspect": "red", "revoked": "bright_black",
    "issued": "green", "ordering": "blue", "blocked": "yellow",
    "verified": "green", "pending": "yellow", "proposed": "blue", "conflict": "red", "refused": "bright_black",
    "leaving": "yellow", "lapsed": "red", "switched off": "bright_black",
}  # fmt: skip
STATE_SHAPES = {"healthy": "●", "degraded": "◐", "down": "✕", "working": "◌", "unknown": "○"}

COMPLETION = "_TOWLINE_COMPLETE"
"""Variable that a shell's completion script sets: words to complete are asked for, nothing is run."""
WIDE = 10_000
"""Columns where standard output is no terminal: lines of a table stay whole for grep and awk."""
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Column = tuple[str, Callable[[dict[str, Any]], Any]]


def show(value: Any, format: Format, table: Callable[[], None]) -> None:
    """Print a result: as data for programs, or by `table` for people."""
    if format is Format.JSON:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        print()
    elif format is Format.YAML:
        yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True)
    else:
        table()


def show_list(items: Iterable[dict[str, Any]], format: Format, columns: Sequence[Column], *, empty: str) -> None:
    """Print a list; an empty one tells people what would be here."""
    rows = list(items)

    def table() -> None:
        if not rows:
            err.print(escape(empty))
            return
        grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for title, _ in columns:
            grid.add_column(title, overflow="fold")
        for row in rows:
            grid.add_row(*(cell(read(row)) for _, read in columns))
        out.print(grid, soft_wrap=False, crop=False)

    show(rows, format, table)


def show_facts(value: dict[str, Any], format: Format, facts: Sequence[tuple[str, Any]]) -> None:
    """Print one thing as `name  value` lines; facts without a value are left out."""

    def table() -> None:
        grid = Table(box=None, pad_edge=False, show_header=False)
        grid.add_column(style="bold")
        grid.add_column(overflow="fold")
        for name, fact in facts:
            if fact not in (None, "", [], {}):
                grid.add_row(name, cell(fact))
        out.print(grid, soft_wrap=False, crop=False)

    show(value, format, table)


def cell(value: Any) -> Text:
    """Return a table cell; text of others is never read as markup, and its control characters are shown."""
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text("" if value is None else printable(str(value)))


def printable(text: str) -> str:
    """Escape control characters, so that text from a host cannot steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def state(word: str, reason: str = "") -> Text:
    """Return a state as shape, word and colour, with its reason."""
    shape = STATE_SHAPES.get(word, "")
    text = Text(f"{shape} {word}".strip(), style=STATE_STYLES.get(word, ""))
    return text.append(f"  {printable(reason)}", style="not bold default") if reason else text


def ago(at: str | None, now: datetime | None = None) -> str:
    """Return a relative time of RFC 3339 text."""
    if not at:
        return "never"
    passed = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    if passed < 0:
        return f"in {_span(-passed)}"
    return "just now" if passed < 2 else f"{_span(passed)} ago"


def moment(at: str | None) -> str:
    """Return RFC 3339 text in the reader's zone, to the second."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def quiet_logs() -> None:
    """Keep log lines of shared code off the terminal; only failures are shown, on standard error."""
    import logging

    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _span(seconds: float) -> str:
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {word}"
    return f"{int(seconds // 86400)} d"


def size(amount: float | None) -> str:
    """Return bytes with a binary unit."""
    value = float(amount or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def labels(mapping: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(mapping.items()))


def reach(scope: dict[str, Any]) -> str:
    """Return where a role holds, as `--on` takes it."""
    cluster, project = scope.get("cluster") or scope.get("cluster_id") or "", scope.get("project") or ""
    if scope["kind"] == "org":
        return "everything"
    if scope["kind"] == "selector":
        return f"labels={labels(scope.get('selector') or {}).replace(' ', ',')}"
    named = {"cluster": cluster, "project": f"{cluster}/{project}" if cluster else project}
    return f"{scope['kind']}={named.get(scope['kind'], scope.get('namespace', ''))}"


def done(text: str) -> None:
    """Say on stderr what was done, so that stdout stays data."""
    err.print(Text(printable(text)))

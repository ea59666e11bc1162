"""Moments of log lines: stamps of fixed width that sort as bytes, and what the engine takes as `since` and `until`.

A stamp is RFC 3339 in UTC with nine digits, as the engine writes it before each line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

STAMP_BYTES = len("2006-01-02T15:04:05.000000000Z")
PREFIX_BYTES = STAMP_BYTES + 1
"""A stamp and the space behind it."""

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_BILLION = 1_000_000_000


class BadMoment(ValueError):
    """Not a time, or not a cursor. The text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """So many lines of that very stamp were had already, and everything before it."""

    stamp: bytes
    count: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `TIMESTAMP/COUNT`. Raises: BadMoment."""
        moment, slash, count = text.partition("/")
        if not slash or not count.isascii() or not count.isdigit() or len(count) > 9:
            raise BadMoment(f"{text[:60]!r} is not a cursor of the form TIMESTAMP/COUNT")
        return cls(stamp(moment), int(count))


def stamp(text: str) -> bytes:
    """Turn RFC 3339 into a stamp. Raises: BadMoment."""
    return _stamp(nanoseconds(text))


def nanoseconds(text: str) -> int:
    """Turn RFC 3339 into nanoseconds since the epoch. Raises: BadMoment."""
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        whole, fraction, zone = match.groups(default="")
        seconds = int(datetime.fromisoformat(whole + zone.upper()).timestamp())
    except (ValueError, OverflowError) as error:
        raise BadMoment(f"{text[:60]!r} is not a time as in 2006-01-02T15:04:05Z") from error
    return seconds * _BILLION + int(fraction.ljust(9, "0") or "0")


def earlier(moment: bytes, seconds: float) -> bytes:
    """Return the stamp of so many seconds before another one."""
    return _stamp(nanoseconds(moment.decode()) - int(seconds * _BILLION))


def engine_time(moment: bytes) -> str:
    """Turn a stamp into what the engine takes: seconds, a point, nine digits."""
    seconds, rest = divmod(nanoseconds(moment.decode()), _BILLION)
    return f"{seconds}.{rest:09d}"


def full_stamp(text: str) -> str:
    """Give a time of the engine's files, whose last zeros are left out, the width of a stamp."""
    if len(text) == STAMP_BYTES:
        return text
    whole, _, fraction = text.rstrip("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}Z"


def _stamp(value: int) -> bytes:
    """Nothing was written before 1970: the engine's word for never is the year 1."""
    value = max(0, value)
    seconds, rest = divmod(value, _BILLION)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()

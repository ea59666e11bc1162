"""Moments as RFC 3339 text, as Go programs write them: up to nanoseconds, any offset. No clock here."""

import re
from datetime import UTC, datetime

_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339 5.6


def parse(text: str) -> datetime | None:
    """Read a moment; None when it is not one. Nanoseconds are cut to microseconds."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    day, time, fraction, zone = found.groups()
    offset = "+00:00" if zone in "Zz" else zone
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6]:0<6}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):  # a thirteenth month, a leap second, the year 0
        return None


def write(moment: datetime) -> str:
    """Return an aware moment in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

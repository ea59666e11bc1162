"""Moments as people give them to logs: RFC 3339, or how long ago. Pure."""

import re
from datetime import UTC, datetime, timedelta

from towline.control.errors import ApiError, ErrorCode

_AGO = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d{1,9})?(Z|z|[+-]\d{2}:\d{2})")


def moment(text: str, now: datetime) -> str:
    """Return RFC 3339 in UTC with its nanoseconds kept; empty text stays empty. Raises: ApiError: invalid."""
    if not text:
        return ""
    if match := _AGO.fullmatch(text):
        past = now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        return past.astimezone(UTC).isoformat().replace("+00:00", "Z")
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        zone = "+00:00" if match[4] in "Zz" else match[4]
        whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ApiError(
            ErrorCode.INVALID, "a moment is RFC 3339, like 2026-01-31T14:02:00Z, or 30s, 10m, 2h, 3d"
        ) from error
    return f"{whole:%Y-%m-%dT%H:%M:%S}{match[3] or ''}Z"

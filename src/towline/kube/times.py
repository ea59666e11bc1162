"""Times as the API server writes them. Pure."""

from datetime import datetime


def moment(text: str | None) -> float:
    """Return an RFC 3339 time as seconds since the epoch; 0 for none."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0

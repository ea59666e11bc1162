"""Moments of log queries."""

from datetime import UTC, datetime

import pytest

from towline.control.errors import ApiError
from towline.control.streams.moments import moment

NOW = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("10m", "2026-03-04T13:55:00Z"),
        ("2d", "2026-03-02T14:05:00Z"),
        ("2026-03-04T14:02:03Z", "2026-03-04T14:02:03Z"),
        ("2026-03-04T14:02:03.123456789Z", "2026-03-04T14:02:03.123456789Z"),
        ("2026-03-04 15:02:03.5+01:00", "2026-03-04T14:02:03.5Z"),
    ],
)
def test_a_moment_is_utc_with_its_nanoseconds(text: str, expected: str) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "10", "m", "-5m", "2026-13-01T00:00:00Z", "2026-03-04", "9999999d", "1e9"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        moment(text, NOW)

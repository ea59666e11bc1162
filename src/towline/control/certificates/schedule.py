"""When something is tried again, when a certificate is renewed, and from when on people are warned. Pure."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

MINUTE, HOUR = 60.0, 3600.0
REFUSED_STEPS = (1 * MINUTE, 5 * MINUTE, 30 * MINUTE, 3 * HOUR, 12 * HOUR)
"""Seconds after the first, second, … refusal. The first is soon, because people correct what they just set up."""
UNREACHABLE_STEPS = (10.0, 30.0, 1 * MINUTE, 5 * MINUTE, 30 * MINUTE, 1 * HOUR)
"""Nothing was asked, so nothing was used up; an hour after it comes back everything is renewed."""
BLOCKED_STEPS = (5.0, 15.0, 30.0, 1 * MINUTE, 5 * MINUTE, 15 * MINUTE)
"""Looking costs the authority nothing: records that were just set are seen soon."""
JITTER = 0.1
RENEW_AT = 2 / 3
"""Part of its life after which a certificate is renewed where the authority does not say."""
WARN_AT = 3 / 4
"""Part of its life after which people are warned that the next one has not come."""
ARI_DEFAULT, ARI_LEAST, ARI_MOST = 6 * HOUR, MINUTE, 24 * HOUR
"""Between two questions when to renew; the authority's own wish is followed within these (RFC 9773 section 4.3)."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""How far our clock may be from the authority's: certificates begin an hour in the past for such."""


def pause(steps: tuple[float, ...], attempts: int, wish: float = 0.0) -> float:
    """Return the seconds until the next try: by the number of failures, never sooner than the authority's wish."""
    step = steps[min(max(attempts, 1), len(steps)) - 1]
    return max(step * (1 + random.uniform(0, JITTER)), wish)  # noqa: S311 - spreads load, hides nothing


def renew_at(begins_at: datetime, ends_at: datetime) -> datetime:
    """Return when to renew where the authority does not say; spread, so that names do not come all at once."""
    life = ends_at - begins_at
    return begins_at + life * RENEW_AT + life * random.uniform(0, JITTER / 2)  # noqa: S311


def moment_in(begins_at: datetime, ends_at: datetime) -> datetime:
    """Return a moment of the window that the authority suggests, any with equal chance (RFC 9773 section 4.2)."""
    return begins_at + (ends_at - begins_at) * random.random()  # noqa: S311


def ask_again(wish: float) -> float:
    """Return the seconds until the authority is asked again when to renew."""
    return min(max(wish or ARI_DEFAULT, ARI_LEAST), ARI_MOST)


def warn_at(begins_at: datetime, ends_at: datetime) -> datetime:
    """Return from when on people are warned."""
    return begins_at + (ends_at - begins_at) * WARN_AT

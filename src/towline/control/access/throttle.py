"""How often somebody may do something: the generic cell rate algorithm, in memory of one process.

Source: ATM Forum TM 4.0, "Generic Cell Rate Algorithm"; one moment per key is all the state there is.
"""

from __future__ import annotations

from collections import OrderedDict

from towline.aio.clock import Clock
from towline.control.errors import ApiError, ErrorCode
from towline.gateway.forwarded import source_key as gateway_source_key

KEYS_KEPT = 50_000
"""Callers remembered: some 10 MiB. Beyond it the longest quiet one is forgotten, which only helps that one."""


def source_key(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 that one IPv6 host owns."""
    try:
        return gateway_source_key(address)
    except ValueError:
        return address  # a test, or a Unix socket


class Throttle:
    """Allows `rate` events per second for each key, and `burst` at once."""

    def __init__(self, clock: Clock, *, rate: float, burst: int) -> None:
        self._clock = clock
        self._interval = 1.0 / rate
        self._tolerance = self._interval * burst
        self._due: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Throttle {1 / self._interval:g}/s {len(self._due)} keys>"

    def wait(self, key: str) -> float:
        """Count one event. Returns 0 when it is allowed, else the seconds until it would be."""
        now = self._clock.monotonic()
        due = max(self._due.get(key, now), now) + self._interval
        late = due - now - self._tolerance
        if late > 1e-9:
            return late
        self._due[key] = due
        self._due.move_to_end(key)
        if len(self._due) > KEYS_KEPT:
            self._due.popitem(last=False)
        return 0.0

    def check(self, key: str, what: str) -> None:
        """Count one event. Raises: ApiError: throttled, with the seconds to wait."""
        seconds = self.wait(key)
        if seconds:
            raise throttled(what, seconds)


def throttled(what: str, seconds: float) -> ApiError:
    """Return the error that tells when to come back."""
    return ApiError(
        ErrorCode.THROTTLED,
        f"too many {what}",
        hint=f"wait {max(1, round(seconds))} s",
        detail={"retry_after": round(seconds, 1)},
    )


def per_minute(clock: Clock, count: int) -> Throttle:
    """Return a throttle that allows some events per minute, all of them at once if need be."""
    return Throttle(clock, rate=count / 60.0, burst=count)

"""How often one client may ask: a bucket of tokens per address, in a table that cannot grow without end."""

from collections import OrderedDict

from towline.gateway.forwarded import source_key

MAX_CLIENTS = 10_000
"""Addresses remembered per route, about 2 MiB. Whoever is pushed out begins with a full bucket: a flood from more
addresses than this is not stopped by counting addresses."""


class RateLimiter:
    """Counts requests per client address (an IPv6 customer's /64). Args: rate: per second. burst: at once on top."""

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate: float, burst: int = 0) -> None:
        self._rate = rate
        self._burst = float(burst or max(1.0, rate))
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RateLimiter {self._rate:g}/s burst={self._burst:g} clients={len(self._buckets)}>"

    def wait(self, address: str, now: float) -> float:
        """Take a token; return 0, or the seconds until there is one. A refused request costs nothing."""
        key = source_key(address)
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate

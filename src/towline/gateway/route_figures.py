"""What happened on each route: plain numbers, bounded in their count. The control plane shows them to Prometheus."""

from bisect import bisect_left
from collections import Counter

from towline.gateway.interfaces import ToTarget

MAX_ROUTES = 1_000
"""Routes with figures of their own; the rest are counted together, so that labels stay bounded."""
OTHER = "other"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: upper bounds of the latency histogram."""


class RouteFigure:
    """One route's totals since the start."""

    __slots__ = ("buckets", "name", "open", "received_bytes", "seconds", "sent_bytes", "statuses")

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = 0
        """Requests that are being served now, upgraded connections among them."""
        self.statuses: Counter[int] = Counter()
        """By status class; 0 for a request that ended without an answer."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def __repr__(self) -> str:
        return f"<RouteFigure {self.name} open={self.open} requests={self.statuses.total()}>"

    def end(self, status: int, received_bytes: int, sent_bytes: int, seconds: float) -> None:
        """Count one request that is over."""
        self.open -= 1
        self.statuses[status // 100] += 1
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes
        if status != 101:  # how long a WebSocket stays is no latency
            self.seconds += seconds
            self.buckets[bisect_left(BOUNDS, seconds)] += 1


class RouteFigures:
    """The figures of all routes, by the route's id; routes without an id share their name."""

    def __init__(self) -> None:
        self._by_route: dict[str, RouteFigure] = {}
        self._other = RouteFigure(OTHER)

    def __repr__(self) -> str:
        return f"<RouteFigures {len(self._by_route)} routes>"

    def of(self, route: ToTarget) -> RouteFigure:
        """Return a route's figures."""
        found = self._by_route.get(route.id or route.name)
        return found if found is not None else self._new(route)

    def _new(self, route: ToTarget) -> RouteFigure:
        if len(self._by_route) >= MAX_ROUTES:
            return self._other
        found = self._by_route[route.id or route.name] = RouteFigure(route.name)
        return found

    def find(self, route_id: str) -> RouteFigure | None:
        """Return a route's own figures, when anything was asked of it; None also when it is counted with the rest."""
        return self._by_route.get(route_id)

    def all(self) -> list[RouteFigure]:
        """Return what there is to show, the common rest last when there is one."""
        rest = [self._other] if self._other.statuses or self._other.open else []
        return [*self._by_route.values(), *rest]

    def forget(self, route_id: str) -> None:
        """Drop the figures of a route that is gone; its place is free for another one."""
        self._by_route.pop(route_id, None)

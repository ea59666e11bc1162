"""Counts of the surface's own requests, for its figures: by declared path, never by what callers sent."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, as the control plane's."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Counted by name; every other word is `other`, so that callers cannot invent rows."""


@dataclass(slots=True)
class Seen:
    """One request while it runs."""

    status: int = 0


@dataclass(slots=True)
class Statistics:
    """Since the surface began."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """By method, path and status; status 0 for one that was cut."""
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Requests by how long they took; the last one for everything above."""
    seconds: float = 0.0
    running: int = 0
    live: Counter[str] = field(default_factory=Counter)
    """What is held open now, by kind: `websocket`, `events`, `logs`."""
    began: Counter[str] = field(default_factory=Counter)
    """The same, since the surface began."""
    cut: Counter[str] = field(default_factory=Counter)
    """Of those, the ones that the agent ended because the other side was too slow."""

    @contextlib.contextmanager
    def holding(self, kind: str) -> Iterator[None]:
        """Count something long for as long as it lasts."""
        self.live[kind] += 1
        self.began[kind] += 1
        try:
            yield
        finally:
            self.live[kind] -= 1

    @contextlib.contextmanager
    def request(self, method: str, path: str) -> Iterator[Seen]:
        """Count what happens within."""
        seen, began = Seen(), time.perf_counter()
        self.running += 1
        try:
            yield seen
        finally:
            self.running -= 1
            self._note(method if method in METHODS else "other", path or "none", seen.status, began)

    def _note(self, method: str, path: str, status: int, began: float) -> None:
        took = time.perf_counter() - began
        self.requests[method, path, status] += 1
        self.seconds += took
        place = next((index for index, edge in enumerate(BUCKETS) if took <= edge), len(BUCKETS))
        self.buckets[place] += 1

    @property
    def total(self) -> int:
        """Requests that ended."""
        return self.requests.total()

    @property
    def failed(self) -> int:
        """Those of them that the agent failed at, or that were cut."""
        return sum(count for (_, _, status), count in self.requests.items() if status >= 500 or status == 0)

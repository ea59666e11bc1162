"""The rows of one kind of objects, in the order of their keys, and how fresh they are. Who fills it: `cache.py`."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from towline.agent.kubernetes.watches import State
from towline.agent.surface import cluster
from towline.agent.surface.cluster import Row, Sort
from towline.agent.surface.selectors import Selector
from towline.aio.clock import Clock

What = Literal["added", "changed", "removed"]
Listener = Callable[[What, str, Row], None]
"""Called with what happened, the name of the kind, and the row."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How much a shelf is worth. `age`: seconds since it was known to be current; 0 while a watch is open."""

    state: State
    age: float
    reason: str
    namespaces: tuple[str, ...]
    """Those that were read one by one; empty: all."""


class Shelf:
    """The rows of one kind. Fed by one watcher, or by one for each namespace."""

    def __init__(
        self,
        sort: Sort[Any],
        allowed: Callable[[str], bool],
        told: Listener,
        clock: Clock,
        now: Callable[[], float],
    ) -> None:
        """`now` is the time of the cluster, in seconds since the epoch."""
        self.sort = sort
        self.rows: dict[str, Row] = {}
        self.namespaces: tuple[str, ...] = ()
        self.instead: tuple[str, ...] = ()
        """Namespaces that are read when all at once may not be."""
        self.removed = 0
        """How many rows have gone since the beginning."""
        self.is_read = False
        """True once everything was read, or denied."""
        self.settled = asyncio.Event()
        """Set while there is something to say: rows, or why there are none."""
        self._allowed = allowed
        self._told = told
        self._clock = clock
        self._now = now
        self._keys: list[str] | None = []
        self._aging: dict[str, Any] = {}
        """Objects whose rows time alone changes."""
        self._states: dict[str, tuple[State, str]] = {}
        self._current_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"<Shelf {len(self.rows)} {self.sort.source.kind} {self.freshness.state}>"

    # what a feed uses

    def key(self, found: Any) -> str:
        metadata = found.metadata
        return f"{metadata.namespace}/{metadata.name}"

    def put(self, found: Any) -> str:
        metadata = found.metadata
        if not self._allowed(metadata.name if self.sort is cluster.NAMESPACES else metadata.namespace):
            return ""
        row = self.sort.row(found, self._now())
        if row.until:
            self._aging[row.key] = found
        else:
            self._aging.pop(row.key, None)
        before = self.rows.get(row.key)
        self.rows[row.key] = row
        if before is None:
            self._keys = None
        if self.is_read and (before is None or before.shown != row.shown):
            self._told("added" if before is None else "changed", self.sort.name, row)
        return row.key

    def remove(self, key: str) -> None:
        self._aging.pop(key, None)
        row = self.rows.pop(key, None)
        if row is not None:
            self._keys = None
            self.removed += 1
            self._told("removed", self.sort.name, row)

    def turned(self, namespace: str, state: State, reason: str) -> None:
        """One of the watchers is in another state."""
        if self.freshness.state is State.FOLLOWING:
            self._current_at = self._clock.monotonic()
        self._states[namespace] = (state, reason)
        is_read_otherwise = state is State.DENIED and not namespace and self.instead
        if not is_read_otherwise and self._are_all(State.FOLLOWING, State.DENIED):
            self.is_read = True
        if self.is_read or state is State.AWAY:
            self.settled.set()
        else:
            self.settled.clear()

    def narrowed(self, namespaces: tuple[str, ...]) -> None:
        """From now on these namespaces are read one by one; none: all at once."""
        self.namespaces = namespaces
        self._states.clear()

    def age(self) -> None:
        """Make rows anew that time has changed: a pod that has run for long enough is well again."""
        now = self._now()
        for key, found in list(self._aging.items()):
            if now >= self.rows[key].until:
                self.put(found)

    # what questions use

    @property
    def freshness(self) -> Freshness:
        """The worst of what the watchers say."""
        order = (State.AWAY, State.LISTING, State.DENIED, State.FOLLOWING)
        state, reason = min(self._states.values(), key=lambda each: order.index(each[0]), default=(State.LISTING, ""))
        age = 0.0 if state is State.FOLLOWING else self._clock.monotonic() - self._current_at
        return Freshness(state, round(age, 3), reason, self.namespaces)

    def page(
        self, *, namespace: str = "", selector: Selector, behind: str = "", limit: int
    ) -> tuple[list[Row], str, int]:
        """Return rows in the order of their keys. Returns besides: the last key, if there are more, and how many."""
        if self._keys is None:
            self._keys = sorted(self.rows)
        begin = bisect.bisect_right(self._keys, behind) if behind else 0
        rows = (self.rows[key] for key in self._keys[begin:])
        found = [row for row in rows if (not namespace or row.namespace == namespace) and selector.matches(row.labels)]
        more = len(found) - limit
        return (found[:limit], found[limit - 1].key, more) if more > 0 else (found, "", 0)

    def _are_all(self, *states: State) -> bool:
        known = self._states.values()
        expected = len(self.namespaces) or 1
        return len(known) >= expected and all(state in states for state, _ in known)

"""Warnings of the last hour that matter, those of one reason about one object as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from towline.agent.kubernetes import described
from towline.agent.kubernetes.book import Book
from towline.agent.kubernetes.table import Allowed, Table
from towline.kube import objects
from towline.wire import kube_inventory as wire


@dataclass(slots=True)
class Warned:
    """Warnings of one reason about one object."""

    objects: dict[str, int] = field(default_factory=dict)
    """How often each of the event objects happened, by their keys."""
    last_at: float = 0.0


class EventTable(Table[objects.Event]):
    """Warnings, those of one reason about one object as one.

    Args: now: the cluster's time, in seconds since the epoch; a clock that jumps would lose them.
    """

    AGE_SECONDS = 3600.0
    """Older ones are no news; the API server itself forgets them after an hour."""
    MOST_OBJECTS = 5000
    """Event objects that are followed: beyond it the oldest are forgotten."""
    SOFT = frozenset({"Unhealthy", "FailedMount", "FailedScheduling"})
    SOFT_TIMES = 3
    """What happens on many a normal start matters when it repeats."""
    NOISE = frozenset({"DNSConfigForming", "FailedToUpdateEndpoint", "FailedToUpdateEndpointSlices"})
    """Warnings that mend themselves, or that nobody acts upon."""

    def __init__(self, book: Book, allowed: Allowed, now: Callable[[], float]) -> None:
        super().__init__(book, allowed)
        self._now = now
        self._entry_of: dict[str, str] = {}
        self._warned: dict[str, Warned] = {}

    def keep(self, key: str, found: objects.Event) -> None:
        entry = described.event(found)
        fresh = self._now() - entry.last_at < self.AGE_SECONDS
        if not fresh or found.type == "Normal" or entry.reason in self.NOISE:
            return
        told = wire.entry_key(entry)
        if len(self._entry_of) >= self.MOST_OBJECTS and key not in self._entry_of:
            self.remove(next(iter(self._entry_of)))
        warned = self._warned.setdefault(told, Warned())
        self._entry_of[key] = told
        warned.objects[key] = entry.count
        warned.last_at = max(warned.last_at, entry.last_at)
        count = sum(warned.objects.values())
        if count >= self.SOFT_TIMES or entry.reason not in self.SOFT:
            self._tell(replace(entry, count=count, last_at=warned.last_at))

    def _tell(self, entry: wire.Event) -> None:
        """Tell of a warning; where there is no room, in place of the oldest one that was told."""
        if self.book.put("events", entry):
            return
        told = [key for key in self._warned if self.book.has("events", key)]
        oldest = min(told, key=lambda key: self._warned[key].last_at)
        if self._warned[oldest].last_at < entry.last_at:
            self.book.remove("events", oldest)
            self.book.put("events", entry)

    def drop(self, key: str) -> None:
        told = self._entry_of.pop(key, "")
        warned = self._warned.get(told)
        if warned is None:
            return
        warned.objects.pop(key, None)
        if not warned.objects:
            del self._warned[told]
            self.book.remove("events", told)

    def forget_old(self) -> None:
        """Take back warnings that are no news any more."""
        oldest = self._now() - self.AGE_SECONDS
        for warned in list(self._warned.values()):
            if warned.last_at < oldest:
                for key in list(warned.objects):
                    self.remove(key)

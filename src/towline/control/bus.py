"""Hints between the parts of the control plane: "look at that row sooner". Never truth, never data.

In process by default. On PostgreSQL `pg_notify.py` joins the buses of several processes. A subscriber that reads too
slowly loses hints and gets one `resync` instead, which says: read everything again. The last hints are kept, so that
who read the rows a moment ago can subscribe to what came since.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

QUEUE_EVENTS = 1024
"""Hints that one subscriber may be behind before it is told to read everything again."""
KEPT_EVENTS = QUEUE_EVENTS
"""Hints that are kept for late subscribers: no more than one can be behind anyway."""

RESYNC = "resync"
PAGE_TOPICS = (
    "cluster", "agent", "deployment", "job", "inventory", "kubernetes", "audit", "access", "route", "domain",
    "certificate", "recording", "alert", "command", "usage",
)  # fmt: skip
"""What open pages hear of, `resync` besides: each page names them to its browser."""


@dataclass(frozen=True, slots=True)
class Event:
    """A topic (cluster, agent, deployment, job, audit, inventory, kubernetes, access, route), or `resync`, and ids."""

    topic: str
    ids: Mapping[str, str] = field(default_factory=dict)
    position: str = field(default="", compare=False)
    """Where the bus of this process stood behind it; subscribe after it to miss nothing."""


class Subscription:
    """What one subscriber has not read yet. Iterate over it; it ends when the bus is closed."""

    def __init__(self, topics: frozenset[str]) -> None:
        self._topics = topics
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_EVENTS + 1)

    def __repr__(self) -> str:
        return f"<Subscription {','.join(sorted(self._topics)) or '*'} {self._events.qsize()} waiting>"

    def wants(self, topic: str) -> bool:
        return not self._topics or topic in self._topics or topic == RESYNC

    def put(self, event: Event | None) -> None:
        """Add a hint; on overflow everything that waits is replaced by one `resync`."""
        if self._events.qsize() < QUEUE_EVENTS:
            self._events.put_nowait(event)
            return
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(Event(RESYNC))
        if event is None:
            self._events.put_nowait(None)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        return event


class Bus:
    """Hands hints to everybody who subscribed to their topic."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._forward: Callable[[Event], None] | None = None
        self._closed = False
        self._life = secrets.token_hex(4)
        self._count = 0
        self._kept: deque[Event] = deque(maxlen=KEPT_EVENTS)

    def __repr__(self) -> str:
        return f"<Bus {len(self._subscriptions)} subscribers>"

    @property
    def position(self) -> str:
        """Where the bus stands now. It means something to this process alone."""
        return f"{self._life}-{self._count}"

    def publish(self, topic: str, **ids: str) -> None:
        """Hint at a change. Call it after the commit, or use `Transaction.publish`, which waits for it."""
        event = Event(topic, ids)
        self.deliver(event)
        if self._forward is not None:
            self._forward(event)

    def deliver(self, event: Event) -> None:
        """Hand an event to the subscribers of this process alone."""
        self._count += 1
        event = replace(event, position=self.position)
        self._kept.append(event)
        for subscription in tuple(self._subscriptions):
            if subscription.wants(event.topic):
                subscription.put(event)

    def forward_to(self, forward: Callable[[Event], None] | None) -> None:
        """Name what carries our events to other processes."""
        self._forward = forward

    @asynccontextmanager
    async def subscribe(self, *topics: str, after: str = "") -> AsyncIterator[Subscription]:
        """Receive hints of some topics; of all without any. With a position: those since then first, or a `resync`."""
        subscription = Subscription(frozenset(topics))
        for event in self._since(after) if after else ():
            if subscription.wants(event.topic):
                subscription.put(event)
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.put(None)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def _since(self, position: str) -> list[Event]:
        """Return what was delivered behind a position; a `resync` when that is not known any more."""
        life, _, digits = position.partition("-")
        missed = self._count - int(digits) if life == self._life and digits.isdecimal() else -1
        if not 0 <= missed <= len(self._kept):
            return [Event(RESYNC, position=self.position)]
        return list(self._kept)[len(self._kept) - missed :]

    def close(self) -> None:
        """End every subscription, so that long streams finish."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.put(None)

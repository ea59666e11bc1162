"""Hints between the parts of the control plane: "look at that row sooner". Never truth, never data.

In process by default. On PostgreSQL `pg_notify.py` joins the buses of several processes. A subscriber that reads too
slowly loses hints and gets one `resync` instead, which says: read everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

QUEUE_EVENTS = 1024
"""Hints that one subscriber may be behind before it is told to read everything again."""

RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Event:
    """A topic (cluster, agent, deployment, job, audit, inventory, kubernetes, access), or `resync`, and ids."""

    topic: str
    ids: Mapping[str, str] = field(default_factory=dict)


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

    def __repr__(self) -> str:
        return f"<Bus {len(self._subscriptions)} subscribers>"

    def publish(self, topic: str, **ids: str) -> None:
        """Hint at a change. Call it after the commit, or use `Transaction.publish`, which waits for it."""
        event = Event(topic, ids)
        self.deliver(event)
        if self._forward is not None:
            self._forward(event)

    def deliver(self, event: Event) -> None:
        """Hand an event to the subscribers of this process alone."""
        for subscription in tuple(self._subscriptions):
            if subscription.wants(event.topic):
                subscription.put(event)

    def forward_to(self, forward: Callable[[Event], None] | None) -> None:
        """Name what carries our events to other processes."""
        self._forward = forward

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[Subscription]:
        """Receive hints of some topics; of all without any."""
        subscription = Subscription(frozenset(topics))
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.put(None)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription, so that long streams finish."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.put(None)

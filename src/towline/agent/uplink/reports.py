"""What the agent tells about its host while a link is up: heartbeats, facts and inventory. Jobs are `delivery.py`'s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from towline.agent.host import facts
from towline.agent.host.capabilities import CHECK_INTERVAL, Capabilities
from towline.agent.host.inventory import Inventory
from towline.agent.host.measures import Meter
from towline.agent.policy import LocalPolicy
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.reconnect import LinkStatus
from towline.tunnel.session import Session
from towline.wire import link

FACTS_INTERVAL = 60.0
"""Seconds between two looks at facts, which are sent when they differ."""

MAX_CONTAINERS_PER_MESSAGE = 400
"""Containers in one inventory message: at most some 2 KiB each, and a message ends at 1 MiB."""

_log = structlog.get_logger("towline.agent")


@dataclass(slots=True)
class Counts:
    """What other parts know and a heartbeat tells."""

    jobs_running: Callable[[], int]
    streams_open: Callable[[], int]
    time_offset: Callable[[], float]
    status: Callable[[], LinkStatus]
    is_private: Callable[[], bool | None] = lambda: None
    routes: Callable[[], int] = lambda: 0
    jobs_ended: Callable[[], Mapping[tuple[str, str], int]] = dict
    """By kind and outcome."""


class Teller(Protocol):
    """What tells something of its own over whatever link is up."""

    def connected(self, session: Session) -> None: ...
    def disconnected(self) -> None: ...


@dataclass(slots=True)
class Reports:
    """Reports over whatever link is up."""

    meter: Meter
    capabilities: Capabilities
    inventory: Inventory
    policy: Callable[[], LocalPolicy]
    counts: Counts
    owner: TaskOwner
    clock: Clock = REAL_CLOCK
    tellers: tuple[Teller, ...] = ()
    """Tell the inventory of the cluster, and routes, by themselves, once they have a link."""
    heartbeat_interval: float = 30.0
    _session: Session | None = None
    _facts: link.Facts | None = None
    _links: int = 0
    _look_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def connected(self, session: Session) -> None:
        """Tell a new link everything, and begin its heartbeats. Raises: TunnelClosed."""
        self._session = session
        self._links += 1
        await self.tell_again(session)
        self.owner.spawn("heartbeats", self._beat(session, self._links))

    async def tell_again(self, session: Session) -> None:
        """Tell facts and the whole inventory. Raises: TunnelClosed."""
        self._facts = self.read_facts()
        await session.send(self._facts)
        for message in in_parts(self.inventory.snapshot()):
            await session.send(message)
        for teller in self.tellers:
            teller.connected(session)

    def disconnected(self) -> None:
        """Keep quiet until the next link."""
        self._session = None
        for teller in self.tellers:
            teller.disconnected()
        self._links += 1

    async def watch(self) -> None:
        """Look at capabilities and facts for ever, and tell what changed."""
        rounds = 0
        while True:
            changed = await self.capabilities.look()
            if rounds % round(FACTS_INTERVAL / CHECK_INTERVAL) == 0 or changed:
                await self._tell_facts()
            if changed and self._session is not None:
                await self._send(self._session, self._heartbeat(self._session))
            rounds += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._look_wanted.wait()
            self._look_wanted.clear()

    def look_soon(self) -> None:
        """Something changed that a look at the capabilities will tell."""
        self._look_wanted.set()

    def inventory_changed(self, change: link.Inventory) -> None:
        """Tell what changed on the host."""
        if self._session is not None and not self.owner.closed:
            self.owner.spawn("inventory", self._send_parts(self._session, change))

    def read_facts(self) -> link.Facts:
        """Read the facts now."""
        found = facts.system_facts()
        return msgspec.structs.replace(
            found,
            versions={**found.versions, **self.capabilities.versions},
            policy=self.policy().shown(),
            time_offset=float(round(self.counts.time_offset())),
        )

    async def _tell_facts(self) -> None:
        found = self.read_facts()
        if found != self._facts and self._session is not None:
            self._facts = found
            await self._send(self._session, found)

    async def _beat(self, session: Session, number: int) -> None:
        """Send heartbeats as long as this is the present link."""
        while number == self._links:
            await self._send(session, self._heartbeat(session))
            await self.clock.sleep(self.heartbeat_interval)

    def _heartbeat(self, session: Session) -> link.Heartbeat:
        measured, status = self.meter.measure(), self.counts.status()
        return link.Heartbeat(
            sent_at=self.clock.now().timestamp(),
            uptime=measured.uptime,
            load=measured.load,
            cpu_percent=measured.cpu_percent,
            memory_used_bytes=measured.memory_used_bytes,
            disk_free_bytes=measured.disk_free_bytes,
            agent_memory_bytes=measured.agent_memory_bytes,
            round_trip=session.rtt,
            reconnects=status.reconnects,
            last_error=status.last_error,
            jobs_running=self.counts.jobs_running(),
            streams_open=self.counts.streams_open(),
            capabilities=self.capabilities.current,
            is_private=self.counts.is_private(),
            gateway_routes=self.counts.routes(),
        )

    async def _send_parts(self, session: Session, change: link.Inventory) -> None:
        for message in in_parts(change):
            await self._send(session, message)

    async def _send(self, session: Session, message: link.Message) -> None:
        try:
            await session.send(message)
        except StreamError as error:
            _log.debug("report not sent", kind=type(message).__name__, reason=error.reason)


def in_parts(inventory: link.Inventory) -> list[link.Inventory]:
    """Cut an inventory into messages that are small enough; only the first one is `full`."""
    size = MAX_CONTAINERS_PER_MESSAGE
    rest = inventory.containers
    first = msgspec.structs.replace(inventory, containers=rest[:size])
    more = [link.Inventory(full=False, containers=rest[at : at + size]) for at in range(size, len(rest), size)]
    return [first, *more]

"""What agents report, gathered in memory and written once per half second in one transaction. No API here.

A report is a fact about the present: when the process dies, the next one comes within a heartbeat. What is written
stays when the agent goes away, so that the last known state can be shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.bus import Bus
from towline.control.clusters import repository
from towline.control.clusters.health import LOW_DISK_BYTES, Capability, Known, judge
from towline.control.clusters.models import Cluster
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.links.cleaning import clean, clean_json
from towline.control.logging import get_logger
from towline.wire import link

_log = get_logger("clusters")

FLUSH_INTERVAL = 0.5
"""Seconds that reports are gathered: one flush to disk for all agents."""
HEARTBEAT_FLUSH_INTERVAL = 5.0
"""Seconds that heartbeats which change nothing wait: a page shows the link itself as the sign of life."""
RETRY_INTERVAL = 5.0
"""Seconds after which a write that failed is tried again."""
SILENCE_INTERVAL = 5.0
"""Seconds between two looks for clusters that have been silent for too long."""
LONGEST_REASON = 500
MOST_CONTAINERS = 5000
"""Containers of one host that are kept; a host with more is shown in part."""
SICK_STATES = frozenset({"restarting", "dead"})


Troubles = Callable[[Transaction, Collection[str]], Awaitable[Mapping[str, str]]]
"""Says in a sentence each what is not well in some clusters, by id; those that are well are left out."""


@dataclass(frozen=True, slots=True)
class Unwell:
    """What is not well in one cluster: containers by name, and in a sentence what others know."""

    containers: Sequence[str]
    elsewhere: str


@dataclass(slots=True)
class Pending:
    """What is to be written about one cluster."""

    org_id: str
    values: dict[str, Any] = field(default_factory=dict)
    inventories: list[link.Inventory] = field(default_factory=list)
    hints: set[str] = field(default_factory=set)
    heartbeat_only: bool = True


class Reports:
    """Takes what agents say, and writes it."""

    def __init__(self, db: Database, bus: Bus, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._pending: dict[str, Pending] = {}
        self._last_judged: dict[str, tuple[tuple[link.Capability, ...], bool]] = {}
        """What health was judged by in the last heartbeat of each connected cluster."""
        self._changed = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._tasks = TaskOwner("cluster-reports")
        self.also_flush: list[Any] = []
        """Coroutine functions run with each flush; for others that write in the same rhythm."""
        self.also_judge: list[Troubles] = []
        """Asked for what else is not well, with each verdict."""

    def __repr__(self) -> str:
        return f"<Reports {len(self._pending)} waiting>"

    async def start(self) -> None:
        """Forget links of an earlier process, and begin to write."""
        async with self._db.begin() as tx:
            await repository.disconnect_all(tx, "the server was restarted")
        self._tasks.spawn("flush", self._flush_for_ever())
        self._tasks.spawn("silence", self._watch_silence())

    async def stop(self) -> None:
        await self._tasks.close()
        await self._flush_once()

    # -- what links report -------------------------------------------------------------------

    def connected(self, cluster_id: str, org_id: str, address: str) -> None:
        """A link is up."""
        now = self._clock.now()
        self._note(
            cluster_id,
            org_id,
            {"connected": True, "connected_since": now, "link_address": address, "last_seen_at": now},
        )

    def disconnected(self, cluster_id: str, org_id: str, why: str, *, silence: float = 0.0) -> None:
        """The last link of a cluster has ended. Args: silence: seconds since the agent's last sign of life."""
        self._last_judged.pop(cluster_id, None)
        seen_at = self._clock.now() - timedelta(seconds=silence)
        values = {"connected": False, "last_seen_at": seen_at, "link_last_error": why[:LONGEST_REASON]}
        self._note(cluster_id, org_id, values)

    def heartbeat(self, cluster_id: str, org_id: str, message: link.Heartbeat) -> None:
        """A heartbeat came. Health is judged anew only when what the agent can do has changed."""
        values: dict[str, Any] = {
            "heartbeat": measured(message),
            "last_seen_at": self._clock.now(),
            "link_reconnects": min(max(message.reconnects, 0), 2**31 - 1),
        }
        if message.last_error:
            values["link_last_error"] = clean(message.last_error)[:LONGEST_REASON]
        judged = (message.capabilities, 0 < message.disk_free_bytes < LOW_DISK_BYTES)
        known = self._last_judged.get(cluster_id) == judged
        if not known:
            self._last_judged[cluster_id] = judged
            if message.capabilities:
                values["capabilities"] = capabilities_of(message.capabilities)
        self._note(cluster_id, org_id, values, heartbeat=known)

    def capabilities(self, cluster_id: str, org_id: str, found: Sequence[link.Capability]) -> None:
        self._note(cluster_id, org_id, {"capabilities": capabilities_of(found)})

    def facts(self, cluster_id: str, org_id: str, message: link.Facts) -> None:
        values = {"facts": clean_json(msgspec.to_builtins(message)), "facts_at": self._clock.now()}
        self._note(cluster_id, org_id, values)

    def inventory(self, cluster_id: str, org_id: str, message: link.Inventory) -> None:
        """What runs on the host, all of it or what changed."""
        pending = self._of(cluster_id, org_id)
        if message.full:
            pending.inventories.clear()
        pending.inventories.append(message)
        pending.hints.add("inventory")
        self._note(cluster_id, org_id, {"inventory_at": self._clock.now()})

    def judge_again(self, cluster_id: str, org_id: str) -> None:
        """Something that health depends on has changed elsewhere."""
        self._note(cluster_id, org_id, {})

    def forget(self, cluster_id: str) -> None:
        """The cluster was removed."""
        self._pending.pop(cluster_id, None)

    def _of(self, cluster_id: str, org_id: str) -> Pending:
        return self._pending.setdefault(cluster_id, Pending(org_id))

    def _note(self, cluster_id: str, org_id: str, values: Mapping[str, Any], *, heartbeat: bool = False) -> None:
        if not cluster_id:
            return
        pending = self._of(cluster_id, org_id)
        pending.values.update(values)
        pending.heartbeat_only = pending.heartbeat_only and heartbeat
        if not heartbeat:
            self._changed.set()

    # -- writing -------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write what waits now; for tests and for callers that read right after."""
        await self._flush_once()

    async def _flush_for_ever(self) -> None:
        while True:
            await self._due()
            self._changed.clear()
            if not await self._flush_once():
                await self._clock.sleep(RETRY_INTERVAL)
                self._changed.set()

    async def _due(self) -> None:
        """Wait until there is something to write that should not wait, or long enough for heartbeats."""
        try:
            async with asyncio.timeout(HEARTBEAT_FLUSH_INTERVAL):
                await self._changed.wait()
        except TimeoutError:
            return
        await self._clock.sleep(FLUSH_INTERVAL)

    async def _flush_once(self) -> bool:
        async with self._flushing:
            return await self._flush_batch()

    async def _flush_batch(self) -> bool:
        batch, self._pending = self._pending, {}
        try:
            if batch:
                await self._write_all(batch)
            for step in self.also_flush:
                await step()
        except ApiError as error:
            _log.error("reports not written", why=error.message, clusters=len(batch))
            self._take_back(batch)
            return False
        return True

    async def _write_all(self, batch: Mapping[str, Pending]) -> None:
        """Write a batch; where a report cannot be stored, that one is dropped and the others are written."""
        try:
            async with self._db.begin() as tx:
                await self._write(tx, batch)
        except ApiError as error:
            if error.code is not ErrorCode.INVALID:
                raise
            await self._write_singly(batch)
        except DBAPIError:
            await self._write_singly(batch)

    async def _write_singly(self, batch: Mapping[str, Pending]) -> None:
        for cluster_id, pending in batch.items():
            try:
                async with self._db.begin() as tx:
                    await self._write(tx, {cluster_id: pending})
            except (ApiError, DBAPIError) as error:
                if isinstance(error, ApiError) and error.code is not ErrorCode.INVALID:
                    raise
                _log.error("report dropped", cluster=cluster_id, why=str(error)[:300])

    def _take_back(self, batch: Mapping[str, Pending]) -> None:
        """Put an unwritten batch before what came meanwhile."""
        for cluster_id, old in batch.items():
            new = self._pending.get(cluster_id)
            if new is not None:
                old.values.update(new.values)
                full = any(message.full for message in new.inventories)
                old.inventories = new.inventories if full else old.inventories + new.inventories
                old.hints |= new.hints
                old.heartbeat_only = old.heartbeat_only and new.heartbeat_only
            self._pending[cluster_id] = old

    async def _write(self, tx: Transaction, batch: Mapping[str, Pending]) -> None:
        changes: dict[str, Mapping[str, Any]] = {key: one.values for key, one in batch.items() if one.heartbeat_only}
        rest = {key: one for key, one in batch.items() if not one.heartbeat_only}
        if rest:
            changes |= await self._judged(tx, rest)
        await repository.update_many(tx, changes)

    async def _judged(self, tx: Transaction, batch: Mapping[str, Pending]) -> dict[str, Mapping[str, Any]]:
        """Store inventories, and return what is to be written of each cluster: its reports, and its health."""
        rows = await repository.by_id(tx, batch)
        agents = await repository.agent_states(tx, batch)
        await write_inventories(tx, {key: one for key, one in batch.items() if key in rows})
        sick = await repository.sick_names(tx, batch)
        troubles: dict[str, str] = {}
        for ask in self.also_judge:
            troubles |= await ask(tx, batch)
        changes: dict[str, Mapping[str, Any]] = {}
        for cluster_id, row in rows.items():
            pending = batch[cluster_id]
            unwell = Unwell(sick[cluster_id], troubles.get(cluster_id, ""))
            changes[cluster_id] = self._judged_values(row, pending, agents.get(cluster_id, ("", "")), unwell)
            for topic in sorted({"cluster", *pending.hints}):
                tx.publish(topic, **({"id": cluster_id} if topic == "cluster" else {"cluster_id": cluster_id}))
        return changes

    def _judged_values(self, row: Cluster, pending: Pending, agent: tuple[str, str], unwell: Unwell) -> dict[str, Any]:
        """Return what is written of a cluster: what was reported, and the verdict on its health."""
        values, now = dict(pending.values), self._clock.now()
        if "capabilities" in values:
            values["capabilities"] = with_since(row.capabilities, values["capabilities"], now)
        verdict = judge(known_of(row, values, now, agent, unwell))
        if verdict.state != row.health_state:
            values["health_since"] = now
        values["health_state"], values["health_reason"] = str(verdict.state), verdict.reason[:LONGEST_REASON]
        return values

    async def _watch_silence(self) -> None:
        while True:
            await self._clock.sleep(SILENCE_INTERVAL)
            try:
                await self.judge_silent()
            except ApiError as error:
                _log.warning("silent clusters not judged", why=error.message)

    async def judge_silent(self) -> None:
        """Say of clusters without a link that they are down, once they were silent for long enough."""
        async with self._db.read() as tx:
            rows = [(row.id, row.org_id, row.last_seen_at) for row in await repository.silent(tx)]
        for cluster_id, org_id, last_seen_at in rows:
            if last_seen_at is not None:
                self.judge_again(cluster_id, org_id)


def measured(message: link.Heartbeat) -> dict[str, Any]:
    """Return what a heartbeat measured, as it is stored; its capabilities have a column of their own."""
    found: dict[str, Any] = msgspec.to_builtins(message)
    found.pop("capabilities", None)
    return {name: clean_json(value) for name, value in found.items()}


def capabilities_of(found: Sequence[link.Capability]) -> list[dict[str, Any]]:
    """Return capabilities as they are stored."""
    return [
        {
            "name": one.name,
            "ready": one.ready,
            "version": clean(one.version)[:100],
            "reason": clean(one.reason)[:LONGEST_REASON],
            "since": _time(one.since),
        }
        for one in found
    ]


def with_since(before: Sequence[Mapping[str, Any]], found: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Fill in since when each capability is as it is, where the agent does not say so."""
    known = {one.get("name"): one for one in before}
    for one in found:
        old = known.get(one["name"])
        if not one["since"]:
            same = old is not None and old.get("ready") == one["ready"]
            one["since"] = old.get("since") if same and old is not None else now.isoformat()
    return found


def known_of(row: Cluster, values: Mapping[str, Any], now: datetime, agent: tuple[str, str], unwell: Unwell) -> Known:
    """Put together what health is judged by, from the row and what is about to be written."""

    def latest(name: str) -> Any:
        return values.get(name, getattr(row, name))

    return Known(
        now=now,
        connected=latest("connected"),
        last_seen_at=latest("last_seen_at"),
        agent_state=agent[0],
        agent_reason=agent[1],
        last_error=latest("link_last_error"),
        capabilities=[
            Capability(one["name"], one["ready"], one["reason"], _parse(one.get("since")))
            for one in latest("capabilities")
        ],
        unhealthy=unwell.containers,
        troubles=unwell.elsewhere,
        disk_free_bytes=int(latest("heartbeat").get("disk_free_bytes", 0)),
    )


async def write_inventories(tx: Transaction, batch: Mapping[str, Pending]) -> None:
    """Store inventory messages; what many hosts sent at once is written in few statements."""
    full = [key for key, one in batch.items() if any(message.full for message in one.inventories)]
    await repository.clear_inventories(tx, full)
    containers: dict[tuple[str, str], dict[str, Any]] = {}
    projects: dict[tuple[str, str], dict[str, Any]] = {}
    gone_containers: list[tuple[str, str]] = []
    gone_projects: list[tuple[str, str]] = []
    for cluster_id, pending in batch.items():
        for message in pending.inventories:
            for name in message.removed_containers:
                containers.pop((cluster_id, name[:80]), None)
                gone_containers.append((cluster_id, name[:80]))
            for name in message.removed_projects:
                projects.pop((cluster_id, name[:255]), None)
                gone_projects.append((cluster_id, name[:255]))
            for one in message.containers[:MOST_CONTAINERS]:
                row = _container(cluster_id, pending.org_id, one)
                containers[cluster_id, row["container_id"]] = row
            for project in message.projects[:MOST_CONTAINERS]:
                row = _project(cluster_id, pending.org_id, project)
                projects[cluster_id, row["name"]] = row
    await repository.change_containers(tx, list(containers.values()), gone_containers)
    await repository.change_projects(tx, list(projects.values()), gone_projects)


def _container(cluster_id: str, org_id: str, one: link.Container) -> dict[str, Any]:
    return {
        "cluster_id": cluster_id,
        "container_id": clean(one.id)[:80],
        "org_id": org_id,
        "name": clean(one.name)[:255],
        "project": clean(one.project)[:255],
        "service": clean(one.service)[:255],
        "image": clean(one.image)[:512],
        "state": clean(one.state)[:16],
        "health": clean(one.health)[:16],
        "sick": one.health == "unhealthy" or one.state in SICK_STATES,
        "data": clean_json(msgspec.to_builtins(one)),
    }


def _project(cluster_id: str, org_id: str, one: link.Project) -> dict[str, Any]:
    return {
        "cluster_id": cluster_id,
        "name": clean(one.name)[:255],
        "org_id": org_id,
        "managed": one.managed,
        "revision": min(max(one.revision, 0), 2**31 - 1),
        "data": clean_json(msgspec.to_builtins(one)),
    }


def _time(seconds: float) -> str:
    """Return an agent's moment as text; one that no clock can show is nothing."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _parse(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

"""What agents tell of their Kubernetes clusters, gathered in memory and written a few times a second. No reading here.

What is written stays when the agent goes away, so that the last known state can be shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from sqlalchemy.exc import DBAPIError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.clusters.reports import Reports
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import inventory_repository as repository
from towline.control.kubernetes import inventory_rows as rows
from towline.control.links.cleaning import clean, clean_json
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.wire import link
from towline.wire.kube_inventory import MOST_ENTRIES, SECTIONS, About, Section

_log = get_logger("kubernetes")

FLUSH_INTERVAL = 0.1
"""Seconds that messages of all agents are gathered for one transaction: a page is to know of a change within 0.5."""
RETRY_INTERVAL = 5.0
MOST_PENDING = 2 * sum(MOST_ENTRIES.values())
"""Entries of one cluster that wait: all that an honest agent tells, and as many that it takes back."""
MOST_NAMESPACES = 100
MOST_MISSING = 100
NAMED_AT_MOST = 3
"""Things that a health reason lists by name."""


@dataclass(slots=True)
class Pending:
    """What is to be written of one cluster; of each entry the last word."""

    org_id: str
    full: bool = False
    about: About | None = None
    entries: dict[tuple[Section, str], dict[str, Any] | None] = field(default_factory=dict)

    def take(self, cluster_id: str, message: link.KubeInventory) -> int:
        """Add a message. Returns: how many entries found no room."""
        if message.full:
            self.full = True
            self.entries.clear()
        self.about = message.about or self.about
        for gone in message.removed:
            self._put((gone.section, rows.fit_key(gone.key)), None)
        left_out = 0
        for section in SECTIONS:
            for entry in getattr(message, section):
                row = rows.row(cluster_id, self.org_id, section, entry)
                left_out += not self._put((section, row["key"]), row)
        return left_out

    def _put(self, key: tuple[Section, str], row: dict[str, Any] | None) -> bool:
        if len(self.entries) >= MOST_PENDING and key not in self.entries:
            return False
        self.entries[key] = row
        return True


class InventoryIntake:
    """Takes `kube_inventory` messages, and writes them."""

    def __init__(self, db: Database, links: Links, reports: Reports, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._links = links
        self._reports = reports
        self._clock = clock
        self._pending: dict[str, Pending] = {}
        self._changed = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._tasks = TaskOwner("kubernetes-inventory")
        self.counts: Counter[str] = Counter()
        """Of messages, entries, and entries that were left out; for metrics."""
        links.on(link.KubeInventory, self._told)
        reports.also_judge.append(self.troubles)

    def __repr__(self) -> str:
        return f"<InventoryIntake {len(self._pending)} clusters waiting>"

    @property
    def waiting(self) -> int:
        """Entries that are not written yet."""
        return sum(len(pending.entries) for pending in self._pending.values())

    async def start(self) -> None:
        """Begin to write."""
        self._tasks.spawn("flush", self._flush_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()
        await self.flush()

    async def _told(self, one: Link, message: link.KubeInventory) -> None:
        if not one.pending and self._links.leads(one):
            self.take(one.cluster_id, one.org_id, message)

    def take(self, cluster_id: str, org_id: str, message: link.KubeInventory) -> None:
        """Note what an agent tells."""
        pending = self._pending.setdefault(cluster_id, Pending(org_id))
        self.counts["messages"] += 1
        self.counts["entries"] += sum(len(getattr(message, section)) for section in SECTIONS)
        self.counts["left_out"] += pending.take(cluster_id, message)
        self._changed.set()

    # -- writing -------------------------------------------------------------------------------

    async def _flush_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            await self._clock.sleep(FLUSH_INTERVAL)
            self._changed.clear()
            if not await self.flush():
                await self._clock.sleep(RETRY_INTERVAL)
                self._changed.set()

    async def flush(self) -> bool:
        """Write what waits now. Returns: whether the database took it."""
        async with self._flushing:
            batch, self._pending = self._pending, {}
            try:
                if batch:
                    await self._write_batch(batch)
            except ApiError as error:
                _log.error("inventories of clusters not written", why=error.message, clusters=len(batch))
                self._take_back(batch)
                return False
        for cluster_id, pending in batch.items():
            self._reports.judge_again(cluster_id, pending.org_id)
        return True

    async def _write_batch(self, batch: Mapping[str, Pending]) -> None:
        """Write all of it at once; where something cannot be stored, that cluster's part is dropped."""
        try:
            await self._write_together(batch)
        except (ApiError, DBAPIError) as error:
            if is_passing(error):
                raise
            for cluster_id, pending in batch.items():
                await self._write_singly(cluster_id, pending)

    async def _write_singly(self, cluster_id: str, pending: Pending) -> None:
        try:
            await self._write_together({cluster_id: pending})
        except (ApiError, DBAPIError) as error:
            if is_passing(error):
                raise
            self.counts["dropped"] += 1
            _log.error("inventory dropped", cluster=cluster_id, why=str(error)[:300])

    async def _write_together(self, batch: Mapping[str, Pending]) -> None:
        async with self._db.begin() as tx:
            known = await repository.known_clusters(tx, batch)
            for cluster_id, pending in batch.items():
                if cluster_id in known:
                    await self._write(tx, cluster_id, pending)

    def _take_back(self, batch: Mapping[str, Pending]) -> None:
        """Put what was not written before what came meanwhile."""
        for cluster_id, old in batch.items():
            new = self._pending.get(cluster_id)
            if new is not None:
                old.entries = new.entries if new.full else {**old.entries, **new.entries}
                old.full = old.full or new.full
                old.about = new.about or old.about
            self._pending[cluster_id] = old
        self._changed.set()

    async def _write(self, tx: Transaction, cluster_id: str, pending: Pending) -> None:
        await self._write_about(tx, cluster_id, pending)
        if pending.full:
            await repository.clear(tx, cluster_id)
        gone = [key for key, row in pending.entries.items() if row is None]
        if gone and not pending.full:
            await repository.remove(tx, cluster_id, cast(Collection[tuple[str, str]], gone))
        await repository.write(tx, [row for row in pending.entries.values() if row is not None])
        touched = set(SECTIONS) if pending.full else {section for section, _ in pending.entries}
        for section in touched:
            self.counts["left_out"] += await repository.trim(tx, cluster_id, section, MOST_ENTRIES[section])
        tx.publish("kubernetes", cluster_id=cluster_id, sections=",".join(sorted(touched)))

    async def _write_about(self, tx: Transaction, cluster_id: str, pending: Pending) -> None:
        values: dict[str, Any] = {
            "cluster_id": cluster_id,
            "org_id": pending.org_id,
            "told_at": self._clock.now(),
        }
        known = await repository.cluster(tx, cluster_id)
        if pending.about is not None:
            values |= about_columns(pending.about, known.version if known is not None else "")
        elif known is None:
            values |= about_columns(About())
        await repository.write_cluster(tx, values)

    # -- health --------------------------------------------------------------------------------

    async def troubles(self, tx: Transaction, cluster_ids: Collection[str]) -> Mapping[str, str]:
        """Return what is not well in clusters, in a sentence each; for the health of clusters."""
        found = await repository.troubles(tx, cluster_ids, rows.POD, NAMED_AT_MOST)
        words = {cluster_id: _sentence(one) for cluster_id, one in found.items()}
        for one in await repository.away(tx, cluster_ids):
            since = f" since {one.away_since:%H:%M} UTC" if one.away_since else ""
            words[one.cluster_id] = f"The API server does not answer the agent{since}: {one.away_reason}"
        return words


def is_passing(error: ApiError | DBAPIError) -> bool:
    """Tell whether the database may take later what it did not take now."""
    return isinstance(error, ApiError) and error.code is not ErrorCode.INVALID


def _sentence(found: repository.Troubles) -> str:
    more = found.total - len(found.named)
    listed = "; ".join(found.named) + (f"; and {more} more" if more else "")
    return f"{found.total} {'thing is' if found.total == 1 else 'things are'} not well: {listed}"


def about_columns(about: About, known_version: str = "") -> dict[str, Any]:
    """Return what was told about a cluster as a whole, as it is stored."""
    missing = [clean_json(msgspec.to_builtins(one)) for one in about.missing[:MOST_MISSING]]
    return {
        "version": clean(about.version)[:128] or known_version,
        "platform": clean(about.platform)[:128],
        "metrics": about.metrics,
        "namespaces": [clean(name)[:63] for name in about.namespaces[:MOST_NAMESPACES]],
        "missing": missing,
        "away_since": rows.moment(about.away_since) if about.away_since > 0 else None,
        "away_reason": clean(about.away_reason)[:500],
    }

"""Takes what agents tell of usage, and writes each minute once it has ended. No reading here.

One process writes for a cluster: the one that holds the link which speaks for it. A minute that could not be written
waits for a while; what does not fit any more is counted, and stays a gap.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError
from towline.control.links.registry import Link as AgentLink
from towline.control.links.registry import Links
from towline.control.logging import get_logger
from towline.control.usage import packing, repository, rollup
from towline.control.usage.known import STEP, Broken, Known, Minute, Standing
from towline.control.usage.packing import Block
from towline.control.usage.rollup import LONG_STEP, floor
from towline.wire import link

_log = get_logger("usage")

FLUSH_INTERVAL = 5.0
"""Seconds between two looks at which minutes have ended."""
MOST_WAITING = 10
"""Minutes of one cluster that wait for the database: of 10,000 pods they are some 15 MB."""
ASK_INTERVAL = 60.0
"""Seconds before an agent is asked again to tell everything: an answer is a whole inventory."""
CLUSTERS_AT_ONCE = 50
"""Clusters that are written in one transaction: of usual ones it takes some milliseconds."""


@dataclass(slots=True)
class Cluster:
    """One cluster that somebody tells of."""

    epoch: tuple[str, int] = ("", 0)
    """Agent and epoch of the link that it is told over."""
    known: Known = field(default_factory=Known)
    ended: list[Minute] = field(default_factory=list)
    written: Standing | None = None
    sampled_at: datetime | None = None
    rolled: int = 0
    """Until when minutes were made into points of five minutes; 0: that was not looked at."""
    asked_at: float = float("-inf")


class UsageIntake:
    """Takes `kube_usage` messages, and writes minutes."""

    def __init__(self, db: Database, links: Links, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._links = links
        self._clock = clock
        self._clusters: dict[str, Cluster] = {}
        self._tasks = TaskOwner("usage")
        self._unheard: set[str] = set()
        self._flushing = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        """Of messages, samples out of order, blocks and their bytes, minutes dropped; for metrics."""
        links.on(link.KubeUsage, self._told)
        links.on_up(self._up)
        links.on_down(self._down)

    def __repr__(self) -> str:
        return f"<UsageIntake {len(self._clusters)} clusters, {self.series} series>"

    @property
    def series(self) -> int:
        """Series that are told at present."""
        return sum(len(one.known) for one in self._clusters.values())

    @property
    def waiting(self) -> int:
        """Minutes that have ended and are not written."""
        return sum(len(one.ended) for one in self._clusters.values())

    async def start(self) -> None:
        """Begin to write."""
        self._tasks.spawn("flush", self._flush_for_ever())

    async def stop(self) -> None:
        """Write what is gathered, the present minute too."""
        await self._tasks.close()
        for one in self._clusters.values():
            _close(one)
        await self.flush()

    # -- taking --------------------------------------------------------------------------------

    async def _told(self, one: AgentLink, message: link.KubeUsage) -> None:
        if one.pending:
            self._unheard.add(one.agent_id)
        elif self._speaks(one) and not self.take(one.cluster_id, (one.agent_id, one.epoch), message):
            self._ask(one)

    def _speaks(self, one: AgentLink) -> bool:
        """Tell whether a link is the one that is believed: of several agents that measure a cluster one counts."""
        return self._links.of_cluster(one.cluster_id) in (None, one)

    def _up(self, one: AgentLink) -> None:
        """Have an agent that was let in meanwhile tell again what nobody listened to."""
        if not one.pending and one.agent_id in self._unheard:
            self._unheard.discard(one.agent_id)
            one.session.send_now(link.Lead())

    def _down(self, one: AgentLink, why: str) -> None:
        self._unheard.discard(one.agent_id)
        found = self._clusters.get(one.cluster_id)
        if found is not None and found.epoch == (one.agent_id, one.epoch):
            _close(found)
            found.known = Known()

    def take(self, cluster_id: str, epoch: tuple[str, int], message: link.KubeUsage) -> bool:
        """Note what an agent tells. Returns: whether it made sense; if not, everything has to be told again."""
        self.counts["messages"] += 1
        found = self._clusters.setdefault(cluster_id, Cluster())
        if found.epoch != epoch:
            _close(found)
            found.epoch, found.known = epoch, Known()
        now = self._clock.now()
        try:
            ended = found.known.take(message, now.timestamp())
        except Broken:
            self.counts["broken"] += 1
            return False
        found.sampled_at = now
        if ended is not None:
            found.ended.append(ended)
        return True

    def _ask(self, one: AgentLink) -> None:
        """Have an agent tell everything again, now and then."""
        found, now = self._clusters[one.cluster_id], self._clock.monotonic()
        if now - found.asked_at >= ASK_INTERVAL:
            found.asked_at = now
            one.session.send_now(link.Lead())

    # -- writing -------------------------------------------------------------------------------

    async def _flush_for_ever(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_INTERVAL)
            await self.flush()

    async def flush(self) -> None:
        """Write the minutes that have ended, and what else is due."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        now = self._clock.now().timestamp()
        for one in self._clusters.values():
            if one.known.minute and now >= one.known.minute + STEP:
                _close(one)
        due = {cluster_id: one for cluster_id, one in self._clusters.items() if one.ended or _changed(one)}
        names = sorted(due)
        for at in range(0, len(names), CLUSTERS_AT_ONCE):
            await self._write_some({name: due[name] for name in names[at : at + CLUSTERS_AT_ONCE]})
        self._forget_silent()

    async def _write_some(self, batch: Mapping[str, Cluster]) -> None:
        """Write some clusters together; where one of them cannot be stored, each alone."""
        try:
            await self._write(batch)
        except (ApiError, DBAPIError) as error:
            if len(batch) > 1 and not isinstance(error, ApiError):
                for cluster_id, one in batch.items():
                    await self._write_some({cluster_id: one})
                return
            self._hold(batch, str(error))

    def _hold(self, batch: Mapping[str, Cluster], why: str) -> None:
        """Keep what was not written for the next time, as far as there is room."""
        _log.error("usage of clusters not written", clusters=len(batch), why=why[:300])
        for one in batch.values():
            surplus = len(one.ended) - MOST_WAITING
            if surplus > 0:
                self.counts["dropped"] += surplus
                del one.ended[:surplus]

    async def _write(self, batch: Mapping[str, Cluster]) -> None:
        minutes = {cluster_id: list(one.ended) for cluster_id, one in batch.items()}
        standings = {cluster_id: (one.known.standing, one.sampled_at) for cluster_id, one in batch.items()}
        packed = await asyncio.to_thread(_pack_all, minutes)
        async with self._db.begin() as tx:
            present = await repository.known_clusters(tx, batch)
            for cluster_id in present:
                await self._write_one(tx, cluster_id, packed[cluster_id], *standings[cluster_id])
        for cluster_id, one in batch.items():
            del one.ended[: len(minutes[cluster_id])]
            one.written = standings[cluster_id][0]
            if cluster_id not in present:
                del self._clusters[cluster_id]
        await self._roll(sorted(present))

    async def _write_one(
        self,
        tx: Transaction,
        cluster_id: str,
        minutes: list[tuple[int, dict[str, list[Block]]]],
        standing: Standing,
        sampled_at: datetime | None,
    ) -> None:
        for begins, blocks in minutes:
            await repository.write(tx, cluster_id, STEP, begins, blocks)
            self.counts["blocks"] += sum(map(len, blocks.values()))
            self.counts["bytes"] += sum(len(block.data) for found in blocks.values() for block in found)
        row = {
            "cluster_id": cluster_id, "source": standing.source, "reason": standing.reason,
            "left_out": standing.left_out, "sampled_at": sampled_at or datetime.now(UTC),
        }  # fmt: skip
        await repository.write_state(tx, row)
        tx.publish("usage", cluster_id=cluster_id)

    async def _roll(self, cluster_ids: list[str]) -> None:
        """Make points of five minutes, when five minutes have ended."""
        end = floor(self._clock.now().timestamp(), LONG_STEP)
        for cluster_id in cluster_ids:
            one = self._clusters.get(cluster_id)
            if one is None or one.rolled >= end:
                continue
            async with self._db.begin() as tx:
                await rollup.roll(tx, cluster_id, end)
            one.rolled = end

    def _forget_silent(self) -> None:
        """Forget clusters that nobody tells of here, once everything of them is written."""
        for cluster_id, one in list(self._clusters.items()):
            if not len(one.known) and not one.ended and self._links.of_cluster(cluster_id) is None:
                with suppress(KeyError):
                    del self._clusters[cluster_id]


def _close(one: Cluster) -> None:
    ended = one.known.close()
    if ended is not None:
        one.ended.append(ended)


def _changed(one: Cluster) -> bool:
    """Tell whether it is measured otherwise than is written: that is shown at once."""
    return one.sampled_at is not None and one.written != one.known.standing


def _pack_all(minutes: Mapping[str, list[Minute]]) -> dict[str, list[tuple[int, dict[str, list[Block]]]]]:
    return {cluster_id: [(one.begins, _pack(one)) for one in found] for cluster_id, found in minutes.items()}


def _pack(minute: Minute) -> dict[str, list[Block]]:
    return {kind: list(packing.pack(points)) for kind, points in minute.points.items()}

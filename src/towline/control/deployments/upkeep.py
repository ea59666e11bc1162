"""What keeps deployments true without anybody asking: stored states, scheduled pruning, retention.

Hints say which clusters to look at sooner; a slow round over everything makes up for hints that were lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_actor
from towline.control.audit.service import AuditLog
from towline.control.bundles.service import BundleService
from towline.control.bus import Bus, Event
from towline.control.db import Database
from towline.control.deployments import repository, states, views
from towline.control.deployments.figures import Figures
from towline.control.deployments.interfaces import Fleet, Queue
from towline.control.deployments.models import Deployment
from towline.control.deployments.outcomes import GOOD_OUTCOMES, Outcome
from towline.control.deployments.service import prune_submission
from towline.control.errors import ApiError
from towline.control.logging import get_logger

_log = get_logger("deployments")

TOPICS = ("inventory", "cluster", "job", "deployment")
GATHER_SECONDS = 0.2
"""Hints are gathered for this long: a deploy of ten containers is one look, not ten."""
BATCH = 100
"""Deployments that are judged in one go: some 20 ms, in which nothing else runs."""
DUE_SECONDS = 60.0
"""Between two looks at what is due."""
ROUND_SECONDS = 300.0
"""Between two looks at everything. Verdicts change with what is reported, and each report is a hint."""
RETENTION_SECONDS = 3600.0
KEEP_FAILED = 10
"""Revisions that never were good whose files are kept, newest first: enough to see what was tried."""
KEEP_GOOD = 200
"""Good revisions whose files are kept: what one can roll back to, two hundred deploys back."""
KEEP_TRACE_DAYS = 365.0
"""Days that who, when, why and how it ended are kept of revisions without files."""
KEEP_REMOVED_DAYS = 30.0
"""Days that the history of a removed deployment stays, secrets included, so that it can be put back."""
REASON_CHARACTERS = 1000


class Upkeep:
    """The background loops of deployments."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        fleet: Fleet,
        queue: Queue,
        bundles: BundleService,
        audit: AuditLog,
        figures: Figures,
        *,
        clock: Clock,
        keep_bundle_days: float,
    ) -> None:
        self._db = db
        self._bus = bus
        self._fleet = fleet
        self._queue = queue
        self._bundles = bundles
        self._audit = audit
        self._figures = figures
        self._clock = clock
        self._keep_bundle_days = keep_bundle_days
        self._tasks = TaskOwner("deployments")
        self._waiting: set[str] = set()
        """Clusters to look at; an empty id stands for all of them."""
        self._hinted = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Upkeep {len(self._waiting)} waiting>"

    async def start(self) -> None:
        """Begin the loops."""
        self._tasks.spawn("hints", self._take_hints())
        self._tasks.spawn("states", self._keep_states())
        self._tasks.spawn("rounds", self._every(ROUND_SECONDS, self.round))
        self._tasks.spawn("due", self._every(DUE_SECONDS, self.prune_due))
        self._tasks.spawn("retention", self._every(RETENTION_SECONDS, self.retain))

    async def stop(self) -> None:
        """End the loops."""
        await self._tasks.close()

    # -- states --------------------------------------------------------------------------------

    async def refresh(self, cluster_ids: Sequence[str] = ()) -> int:
        """Judge the deployments of some clusters, or of all, and keep what changed. Returns: how many changed."""
        changed, after = 0, ""
        while True:
            async with self._db.read() as tx:
                found = await repository.present(tx, cluster_ids, after=after, limit=BATCH)
                known = await views.gather(tx, self._fleet, self._queue, found)
            changed += await self._keep(found, known)
            if len(found) < BATCH:
                return changed
            after = found[-1].id

    async def _keep(self, found: Sequence[Deployment], known: views.Known) -> int:
        """Write down the verdicts that differ from those kept."""
        changed = [
            (deployment, verdict)
            for deployment in found
            if _differs(deployment, verdict := states.judge(views.situation(deployment, known)))
        ]
        if changed:
            async with self._db.begin() as tx:
                now = await tx.now()
                for deployment, verdict in changed:
                    since = deployment.state_since if deployment.state == verdict.state else now
                    reason = verdict.reason[:REASON_CHARACTERS]
                    await repository.set_state(tx, deployment.id, verdict.state, reason, since)
                    tx.publish("deployment", id=deployment.id, cluster_id=deployment.cluster_id)
        return len(changed)

    async def _take_hints(self) -> None:
        async with self._bus.subscribe(*TOPICS) as events:
            async for event in events:
                self._waiting.add(_cluster_of(event))
                self._hinted.set()

    async def _keep_states(self) -> None:
        while True:
            await self._hinted.wait()
            await self._clock.sleep(GATHER_SECONDS)
            self._hinted.clear()
            waiting, self._waiting = self._waiting, set()
            await self._guarded("states", self.refresh(() if "" in waiting else sorted(waiting)))

    # -- rounds --------------------------------------------------------------------------------

    async def round(self) -> None:
        """Look at everything once."""
        await self.refresh()
        async with self._db.read() as tx:
            self._figures.states(await repository.count_states(tx))

    async def prune_due(self) -> int:
        """Queue the prunings that are due on hosts that are there. Returns: how many."""
        async with self._db.begin() as tx:
            now = await tx.now()
            due = await repository.due_for_pruning(tx, now)
            clusters = await self._fleet.views(tx, sorted({each.cluster_id for each in due}))
            busy = await self._queue.activities(tx, [each.id for each in due])
            queued = 0
            for deployment in due:
                cluster = clusters.get(deployment.cluster_id)
                if cluster is None or not cluster.connected or deployment.id in busy:
                    continue
                actor = system_actor("scheduled pruning", deployment.org_id)
                job = await self._queue.submit(tx, actor, await prune_submission(tx, deployment))
                deployment.pruned_at = now
                await self._audit.record(
                    tx,
                    actor,
                    action="deployment.prune",
                    target_kind="deployment",
                    target_id=deployment.id,
                    target_name=deployment.name,
                    cluster_id=deployment.cluster_id,
                    detail={"job": job.id},
                )
                queued += 1
        return queued

    async def retain(self) -> None:
        """Drop what is no longer kept: old files, unused secrets and bundles, removed deployments."""
        await self._drop_content(repository.NEVER_GOOD, KEEP_FAILED)
        await self._drop_content(GOOD_OUTCOMES, KEEP_GOOD)
        async with self._db.begin() as tx:
            now = await tx.now()
            await repository.purge_traces(tx, now - timedelta(days=KEEP_TRACE_DAYS))
            await repository.purge_removed(tx, now - timedelta(days=KEEP_REMOVED_DAYS))
        await self._bundles.drop_unused(repository.bundles_in_use, self._keep_bundle_days)

    async def _drop_content(self, outcomes: Collection[Outcome], keep: int) -> None:
        async with self._db.read() as tx:
            ids = await repository.with_old_content(tx, outcomes, keep)
        for deployment_id in ids:
            async with self._db.begin() as tx:
                if await repository.drop_old_content(tx, deployment_id, outcomes, keep):
                    await repository.drop_unused_secrets(tx, deployment_id)

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        while True:
            await self._clock.sleep(seconds)
            await self._guarded(work.__name__, work())

    async def _guarded(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """A database that cannot answer now is asked again at the next turn."""
        try:
            await work
        except ApiError as error:
            _log.warning("upkeep put off", work=name, why=error.message)


def _differs(deployment: Deployment, verdict: states.Verdict) -> bool:
    return (deployment.state, deployment.reason) != (verdict.state, verdict.reason[:REASON_CHARACTERS])


def _cluster_of(event: Event) -> str:
    """Return the cluster that a hint is about; empty when it may be any."""
    if event.topic == "cluster":
        return event.ids.get("id", "")
    return event.ids.get("cluster_id", "")

"""Sending jobs to agents: claim, prepare, send; and the loops that notice deadlines.

A claim is a lease on a row. Whoever lost the lease, or finds the job to be cancelled, stops before the order is sent.
Only the process that holds an agent's link claims for its cluster, and only after the agent has said what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.exc import IntegrityError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC, Bus
from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs import repository
from towline.control.jobs.models import Job
from towline.control.jobs.service import Jobs
from towline.control.jobs.states import ACTIVE, PENDING, JobState
from towline.control.jobs.work import JobEnd
from towline.control.links.registry import Links
from towline.control.logging import get_logger
from towline.tunnel.errors import TunnelClosed
from towline.wire import link

_log = get_logger("jobs")

LEASE = 30.0
"""Seconds that a claim holds: preparing renews it, and an agent confirms an order within a second."""
RENEW_INTERVAL = 10.0
LOOK_INTERVAL = 2.0
"""Seconds between two looks at the queue without a hint: what a lost hint costs."""
RETRY_DELAY = 2.0
"""Seconds before a job that could not be prepared is tried again, times the attempt."""
MOST_ATTEMPTS = 5
"""Orders that were prepared in vain or never confirmed before a job is given up."""
ABANDONED_AFTER = 7 * 86400.0
"""Seconds after which a begun job whose agent never came back is given up."""
BATCH = 100

_RETRIED = frozenset({ErrorCode.AGENT_AWAY, ErrorCode.UNAVAILABLE, ErrorCode.AGENT_TIMEOUT, ErrorCode.STORAGE_FULL})


class Dispatcher:
    """Brings queued jobs to the agents whose links this process holds."""

    def __init__(
        self, db: Database, bus: Bus, jobs: Jobs, links: Links, *, owner: str, clock: Clock = REAL_CLOCK
    ) -> None:
        self._db = db
        self._bus = bus
        self._jobs = jobs
        self._links = links
        self._owner = owner
        self._clock = clock
        self._tasks = TaskOwner("jobs")
        self._woken: set[str] = set()
        self.depths: dict[str, int] = {}
        """Jobs that have not ended, by state, at the last look; for metrics."""
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._tasks)} tasks, {len(self._woken)} clusters woken>"

    async def start(self) -> None:
        self._tasks.spawn("hints", self._follow_hints())
        self._tasks.spawn("claims", self._claim_for_ever())
        self._tasks.spawn("look", self._look_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()

    def wake(self, cluster_id: str) -> None:
        """Look at the queue of a cluster now."""
        self._woken.add(cluster_id)
        self._wake.set()

    # -- what happens meanwhile --------------------------------------------------------------------

    async def _mark_waiting(self) -> None:
        """Let the states of queues say whether their agents are there."""
        async with self._db.read() as tx:
            pending = await repository.pending_by_cluster(tx)
        away = [name for name, state in pending if state == JobState.QUEUED and not self._links.is_connected(name)]
        back = [name for name, state in pending if state == JobState.WAITING and self._links.is_connected(name)]
        if not away and not back:
            return
        async with self._db.begin() as tx:
            for waiting, names in ((True, away), (False, back)):
                if names:
                    for job_id, name in await repository.mark_waiting(tx, names, waiting=waiting):
                        tx.publish("job", id=job_id, cluster_id=name, change="waiting" if waiting else "back")

    async def _follow_hints(self) -> None:
        async with self._bus.subscribe("job") as events:
            async for event in events:
                if event.topic == RESYNC:
                    await self.look()
                elif event.ids.get("change") == "cancelling":
                    await self._pass_on_cancel(event.ids["id"], event.ids["cluster_id"])
                elif event.ids.get("change") in {"queued", "ended"}:
                    self.wake(event.ids["cluster_id"])

    async def _pass_on_cancel(self, job_id: str, cluster_id: str) -> None:
        one = self._links.of_cluster(cluster_id)
        if one is not None:
            try:
                await one.session.send(link.JobCancel(job_id=job_id))
            except TunnelClosed:
                _log.info("cancel waits for the agent", job=job_id)

    # -- looking -----------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_INTERVAL)
            try:
                async with self._db.read() as tx:
                    self.depths = await repository.counts(tx)
                if self.depths:
                    await self.look()
                    await self.expire()
            except ApiError as error:
                _log.warning("queue not looked at", why=error.message)

    async def look(self) -> None:
        """Wake every connected cluster that has something to send."""
        await self._mark_waiting()
        connected = {one.cluster_id for one in self._links if one.jobs_known}
        if connected:
            async with self._db.read() as tx:
                for cluster_id in connected & await repository.clusters_with_work(tx):
                    self.wake(cluster_id)

    async def expire(self) -> None:
        """End what nobody began in time, and what no agent will ever tell the end of."""
        async with self._db.read() as tx:
            overdue = [job.id for job in await repository.overdue(tx, BATCH)]
            lost = [job.id for job in await repository.abandoned(tx, ABANDONED_AFTER, BATCH)]
        late = JobEnd(JobState.EXPIRED, "the agent was not there in time", "expired")
        gone = JobEnd(JobState.FAILED, "the agent never came back to tell how it ended", "lost")
        for job_id in overdue:
            await self._end(job_id, late, PENDING)
        for job_id in lost:
            await self._end(job_id, gone, ACTIVE)

    async def _end(self, job_id: str, end: JobEnd, states: frozenset[JobState]) -> None:
        async with self._db.begin() as tx:
            job = await repository.by_id(tx, job_id)
            if job is not None:
                await self._jobs.end(tx, job, end, states=states)

    # -- claiming and sending ----------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            woken, self._woken = self._woken, set()
            try:
                async with self._db.read() as tx:
                    woken &= await repository.clusters_with_work(tx)
                for cluster_id in woken:
                    while (job := await self._claim(cluster_id)) is not None:
                        self._tasks.spawn(f"order {job.id}", self._order(job))
            except ApiError as error:
                _log.warning("no job claimed", why=error.message)

    async def _claim(self, cluster_id: str) -> Job | None:
        one = self._links.of_cluster(cluster_id)
        if one is None or not one.jobs_known or self._links.draining:
            return None
        try:
            async with self._db.begin() as tx:
                job = await repository.claim(tx, cluster_id, owner=self._owner, lease=LEASE)
                if job is not None:
                    tx.publish("job", id=job.id, cluster_id=cluster_id, change="sent")
                return job
        except IntegrityError:
            return None  # another replica has begun a job with the same serial key

    async def _order(self, job: Job) -> None:
        """Prepare and send one claimed job; whatever goes wrong, it goes back to the queue or ends."""
        try:
            if job.attempt > MOST_ATTEMPTS:
                await self._give_up(job, "the agent never confirmed the order", "not_accepted")
                return
            payload = await self._prepared(job)
            await self._send(job, payload)
        except ApiError as error:
            if error.code in _RETRIED:
                await self._put_back(job, error.message)
            else:
                await self._give_up(job, error.message, error.code.value)
        except TunnelClosed as error:
            await self._put_back(job, str(error))
        except Exception as error:
            _log.error("order failed", job=job.id, kind=job.kind, exc_info=error)
            if job.attempt >= MOST_ATTEMPTS:
                await self._give_up(job, "the server failed to make the order; its log tells more", "internal")
            else:
                await self._put_back(job, "the server failed to make the order")

    async def _prepared(self, job: Job) -> Mapping[str, Any]:
        """Make the payload while the lease is renewed beside it: a bundle may travel for minutes."""
        async with TaskOwner(f"lease of {job.id}") as keeper:
            keeper.spawn("renew", self._renew(job))
            return await self._jobs.handler(job.kind).prepare(job)

    async def _renew(self, job: Job) -> None:
        while True:
            await self._clock.sleep(RENEW_INTERVAL)
            async with self._db.begin() as tx:
                if not await repository.hold(tx, job, LEASE):
                    return

    async def _send(self, job: Job, payload: Mapping[str, Any]) -> None:
        one = self._links.of_cluster(job.cluster_id)
        if one is None or not one.jobs_known:
            raise TunnelClosed("the link was lost while the order was made")
        async with self._db.begin() as tx:
            if not await repository.hold(tx, job, LEASE, fence=one.epoch):
                _log.info("order not sent", job=job.id, why="cancelled, or somebody else has it")
                return
        order = link.Job(
            job_id=job.id,
            kind=job.kind,
            fence=one.epoch,
            attempt=job.attempt,
            timeout=job.timeout,
            payload=msgspec.Raw(msgspec.json.encode(payload)),
        )
        await one.session.send(order)
        _log.info("order sent", job=job.id, kind=job.kind, cluster=job.cluster_id, attempt=job.attempt)

    async def _put_back(self, job: Job, why: str) -> None:
        connected = self._links.is_connected(job.cluster_id)
        state = JobState.QUEUED if connected else JobState.WAITING
        async with self._db.begin() as tx:
            held = await repository.put_back(tx, job, state, RETRY_DELAY * job.attempt if connected else 0.0)
            if held:
                tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="put back")
        _log.info("order put back", job=job.id, why=why, held=held)

    async def _give_up(self, job: Job, error: str, code: str) -> None:
        async with self._db.begin() as tx:
            if await repository.hold(tx, job, LEASE):
                await self._jobs.end(tx, job, JobEnd(JobState.FAILED, error, code), states=frozenset({JobState.SENT}))

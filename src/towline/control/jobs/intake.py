"""What agents say about jobs: accepted, progress, results, and what they hold after a reconnect.

An agent may speak of jobs of its own cluster alone; what it says of others is ignored and counted. Progress and
results come again after a lost link, and are stored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from towline.aio.tasks import TaskOwner
from towline.control.db import Database, Transaction, ask_together
from towline.control.jobs import repository
from towline.control.jobs.dispatch import Dispatcher
from towline.control.jobs.models import Job
from towline.control.jobs.service import LONGEST_ERROR, Jobs
from towline.control.jobs.states import ENDED, JobState, outcome_state
from towline.control.jobs.work import JobEnd
from towline.control.links.cleaning import clean, clean_json
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.wire import link
from towline.wire.orders import MAX_OUTPUT_CHUNK

_log = get_logger("jobs")

MOST_EVENTS = 2000
"""Events of one message that are stored; more than a large pull yields in a second."""
AT_ONCE = 500
"""Agents that come back in one question for those with jobs: below the parameters that a database takes."""
MOST_ASKING = 20_000
"""Agents whose question may wait: twice as many as one server serves."""
LONGEST_TEXT = MAX_OUTPUT_CHUNK
"""Characters of one event: no shorter than a piece of a command's output, which is kept whole."""


class Intake:
    """Takes the messages of links about jobs.

    Args: before_end: writes what the agent reported before the result, so that whoever sees the end sees the effects.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        links: Links,
        dispatcher: Dispatcher,
        before_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._db = db
        self._before_end = before_end
        self._jobs = jobs
        self._links = links
        self._dispatcher = dispatcher
        self._tasks = TaskOwner("jobs-held")
        self._at_work = ask_together(
            self._tasks, "who is at work", self._clusters_at_work, most=AT_ONCE, waiting=MOST_ASKING
        )
        self.ignored: Counter[str] = Counter()
        """Messages about jobs that are not the sender's, or from a link that cannot have got the order."""
        links.on(link.JobAccepted, self.accepted)
        links.on(link.JobProgress, self.progress)
        links.on(link.JobResult, self.result)
        links.on(link.JobsHeld, self.held)

    async def stop(self) -> None:
        await self._tasks.close()

    async def accepted(self, one: Link, message: link.JobAccepted) -> None:
        """The job is in the agent's journal."""
        async with self._db.begin() as tx:
            job = await self._own(tx, one, message.job_id, message.fence)
            if job is None:
                return
            cancelling = job.state == JobState.CANCELLING
            if not cancelling:
                await self._begun(tx, job)
        if cancelling:
            await one.session.send(link.JobCancel(job_id=job.id))

    async def progress(self, one: Link, message: link.JobProgress) -> None:
        """Store what is new of a job's progress."""
        async with self._db.begin() as tx:
            job = await self._own(tx, one, message.job_id, message.fence)
            if job is None or job.state in ENDED:
                return
            await self._begun(tx, job)
            fresh = sorted((e for e in message.events[:MOST_EVENTS] if e.seq > job.agent_seq), key=lambda e: e.seq)
            if not fresh:
                return
            now = await tx.now()
            await repository.append(tx, job, [_row(event, now) for event in fresh], agent_seq=fresh[-1].seq)
            await self._jobs.handler(job.kind).progressed(tx, job, fresh)
            tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="progress")

    async def result(self, one: Link, message: link.JobResult) -> None:
        """Store how a job ended, once, and tell the agent that it may forget it."""
        if self._before_end is not None:
            await self._before_end()
        async with self._db.begin() as tx:
            job = await self._own(tx, one, message.job_id, message.fence)
            if job is None:
                return
            if job.state not in ENDED:
                await self._begun(tx, job)
                end = JobEnd(
                    outcome_state(message.outcome),
                    error=clean(message.error)[:LONGEST_ERROR],
                    code=clean(message.code) or ("refused" if message.outcome == "refused" else ""),
                    detail=clean_json(message.detail),
                )
                await self._jobs.end(tx, job, end)
        await one.session.send(link.JobStored(job_id=message.job_id))
        self._dispatcher.wake(one.cluster_id)

    async def held(self, one: Link, message: link.JobsHeld) -> None:
        """Compare what the agent holds with what we believe it holds; from now on it may get new orders."""
        if not self._links.leads(one):
            return  # jobs are its sibling's; it tells again when it has to speak for the cluster
        running, finished = set(message.running), set(message.finished)
        if await self._at_work.ask(one.cluster_id):  # thousands ask at once after a restart
            cancels: list[str] = []
            async with self._db.begin() as tx:
                for job in await repository.active_of(tx, one.cluster_id):
                    await self._reconcile(tx, job, running, finished, cancels)
            for job_id in cancels:
                await one.session.send(link.JobCancel(job_id=job_id))
        one.jobs_known = True
        self._dispatcher.wake(one.cluster_id)

    async def _clusters_at_work(self, cluster_ids: Sequence[str]) -> list[bool]:
        async with self._db.read() as tx:
            found = await repository.clusters_at_work(tx, set(cluster_ids))
        return [cluster_id in found for cluster_id in cluster_ids]

    async def _reconcile(
        self, tx: Transaction, job: Job, running: set[str], finished: set[str], cancels: list[str]
    ) -> None:
        if job.id in finished:
            return  # its result follows
        if job.id in running:
            if job.state == JobState.CANCELLING:
                cancels.append(job.id)
            else:
                await self._begun(tx, job)
            return
        match job.state:
            case JobState.SENT:
                if job.fence and await repository.requeue(tx, job.id):
                    tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="queued")
            case JobState.CANCELLING if job.started_at is None:
                await self._jobs.end(
                    tx, job, JobEnd(JobState.CANCELLED, "cancelled before the agent had it", "cancelled")
                )
            case _:
                error = "the agent no longer knows this job: its state folder was replaced; look at the host"
                await self._jobs.end(tx, job, JobEnd(JobState.FAILED, error, "lost"))

    async def _begun(self, tx: Transaction, job: Job) -> None:
        """Note that a job runs, when it was not noted before."""
        values: dict[str, Any] = {"started_at": await tx.now(), "lease_owner": "", "lease_until": None}
        states = {JobState.SENT}
        if await repository.move(tx, job.id, states=states, to=JobState.RUNNING, **values):
            await tx.refresh(job)
            tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="running")

    async def _own(self, tx: Transaction, one: Link, job_id: str, fence: int) -> Job | None:
        """Return a job of the sender's cluster that its agent can have got."""
        job = await repository.by_id(tx, job_id[:64])
        if job is None or job.cluster_id != one.cluster_id:
            self._ignore(one, job_id, "not its job")
            return None
        if fence > one.epoch or (job.fence == 0 and job.state not in ENDED):
            self._ignore(one, job_id, "never sent")
            return None
        return job

    def _ignore(self, one: Link, job_id: str, why: str) -> None:
        self.ignored[why] += 1
        _log.warning("message about a job ignored", agent=one.agent_id, job=job_id[:64], why=why)


def _row(event: link.JobEvent, now: datetime) -> dict[str, Any]:
    """Return an event as it is stored; an agent's clock that no calendar can show is replaced by ours."""
    try:
        at = datetime.fromtimestamp(event.at, UTC)
    except (OverflowError, ValueError, OSError):
        at = now
    return {
        "at": at,
        "stage": clean(event.stage)[:64],
        "text": clean(event.text)[:LONGEST_TEXT],
        "service": clean(event.service)[:255],
        "level": event.level,
        "current": min(max(event.current, 0), 2**62),
        "total": min(max(event.total, 0), 2**62),
    }

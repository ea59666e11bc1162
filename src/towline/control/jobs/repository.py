"""Every query of jobs and their events. Each UPDATE names the states it may start from; its row count is the answer."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from towline.control.db import Transaction, now
from towline.control.jobs.models import Job, JobEvent
from towline.control.jobs.states import ACTIVE, ENDED, PENDING, JobState


async def by_id(tx: Transaction, job_id: str) -> Job | None:
    query = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return (await tx.execute(query)).scalar_one_or_none()


async def by_idem_key(tx: Transaction, org_id: str, idem_key: str) -> Job | None:
    return (await tx.execute(select(Job).where(Job.org_id == org_id, Job.idem_key == idem_key))).scalar_one_or_none()


async def pending_of(tx: Transaction, serial_key: str, kind: str) -> Sequence[Job]:
    """Return the jobs of a kind and key that nobody has begun, oldest first."""
    query = select(Job).where(Job.serial_key == serial_key, Job.kind == kind, Job.state.in_(PENDING))
    return (await tx.execute(query.order_by(Job.position))).scalars().all()


async def active_of(tx: Transaction, cluster_id: str) -> Sequence[Job]:
    """Return the jobs that are, or may be, on the host of a cluster."""
    query = select(Job).where(Job.cluster_id == cluster_id, Job.state.in_(ACTIVE)).order_by(Job.position)
    return (await tx.execute(query)).scalars().all()


async def clusters_at_work(tx: Transaction, cluster_ids: Collection[str]) -> set[str]:
    """Return which of some clusters have jobs that are, or may be, on their hosts."""
    query = select(Job.cluster_id).where(Job.state.in_(ACTIVE), Job.cluster_id.in_(cluster_ids)).distinct()
    return set((await tx.execute(query)).scalars())


async def working_on(tx: Transaction, deployment_ids: Collection[str]) -> dict[str, Job]:
    """Return the job that works on each deployment, or the first that waits to."""
    query = select(Job).where(Job.deployment_id.in_(deployment_ids), Job.state.in_(ACTIVE | PENDING))
    found: dict[str, Job] = {}
    for job in (await tx.execute(query.order_by(Job.position))).scalars():
        key = job.deployment_id or ""
        if key not in found or (job.state in ACTIVE and found[key].state not in ACTIVE):
            found[key] = job
    return found


async def claim(tx: Transaction, cluster_id: str, *, owner: str, lease: float) -> Job | None:
    """Take the next job of a cluster, in one statement; None when there is none to take.

    A job whose order was sent and never confirmed is taken again when its lease has ended.
    """
    other = aliased(Job)
    in_the_way = exists(
        select(other.position).where(
            other.serial_key == Job.serial_key,
            other.position != Job.position,
            or_(other.state.in_(ACTIVE), and_(other.state.in_(PENDING), other.position < Job.position)),
        )
    )
    due = and_(Job.state.in_(PENDING), Job.run_after <= now(), or_(Job.deadline_at.is_(None), Job.deadline_at > now()))
    unconfirmed = and_(Job.state == JobState.SENT, Job.lease_until < now())
    candidate = (
        select(Job.position)
        .where(Job.cluster_id == cluster_id, or_(due, unconfirmed), or_(Job.serial_key == "", ~in_the_way))
        .order_by(Job.position)
        .limit(1)
    )
    if tx.get_bind().dialect.name == "postgresql":
        candidate = candidate.with_for_update(skip_locked=True)
    statement = (
        update(Job)
        .where(Job.position == candidate.scalar_subquery())
        .values(
            state=JobState.SENT,
            attempt=Job.attempt + 1,
            lease_owner=owner,
            lease_token=Job.lease_token + 1,
            lease_until=now(lease),
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await tx.execute(statement)).scalar_one_or_none()


async def hold(tx: Transaction, job: Job, lease: float, *, fence: int | None = None) -> bool:
    """Renew a lease. False: fenced, somebody else has the job, or it was cancelled; stop at once.

    Args: fence: the epoch of the link that the order goes out on now; from here on it may be on the host.
    """
    values: dict[str, Any] = {"lease_until": now(lease)} | ({} if fence is None else {"fence": fence})
    return (await tx.execute(_held(job).values(**values).returning(Job.id))).first() is not None


async def put_back(tx: Transaction, job: Job, state: JobState, delay: float) -> bool:
    """Return a claimed job whose order was never sent to the queue; nobody may have it for some seconds."""
    statement = (
        _held(job).where(Job.fence == 0).values(state=state, lease_owner="", lease_until=None, run_after=now(delay))
    )
    return (await tx.execute(statement.returning(Job.id))).first() is not None


async def requeue(tx: Transaction, job_id: str) -> bool:
    """Return a job to the queue whose order the agent says it never got."""
    statement = update(Job).where(Job.id == job_id, Job.state == JobState.SENT)
    values = {"state": JobState.QUEUED, "fence": 0, "lease_owner": "", "lease_until": None}
    statement = statement.values(**values).execution_options(synchronize_session=False)
    return (await tx.execute(statement.returning(Job.id))).first() is not None


def _held(job: Job) -> Any:
    return (
        update(Job)
        .where(Job.id == job.id, Job.lease_token == job.lease_token, Job.state == JobState.SENT)
        .execution_options(synchronize_session=False)
    )


async def cancel_unsent(tx: Transaction, job_id: str) -> bool:
    """Free a claimed job whose order was not sent yet from its claim, so that it can be ended."""
    statement = update(Job).where(Job.id == job_id, Job.state == JobState.SENT, Job.fence == 0)
    values = {"lease_token": Job.lease_token + 1, "state": JobState.QUEUED}
    statement = statement.values(**values).execution_options(synchronize_session=False)
    return (await tx.execute(statement.returning(Job.id))).first() is not None


async def move(tx: Transaction, job_id: str, *, states: Collection[JobState], to: JobState, **values: Any) -> bool:
    """Change a job's state if it is in one of some states."""
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.state.in_(states))
        .values(state=to, **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return (await tx.execute(statement)).first() is not None


async def pending_by_cluster(tx: Transaction) -> set[tuple[str, JobState]]:
    """Return which clusters have queued and which have waiting jobs."""
    query = select(Job.cluster_id, Job.state).where(Job.state.in_(PENDING)).distinct()
    return {(row[0], JobState(row[1])) for row in await tx.execute(query)}


async def mark_waiting(tx: Transaction, cluster_ids: Collection[str], *, waiting: bool) -> Sequence[tuple[str, str]]:
    """Say of clusters' queues that they wait for the agent, or no longer. Returns job and cluster of what changed."""
    before, after = (JobState.QUEUED, JobState.WAITING) if waiting else (JobState.WAITING, JobState.QUEUED)
    statement = (
        update(Job)
        .where(Job.cluster_id.in_(cluster_ids), Job.state == before)
        .values(state=after)
        .returning(Job.id, Job.cluster_id)
        .execution_options(synchronize_session=False)
    )
    return [(row[0], row[1]) for row in await tx.execute(statement)]


async def overdue(tx: Transaction, limit: int) -> Sequence[Job]:
    """Return jobs whose deadline has passed before anybody began."""
    query = select(Job).where(Job.state.in_(PENDING), Job.deadline_at <= now()).limit(limit)
    return (await tx.execute(query)).scalars().all()


async def abandoned(tx: Transaction, seconds: float, limit: int) -> Sequence[Job]:
    """Return jobs that were begun so long ago that no agent will tell how they ended."""
    query = select(Job).where(Job.state.in_(ACTIVE), Job.created_at < now(-seconds)).limit(limit)
    return (await tx.execute(query)).scalars().all()


async def clusters_with_work(tx: Transaction) -> set[str]:
    """Return the clusters that have something that could be sent now."""
    query = (
        select(Job.cluster_id)
        .where(Job.run_after <= now())
        .where(or_(Job.state.in_(PENDING), and_(Job.state == JobState.SENT, Job.lease_until < now())))
        .distinct()
    )
    return set((await tx.execute(query)).scalars())


# -- events --------------------------------------------------------------------------------------


async def append(tx: Transaction, job: Job, rows: Sequence[dict[str, Any]], *, agent_seq: int = 0) -> int:
    """Add events behind the last one. The job's row is locked by it. Returns the newest number."""
    values: dict[str, Any] = {"last_seq": Job.last_seq + len(rows)}
    if agent_seq:
        values["agent_seq"] = agent_seq
    if rows and rows[-1].get("stage"):
        values["stage"] = rows[-1]["stage"]
    statement = update(Job).where(Job.id == job.id).values(**values).returning(Job.last_seq)
    last = (await tx.execute(statement.execution_options(synchronize_session=False))).scalar_one()
    if rows:
        first = last - len(rows) + 1
        numbered = [{"job_id": job.id, "seq": first + place, **row} for place, row in enumerate(rows)]
        await tx.execute(insert(JobEvent), numbered)
    return int(last)


async def events(tx: Transaction, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after)
    return (await tx.execute(query.order_by(JobEvent.seq).limit(limit))).scalars().all()


# -- lists and retention -------------------------------------------------------------------------


def matching(
    org_id: str,
    *,
    where: Sequence[ColumnElement[bool]],
    cluster_id: str = "",
    deployment_id: str = "",
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    search: str = "",
) -> Select[Any]:
    """Return the query of a list of jobs, without order."""
    query = select(Job).where(Job.org_id == org_id, *where)
    if cluster_id:
        query = query.where(Job.cluster_id == cluster_id)
    if deployment_id:
        query = query.where(Job.deployment_id == deployment_id)
    if states:
        query = query.where(Job.state.in_(states))
    if kinds:
        query = query.where(Job.kind.in_(kinds))
    if search:
        text = (Job.id, Job.kind, Job.project, Job.created_by)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in text)))
    return query


async def counts(tx: Transaction) -> dict[str, int]:
    """Return how many jobs are in each state that has not ended, for the metrics."""
    query = select(Job.state, func.count()).where(Job.state.in_(ACTIVE | PENDING)).group_by(Job.state)
    return {row[0]: row[1] for row in await tx.execute(query)}


async def forget(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete jobs that ended before some moment, with their events."""
    old = select(Job.position).where(Job.state.in_(ENDED), Job.finished_at < before).limit(limit)
    result = await tx.execute(delete(Job).where(Job.position.in_(old)).returning(Job.position))
    return len(result.all())

"""Every query of the commands that REST agents fetch. Each UPDATE names the state it may start from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import exists, select, update

from towline.control.db import Transaction, now
from towline.control.jobs.models import Job
from towline.control.jobs.states import JobState
from towline.control.protocols.models import CompatAgent
from towline.control.protocols.pipeops.rest_leases import OPEN, CommandState
from towline.control.protocols.pipeops.rest_models import PipeopsCommand

_LIVE_JOBS = (JobState.SENT, JobState.RUNNING)
"""Jobs whose command may still begin: not one that was cancelled or given up meanwhile."""


async def of_job(tx: Transaction, job_id: str, agent_id: str) -> PipeopsCommand | None:
    query = select(PipeopsCommand).where(PipeopsCommand.job_id == job_id, PipeopsCommand.agent_id == agent_id)
    return (await tx.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()


async def unstored(tx: Transaction, agent_ids: Collection[str]) -> Sequence[PipeopsCommand]:
    """Return the commands of some agents whose end is not yet stored with their jobs, oldest first."""
    states = (*OPEN, CommandState.ENDED)
    query = select(PipeopsCommand).where(PipeopsCommand.agent_id.in_(agent_ids), PipeopsCommand.state.in_(states))
    return (await tx.execute(query.order_by(PipeopsCommand.created_at, PipeopsCommand.job_id))).scalars().all()


async def waiting(tx: Transaction, agent_id: str, most: int) -> Sequence[tuple[str, int]]:
    """Return id and size of the commands that an agent may fetch, oldest first."""
    query = select(PipeopsCommand.job_id, PipeopsCommand.payload_bytes).where(
        PipeopsCommand.agent_id == agent_id, PipeopsCommand.state == CommandState.WAITING
    )
    rows = await tx.execute(query.order_by(PipeopsCommand.created_at, PipeopsCommand.job_id).limit(most))
    return [(row[0], row[1]) for row in rows]


async def hand_out(tx: Transaction, job_id: str, margin: float) -> PipeopsCommand | None:
    """Give a waiting command to its agent; None when somebody else did, or its job is not to begin any more.

    Args: margin: seconds of its lease beyond its own time limit.
    """
    live = exists(select(Job.id).where(Job.id == job_id, Job.state.in_(_LIVE_JOBS)))
    row = await tx.get(PipeopsCommand, job_id)
    lease = now(margin + (row.timeout if row is not None else 0.0))
    return await _changed(
        tx,
        job_id,
        {CommandState.WAITING},
        state=CommandState.HANDED,
        handed=PipeopsCommand.handed + 1,
        seq=PipeopsCommand.seq + 1,
        lease_until=lease,
        where=(live, PipeopsCommand.cancelling.is_(False)),
    )


async def renew(tx: Transaction, job_id: str, seconds: float, *, fence: int) -> None:
    """Let an agent have more time to ask for a command, whose order came again."""
    await _changed(tx, job_id, {CommandState.WAITING}, lease_until=now(seconds), fence=fence)


async def extend(tx: Transaction, job_id: str, seconds: float) -> None:
    """Let an agent that was away, as was its lease's end, tell how a command ended."""
    await _changed(
        tx, job_id, {CommandState.HANDED}, lease_until=now(seconds), where=(PipeopsCommand.lease_until < now(seconds),)
    )


async def wait_again(tx: Transaction, job_id: str, seconds: float) -> PipeopsCommand | None:
    """Let a command be fetched once more."""
    return await _changed(
        tx, job_id, {CommandState.HANDED}, state=CommandState.WAITING, seq=PipeopsCommand.seq + 1,
        lease_until=now(seconds),
    )  # fmt: skip


async def end(
    tx: Transaction, job_id: str, states: Collection[CommandState], ending: dict[str, Any]
) -> PipeopsCommand | None:
    """Write down how a command ended; None when that was written before."""
    return await _changed(
        tx, job_id, states, state=CommandState.ENDED, ending=ending, sealed=b"", ended_at=now()
    )  # fmt: skip


async def note_cancel(tx: Transaction, job_id: str) -> PipeopsCommand | None:
    """Note that nobody wants a command any more that its agent has."""
    return await _changed(tx, job_id, {CommandState.HANDED}, cancelling=True, seq=PipeopsCommand.seq + 1)


async def stored(tx: Transaction, job_id: str, agent_id: str) -> None:
    """Forget how a command ended: its job knows."""
    own = (PipeopsCommand.agent_id == agent_id,)
    await _changed(tx, job_id, {CommandState.ENDED}, state=CommandState.STORED, ending={}, where=own)


async def overdue(tx: Transaction) -> Sequence[tuple[str, str]]:
    """Return command and agent of every lease that is over."""
    query = select(PipeopsCommand.job_id, PipeopsCommand.agent_id).where(
        PipeopsCommand.state.in_(OPEN), PipeopsCommand.lease_until < now()
    )
    return [(row[0], row[1]) for row in await tx.execute(query)]


async def _changed(
    tx: Transaction, job_id: str, states: Collection[CommandState], *, where: Sequence[Any] = (), **values: Any
) -> PipeopsCommand | None:
    statement = (
        update(PipeopsCommand)
        .where(PipeopsCommand.job_id == job_id, PipeopsCommand.state.in_(states), *where)
        .values(**values)
        .returning(PipeopsCommand)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await tx.execute(statement)).scalar_one_or_none()


async def remember(tx: Transaction, agent_id: str, told: dict[str, str]) -> None:
    """Keep what an agent said when it registered, for sessions that begin without."""
    row = await tx.get(CompatAgent, agent_id)
    if row is not None and {name: row.info.get(name) for name in told} != told:
        row.info = {**row.info, **told}

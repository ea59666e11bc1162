"""Every query of saved commands, runs and their targets. No rules here."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, update

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Permission
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.selectors import Requirement
from towline.control.clusters.service import carrier
from towline.control.commands.models import CommandRun, CommandTarget, SavedCommand
from towline.control.commands.states import OPEN_RUNS, TargetState
from towline.control.db import Transaction
from towline.control.ids import is_id
from towline.control.jobs.models import Job, JobEvent
from towline.control.listing import contains


class Standing(NamedTuple):
    """Where one target of a run stands."""

    position: int
    wave: int
    state: str


# -- saved ---------------------------------------------------------------------------------------


async def saved(tx: Transaction, org_id: str, name: str) -> SavedCommand | None:
    """Return a saved command by its name or its id."""
    column = SavedCommand.id if is_id(name, "cmd") else SavedCommand.name
    return (await tx.scalars(select(SavedCommand).where(SavedCommand.org_id == org_id, column == name))).one_or_none()


def all_saved(org_id: str, search: str = "") -> Select[SavedCommand]:
    query: Any = select(SavedCommand).where(SavedCommand.org_id == org_id)
    if search:
        query = query.where(or_(contains(SavedCommand.name, search), contains(SavedCommand.description, search)))
    found: Select[SavedCommand] = query
    return found


async def saved_count(tx: Transaction, org_id: str) -> int:
    return await tx.scalar(select(func.count()).where(SavedCommand.org_id == org_id)) or 0


# -- runs ----------------------------------------------------------------------------------------


async def run(tx: Transaction, run_id: str, *, lock: bool = False) -> CommandRun | None:
    """Return a run as it is now. Args: lock: nobody else moves it on until this transaction ends."""
    query = select(CommandRun).where(CommandRun.id == run_id).execution_options(populate_existing=True)
    return (await tx.scalars(query.with_for_update() if lock else query)).one_or_none()


async def run_by_key(tx: Transaction, org_id: str, idem_key: str) -> CommandRun | None:
    query = select(CommandRun).where(CommandRun.org_id == org_id, CommandRun.idem_key == idem_key)
    return (await tx.scalars(query)).one_or_none()


async def open_runs(tx: Transaction, org_id: str = "") -> list[str]:
    """Return the ids of runs that have not ended, the oldest first."""
    query = select(CommandRun.id).where(CommandRun.state.in_(OPEN_RUNS)).order_by(CommandRun.id)
    return list((await tx.scalars(query.where(CommandRun.org_id == org_id) if org_id else query)).all())


def owned(actor: Actor) -> ColumnElement[bool]:
    """Return the condition that a run is the actor's own."""
    key = "user_id" if actor.user_id else "token_id"
    mine: ColumnElement[bool] = CommandRun.actor[key].as_string() == getattr(actor, key)
    return mine


def seen(access: Access) -> ColumnElement[bool]:
    """Return the condition for targets on clusters whose jobs the actor may see."""
    column = CommandTarget.cluster_id
    scope = access.scope(Permission.JOB_READ)
    return scope.clause(cluster_id=column, matches_selector=carrier(column))


def runs(access: Access, *, state: str = "", cluster_id: str = "", search: str = "") -> Select[CommandRun]:
    """Return the query of the runs that the actor may see something of, without order."""
    mine = owned(access.actor)
    on_seen = exists(select(CommandTarget.run_id).where(CommandTarget.run_id == CommandRun.id, seen(access)))
    query: Any = select(CommandRun).where(CommandRun.org_id == access.org_id, or_(mine, on_seen))
    if state:
        query = query.where(CommandRun.state == state)
    if cluster_id:
        here = select(CommandTarget.run_id).where(
            CommandTarget.run_id == CommandRun.id, CommandTarget.cluster_id == cluster_id
        )
        query = query.where(exists(here))
    if search:
        query = query.where(or_(contains(CommandRun.created_by, search), contains(CommandRun.saved, search)))
    found: Select[CommandRun] = query
    return found


async def targets(
    tx: Transaction, run_id: str, *, where: ColumnElement[bool] | None = None, lock: bool = False
) -> Sequence[CommandTarget]:
    """Return the targets of a run in their order, as they are now."""
    query = select(CommandTarget).where(CommandTarget.run_id == run_id).order_by(CommandTarget.position)
    query = query.execution_options(populate_existing=True)
    query = query.where(where) if where is not None else query
    return (await tx.scalars(query.with_for_update() if lock else query)).all()


async def standings(tx: Transaction, run_id: str) -> Sequence[Standing]:
    """Return where each target of a run stands, in their order."""
    columns = (CommandTarget.position, CommandTarget.wave, CommandTarget.state)
    query = select(*columns).where(CommandTarget.run_id == run_id).order_by(CommandTarget.position)
    return [Standing(*row) for row in await tx.execute(query)]


async def is_at_work(tx: Transaction, run_id: str) -> bool:
    """Tell whether targets of a run are at work and none waits for its turn: nothing is next then."""
    query = select(CommandTarget.state).where(CommandTarget.run_id == run_id).distinct()
    states = set((await tx.scalars(query)).all())
    return TargetState.ACTIVE in states and TargetState.PENDING not in states


async def leave_out(tx: Transaction, run_id: str, positions: Collection[int], state: TargetState) -> None:
    """End targets that never have a turn."""
    here = (CommandTarget.run_id == run_id, CommandTarget.position.in_(positions))
    await tx.execute(update(CommandTarget).where(*here).values(state=state, ended_at=await tx.now()))


async def target_of_job(tx: Transaction, job_id: str) -> CommandTarget | None:
    return (await tx.scalars(select(CommandTarget).where(CommandTarget.job_id == job_id))).one_or_none()


async def counts(
    tx: Transaction, run_ids: Collection[str], *, where: Mapping[str, ColumnElement[bool] | None]
) -> dict[str, dict[str, int]]:
    """Return how many targets of each run are in each state. Args: where: by run, which of them count."""
    found: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    for run_id in run_ids:
        query = select(CommandTarget.state, func.count()).where(CommandTarget.run_id == run_id)
        condition = where.get(run_id)
        query = query.where(condition) if condition is not None else query
        for state, count in await tx.execute(query.group_by(CommandTarget.state)):
            found[run_id][state] = count
    return found


async def lost_targets(tx: Transaction, run_id: str) -> Sequence[CommandTarget]:
    """Return targets at work whose job is gone: their cluster was removed."""
    gone = ~exists(select(Job.id).where(Job.id == CommandTarget.job_id))
    query = select(CommandTarget).where(CommandTarget.run_id == run_id, CommandTarget.state == TargetState.ACTIVE, gone)
    return (await tx.scalars(query)).all()


# -- clusters ------------------------------------------------------------------------------------


async def clusters_named(tx: Transaction, org_id: str, names: Sequence[str]) -> dict[str, Cluster]:
    """Return clusters by what they were called in the request: names or ids."""
    query = select(Cluster).where(Cluster.org_id == org_id, or_(Cluster.name.in_(names), Cluster.id.in_(names)))
    rows = (await tx.scalars(query)).all()
    found = {row.name: row for row in rows} | {row.id: row for row in rows}  # as elsewhere, an id goes before a name
    return {name: found[name] for name in names if name in found}


async def clusters_matching(
    tx: Transaction, org_id: str, selector: Sequence[Requirement], most: int
) -> Sequence[Cluster]:
    """Return the clusters with some labels, by name."""
    query = clusters.matching(org_id, where=(), selector=selector).order_by(Cluster.name).limit(most)
    return (await tx.scalars(query)).all()


# -- output --------------------------------------------------------------------------------------


async def jobs(tx: Transaction, job_ids: Collection[str]) -> dict[str, Job]:
    query = select(Job).where(Job.id.in_(job_ids)).execution_options(populate_existing=True)
    return {row.id: row for row in (await tx.scalars(query)).all()}


async def events(
    tx: Transaction, job_id: str, stages: Collection[str], *, after: int = 0, limit: int = 0
) -> Sequence[JobEvent]:
    """Return the events of a job that are of some stages, in their order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after, JobEvent.stage.in_(stages))
    query = query.order_by(JobEvent.seq)
    return (await tx.scalars(query.limit(limit) if limit else query)).all()


async def last_seq_of(tx: Transaction, job_id: str, stage: str) -> int:
    """Return the number of the newest event of a stage; 0 when there is none."""
    query = select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id, JobEvent.stage == stage)
    return await tx.scalar(query) or 0

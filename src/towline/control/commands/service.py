"""Runs as people have to do with them: what would run where, beginning, looking, cancelling. Audited; no FastAPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.commands import repository
from towline.control.commands.authority import remembered
from towline.control.commands.choosing import Chosen, choose
from towline.control.commands.content import Contents, Typed, Wanted, wanted
from towline.control.commands.models import ERROR_CHARACTERS, CommandRun, CommandTarget
from towline.control.commands.parameters import BadParameter, filled
from towline.control.commands.progress import Progress, described
from towline.control.commands.schemas import RunIn, What
from towline.control.commands.states import OPEN_RUNS, RunState, TargetState, waves
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.jobs import repository as job_rows
from towline.control.jobs.service import Jobs
from towline.control.listing import Listed, ListQuery, fetch

MOST_OPEN_RUNS = 100
"""Of an organisation: each is looked at whenever one of its targets ends."""
CANCELLED_TOGETHER = 20
"""Jobs that are cancelled in one transaction: others wait to write for a quarter of a second at most."""
SORTS: Mapping[str, Any] = {"created_at": CommandRun.created_at, "state": CommandRun.state}


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that somebody wants to run, with the words of a saved one filled in."""

    command: Wanted
    saved: str
    selector: str | None


@dataclass(frozen=True, slots=True)
class View:
    """A run, and how many of the targets that the actor may see are in each state."""

    row: CommandRun
    counts: Mapping[str, int]


class Runs:
    """Runs of every organisation."""

    def __init__(self, db: Database, audit: AuditLog, jobs: Jobs, contents: Contents, progress: Progress) -> None:
        self._db = db
        self._audit = audit
        self._jobs = jobs
        self._contents = contents
        self._progress = progress

    # -- beginning -----------------------------------------------------------------------------

    async def preview(self, access: Access, what: What) -> tuple[Asked, list[Chosen]]:
        """Return what would run where, and run nothing. Raises: ApiError: invalid, cluster_not_found."""
        async with self._db.read() as tx:
            asked = await self._asked(tx, access, what)
            return asked, await choose(tx, access, what, asked.command.plan, selector=asked.selector)

    async def begin(self, access: Access, what: RunIn, idem_key: str | None = None) -> View:
        """Begin a run; its first targets get their jobs in the same transaction.

        Raises: ApiError: invalid, cluster_not_found; forbidden when no target is allowed; throttled.
        """
        try:
            async with self._db.begin() as tx:
                known = await repository.run_by_key(tx, access.org_id, idem_key) if idem_key else None
                if known is not None:
                    return await self._repeated(tx, access, known)
                asked = await self._asked(tx, access, what)
                chosen = await choose(tx, access, what, asked.command.plan, selector=asked.selector)
                if not any(one.decision.allowed for one in chosen):
                    raise _NoneAllowed(asked, chosen)
                run = await self._insert(tx, access, what, asked, chosen, idem_key)
                await self._progress.move_locked(tx, run)
                return (await self._views(tx, access, [run]))[0]
        except _NoneAllowed as error:
            await self._refused(access, what, error)
            raise ApiError(ErrorCode.FORBIDDEN, error.reason, hint=error.hint) from error
        except IntegrityError as error:
            raise ApiError(ErrorCode.CONFLICT, "the same request is being answered", hint="look at the runs") from error

    async def _asked(self, tx: Transaction, access: Access, what: What) -> Asked:
        if what.program is not None:
            typed = Typed(tuple(what.arguments), what.stdin)
            command = wanted(what.program, typed, namespace=what.namespace, project=what.project)
            return Asked(command, "", what.selector)
        name = what.saved or ""
        saved = await repository.saved(tx, access.org_id, name)
        if saved is None:
            raise not_found("saved command", name)
        try:
            typed = Typed(filled(saved.arguments, what.values, saved.defaults), what.stdin)
        except BadParameter as error:
            raise ApiError(ErrorCode.INVALID, str(error), hint=f"`towline commands show {saved.name}`") from error
        command = wanted(
            saved.program, typed, namespace=what.namespace or saved.namespace, project=what.project or saved.project
        )
        selector = what.selector if what.selector is not None else saved.selector or None
        return Asked(command, saved.name, selector)

    async def _insert(
        self, tx: Transaction, access: Access, what: RunIn, asked: Asked, chosen: Sequence[Chosen], idem_key: str | None
    ) -> CommandRun:
        if len(await repository.open_runs(tx, access.org_id)) >= MOST_OPEN_RUNS:
            raise ApiError(ErrorCode.CONFLICT, f"{MOST_OPEN_RUNS} runs have not ended yet", hint="cancel some")
        command = asked.command
        run = CommandRun(
            id=new_id("run"), org_id=access.org_id, idem_key=idem_key, state=RunState.RUNNING, program=command.program,
            shown=list(command.plan.masked), sealed=b"", stdin_bytes=len(command.typed.stdin.encode()),
            writes=command.plan.writes, namespace=command.namespace, project=command.plan.project, saved=asked.saved,
            selector="" if what.clusters else asked.selector or "", wave_size=what.wave,
            stop_on_failure=what.stop_on_failure, timeout=what.timeout, patience=what.patience,
            output_bytes=what.output_bytes, actor=remembered(access.actor), created_by=access.actor.username,
            created_at=await tx.now(),
        )  # fmt: skip
        run.sealed = self._contents.seal(run.org_id, run.id, command.typed)
        tx.add(run)
        await tx.flush()
        tx.add_all(_targets(run, chosen))
        await tx.flush()
        self._note_refusals(tx, access, run, chosen)
        return run

    def _note_refusals(self, tx: Transaction, access: Access, run: CommandRun, chosen: Sequence[Chosen]) -> None:
        events = [
            self._progress.event(access.actor, run, target, "command.run", decision=one.decision)
            for target, one in zip(_targets(run, chosen), chosen, strict=True)
            if not one.decision.allowed
        ]
        self._audit.record_all(tx, events)

    async def _refused(self, access: Access, what: What, error: _NoneAllowed) -> None:
        """Put on record that somebody wanted to run something and may do so nowhere."""
        command, first = error.asked.command, error.chosen[0]
        detail = {"program": command.program, "arguments": list(command.plan.masked), "targets": len(error.chosen)}
        await self._audit.record(
            self._db, access.actor, action="command.run", target_kind="cluster", target_id=first.place.id,
            target_name=first.place.name, cluster_id=first.place.id, result="refused", reason=error.reason,
            detail=detail,
        )  # fmt: skip

    async def _repeated(self, tx: Transaction, access: Access, known: CommandRun) -> View:
        if not _is_own(access, known):
            raise ApiError(ErrorCode.CONFLICT, "this idempotency key was used for something else")
        return (await self._views(tx, access, [known]))[0]

    # -- looking -------------------------------------------------------------------------------

    async def page(self, access: Access, asked: ListQuery, *, state: str = "", cluster: str = "") -> Listed[View]:
        """Return a page of the runs that the actor may see something of. Raises: ApiError: cluster_not_found."""
        async with self._db.read() as tx:
            place = await clusters.find(tx, access.org_id, cluster) if cluster else None
            if cluster and place is None:
                raise not_found("cluster", cluster[:64])
            query = repository.runs(access, state=state, cluster_id=place.id if place else "", search=asked.search)
            found: Listed[CommandRun] = await fetch(
                tx, query, asked, sorts=SORTS, default="-created_at", key=CommandRun.id
            )
            return Listed(await self._views(tx, access, found.rows), found.next_cursor, found.total)

    async def get(self, access: Access, run_id: str) -> tuple[View, Sequence[CommandTarget]]:
        """Return a run and its targets that the actor may see. Raises: ApiError: not_found."""
        async with self._db.read() as tx:
            run, targets = await self.find(tx, access, run_id)
            return (await self._views(tx, access, [run]))[0], targets

    async def find(self, tx: Transaction, access: Access, run_id: str) -> tuple[CommandRun, Sequence[CommandTarget]]:
        """Return a run and its targets that the actor may see. Raises: ApiError: not_found."""
        run = await repository.run(tx, run_id[:64])
        if run is None or run.org_id != access.org_id:
            raise not_found("run", run_id[:64])
        targets = await repository.targets(tx, run.id, where=_visible(access, run))
        if not targets:
            raise not_found("run", run_id[:64])
        return run, targets

    async def _views(self, tx: Transaction, access: Access, runs: Sequence[CommandRun]) -> list[View]:
        where = {run.id: _visible(access, run) for run in runs}
        counts = await repository.counts(tx, [run.id for run in runs], where=where)
        return [View(run, counts[run.id]) for run in runs]

    # -- cancelling ----------------------------------------------------------------------------

    async def cancel(self, access: Access, run_id: str) -> View:
        """Begin no more targets, and ask those at work to stop. Raises: ApiError: not_found, forbidden, conflict.

        Ended in between, some of them were not asked: whoever cancels once more asks those.
        """
        async with self._db.begin() as tx:
            run, _ = await self.find(tx, access, run_id)
            locked = await repository.run(tx, run.id, lock=True)
            assert locked is not None
            if locked.state not in OPEN_RUNS:
                raise ApiError(ErrorCode.CONFLICT, "the run has ended")
            targets = await repository.targets(tx, run.id)
            await self._require_cancel(tx, access, locked, targets)
            locked.state, locked.cancelled_by = RunState.CANCELLING, access.actor.username
            await self._audit.record(
                tx, access.actor, action="command.cancel", target_kind="command_run", target_id=run.id,
                target_name=run.program, detail=described(run),
            )  # fmt: skip
            await self._progress.move_locked(tx, locked)
        at_work = [target.job_id for target in targets if target.state == TargetState.ACTIVE]
        for begin in range(0, len(at_work), CANCELLED_TOGETHER):
            async with self._db.begin() as tx:
                for job_id in at_work[begin : begin + CANCELLED_TOGETHER]:
                    await self._cancel_job(tx, access, job_id)
        await self._progress.move(run_id)
        async with self._db.read() as tx:
            run, _ = await self.find(tx, access, run_id)
            return (await self._views(tx, access, [run]))[0]

    async def _require_cancel(
        self, tx: Transaction, access: Access, run: CommandRun, targets: Sequence[CommandTarget]
    ) -> None:
        """Everybody may cancel what is theirs; others need the right to on every target that is not done."""
        if _is_own(access, run):
            return
        ids = [target.cluster_id for target in targets if target.ended_at is None]
        labels = await clusters.labels_of(tx, ids)
        for cluster_id in ids:
            access.require(Permission.JOB_CANCEL, Resource(access.org_id, cluster_id, labels[cluster_id], run.project))

    async def _cancel_job(self, tx: Transaction, access: Access, job_id: str) -> None:
        job = await job_rows.by_id(tx, job_id)
        if job is None:
            return
        try:
            await self._jobs.cancel(tx, access.actor, job)
        except ApiError as error:
            if error.code is not ErrorCode.CONFLICT:
                raise  # a conflict: it has ended by now, or was asked before


class _NoneAllowed(Exception):
    """The actor may run the command on no target."""

    def __init__(self, asked: Asked, chosen: Sequence[Chosen]) -> None:
        super().__init__()
        self.asked = asked
        self.chosen = chosen
        self.reason = f"{chosen[0].place.name}: {chosen[0].decision.reason}"
        self.hint = f"the same holds for {len(chosen) - 1} others" if len(chosen) > 1 else ""


def _targets(run: CommandRun, chosen: Sequence[Chosen]) -> list[CommandTarget]:
    """Return the rows of a run's targets; those that are not allowed have ended already, and are in no wave."""
    numbers = iter(waves(len(chosen), run.wave_size))
    return [_target(run, place, one, numbers) for place, one in enumerate(chosen)]


def _target(run: CommandRun, position: int, one: Chosen, numbers: Any) -> CommandTarget:
    allowed = one.decision.allowed
    return CommandTarget(
        run_id=run.id, position=position, cluster_id=one.place.id, cluster_name=one.place.name,
        wave=next(numbers) if allowed else 0, state=TargetState.PENDING if allowed else TargetState.REFUSED,
        error=one.decision.reason[:ERROR_CHARACTERS], code="" if allowed else "forbidden",
        ended_at=None if allowed else run.created_at,
    )  # fmt: skip


def _is_own(access: Access, run: CommandRun) -> bool:
    key = "user_id" if access.actor.user_id else "token_id"
    return bool(getattr(access.actor, key)) and run.actor.get(key) == getattr(access.actor, key)


def _visible(access: Access, run: CommandRun) -> ColumnElement[bool] | None:
    """Return the condition for the targets that the actor may see; None: all of them."""
    return None if _is_own(access, run) else repository.seen(access)

"""Moving runs on: each target whose turn it is becomes a job, and a run ends when its targets have.

A run's row is locked while it is moved, so that two processes never begin the same wave; the key of each job says
which target it is for, so that none is begun twice whatever ends the process. The loop is `feature.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from towline.control.access.actor import Access, Actor
from towline.control.audit.service import AuditLog, Draft, Result, draft
from towline.control.clusters import repository as clusters
from towline.control.commands import repository
from towline.control.commands.authority import Decision, access_of, actor_of, decide, place_of
from towline.control.commands.content import Contents
from towline.control.commands.figures import Figures
from towline.control.commands.models import ERROR_CHARACTERS, CommandRun, CommandTarget
from towline.control.commands.states import OPEN_RUNS, RunState, TargetState, left_out_state, next_step
from towline.control.db import Database, Transaction
from towline.control.jobs.service import Jobs
from towline.control.jobs.work import Submission

if TYPE_CHECKING:
    from towline.control.access.service import AccessService

KIND = "command.run"
TOGETHER = 50
"""Targets that begin in one transaction: others wait to write for a quarter of a second at most, and not for all."""
MORE = "more"
"""Change that a hint tells when a run can go on at once."""
GONE = "the cluster was removed"
LEFT = "who began this may not act here any more"


class Progress:
    """Begins the targets of runs, and ends the runs."""

    def __init__(
        self, db: Database, audit: AuditLog, jobs: Jobs, access: AccessService, contents: Contents, figures: Figures
    ) -> None:
        self._db = db
        self._audit = audit
        self._jobs = jobs
        self._access = access
        self._contents = contents
        self._figures = figures

    async def move(self, run_id: str) -> None:
        """Do what is next in a run, if anything is."""
        async with self._db.begin() as tx:
            run = await repository.run(tx, run_id, lock=True)
            if run is not None:
                await self.move_locked(tx, run)

    async def move_locked(self, tx: Transaction, run: CommandRun) -> None:
        """Do what is next in a run that this transaction has locked, or has just made."""
        for lost in await repository.lost_targets(tx, run.id):
            await self.conclude(tx, run, lost, TargetState.FAILED, error=GONE, code="lost")
        begun = 0
        while run.state in OPEN_RUNS and begun < TOGETHER:
            if await repository.is_at_work(tx, run.id):  # asked whenever one of a thousand ends
                break
            standings = await repository.standings(tx, run.id)
            step = next_step(RunState(run.state), standings, stop_on_failure=run.stop_on_failure)
            if step.leave_out:
                await repository.leave_out(tx, run.id, step.leave_out, left_out_state(RunState(run.state)))
            if step.end is not None:
                await self._end(tx, run, step.end)
            if not step.begin:
                break
            turn = step.begin[: TOGETHER - begun]
            here = CommandTarget.position.in_(turn)
            await self._begin(tx, run, await repository.targets(tx, run.id, where=here))
            begun += len(turn)
        more = {"change": MORE} if begun >= TOGETHER else {}
        tx.publish("command", id=run.id, org_id=run.org_id, **more)

    async def _begin(self, tx: Transaction, run: CommandRun, turn: Sequence[CommandTarget]) -> None:
        """Submit the targets whose turn it is, as far as whoever began the run may still do this there."""
        access = await access_of(tx, self._access, run)
        decisions = await self._decisions(tx, run, access, turn)
        events = []
        for target in turn:
            decision = decisions.get(target.cluster_id, Decision(GONE))
            events.append(self.event(actor_of(run), run, target, "command.run", decision=decision))
            if decision.allowed:
                await self._submit(tx, run, target)
            else:
                await self.conclude(tx, run, target, TargetState.REFUSED, error=decision.reason, code="forbidden")
        self._audit.record_all(tx, events)
        await tx.flush()

    async def _decisions(
        self, tx: Transaction, run: CommandRun, access: Access | None, turn: Sequence[CommandTarget]
    ) -> dict[str, Decision]:
        ids = [target.cluster_id for target in turn]
        rows, labels, plan = await clusters.by_id(tx, ids), await clusters.labels_of(tx, ids), self._contents.plan(run)
        if access is None:
            return {name: Decision(LEFT) for name in rows}
        return {name: await decide(tx, access, place_of(row, labels[name]), plan) for name, row in rows.items()}

    async def _submit(self, tx: Transaction, run: CommandRun, target: CommandTarget) -> None:
        wanted = Submission(
            target.cluster_id,
            KIND,
            payload={"run": run.id, "position": target.position},
            project=run.project,
            idem_key=f"{run.id}/{target.position}",
            timeout=run.timeout,
            deadline_seconds=run.patience,
        )
        submitted = await self._jobs.submit(tx, actor_of(run), wanted)
        target.state, target.job_id = TargetState.ACTIVE, submitted.job.id

    async def conclude(
        self, tx: Transaction, run: CommandRun, target: CommandTarget, state: TargetState, *, error: str = "",
        code: str = "",
    ) -> None:  # fmt: skip
        """Write down that a target has ended without a job's result."""
        target.state, target.error, target.code = state, error[:ERROR_CHARACTERS], code
        target.ended_at = await tx.now()
        if state is TargetState.REFUSED:
            tx.after_commit.append(lambda: self._figures.refused.labels(code).inc())
        await tx.flush()

    async def _end(self, tx: Transaction, run: CommandRun, state: RunState) -> None:
        run.state, run.ended_at = state, await tx.now()
        await tx.flush()
        tx.after_commit.append(lambda: self._figures.runs.labels(state).inc())

    def event(
        self, actor: Actor, run: CommandRun, target: CommandTarget, action: str, *, decision: Decision | None = None,
        result: Result = "done", reason: str = "", **more: Any,
    ) -> Draft:  # fmt: skip
        """Return the event of a run's target, with the whole argument list as it may be kept."""
        if decision is not None and not decision.allowed:
            result, reason = "refused", decision.reason
        detail = described(run) | more
        if decision is not None and decision.allowed and decision.groups:
            detail |= {"user": decision.user, "groups": list(decision.groups)}
        return draft(
            actor, action=action, target_kind="cluster", target_id=target.cluster_id, target_name=target.cluster_name,
            cluster_id=target.cluster_id, result=result, reason=reason, detail=detail,
        )  # fmt: skip


def described(run: CommandRun) -> dict[str, Any]:
    """Return what the audit log keeps of a run."""
    detail = {
        "run": run.id, "program": run.program, "arguments": list(run.shown), "namespace": run.namespace,
        "project": run.project, "saved": run.saved, "stdin_bytes": run.stdin_bytes,
    }  # fmt: skip
    return {name: value for name, value in detail.items() if value}

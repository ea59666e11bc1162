"""What commands do for their jobs: make the order when one is sent, write down how it ended, say who may read it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from towline.control.access.actor import Access
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.commands import output, repository
from towline.control.commands.authority import access_of, actor_of, decide, place_of
from towline.control.commands.content import DEFAULT_NAMESPACE, Contents
from towline.control.commands.figures import Figures
from towline.control.commands.models import ERROR_CHARACTERS, CommandRun, CommandTarget
from towline.control.commands.progress import LEFT, Progress
from towline.control.commands.results import readable
from towline.control.commands.states import OF_JOB, OPEN_TARGETS
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs.models import Job
from towline.control.jobs.work import JobEnd
from towline.wire import link, orders

if TYPE_CHECKING:
    from towline.control.access.service import AccessService

LARGEST_COUNT = 2**31 - 1
"""What a column of counts holds; an agent may say anything."""


class CommandHandler:
    """`command.run`."""

    def __init__(
        self, db: Database, audit: AuditLog, access: AccessService, contents: Contents, progress: Progress,
        figures: Figures,
    ) -> None:  # fmt: skip
        self._db = db
        self._audit = audit
        self._access = access
        self._contents = contents
        self._progress = progress
        self._figures = figures

    async def prepare(self, job: Job) -> Mapping[str, Any]:
        """Make the order. Raises: ApiError: whoever began it may not do this there any more."""
        async with self._db.read() as tx:
            run, _ = await self._subject(tx, job)
            row, access = (await clusters.by_id(tx, [job.cluster_id])).get(job.cluster_id), None
            access = await access_of(tx, self._access, run) if run is not None else None
            if run is None or row is None or access is None:
                raise ApiError(ErrorCode.FORBIDDEN, LEFT)
            labels = await clusters.labels_of(tx, [row.id])
            plan = self._contents.plan(run)
            decision = await decide(tx, access, place_of(row, labels[row.id]), plan)
        if not decision.allowed:
            raise ApiError(ErrorCode.FORBIDDEN, decision.reason)
        typed = self._contents.open(run)
        order = orders.Command(
            project=run.project, program=run.program, arguments=typed.arguments, user=decision.user,  # type: ignore[arg-type]
            groups=decision.groups, namespace=run.namespace or DEFAULT_NAMESPACE, stdin=typed.stdin,
            output_bytes=run.output_bytes,
        )  # fmt: skip
        made: dict[str, Any] = msgspec.to_builtins(order)
        return made

    async def progressed(self, tx: Transaction, job: Job, events: Sequence[link.JobEvent]) -> None:
        """Hint that a page about the run is out of date."""
        tx.publish("command", id=str(job.payload.get("run", "")), org_id=job.org_id)

    async def finished(self, tx: Transaction, job: Job, end: JobEnd) -> None:
        """Write down what came of a target; the run is moved on by the hint of it."""
        run, target = await self._subject(tx, job)
        if run is None or target is None or target.state not in OPEN_TARGETS:
            return
        detail = end.detail
        target.state = OF_JOB[end.state]
        target.error, target.code = end.error[:ERROR_CHARACTERS], end.code[:64]
        target.exit_code = _count(detail, "exit_code") if "exit_code" in detail else None
        target.stdout_bytes, target.stderr_bytes = _count(detail, "stdout_bytes"), _count(detail, "stderr_bytes")
        target.truncated = detail.get("truncated") is True
        target.answer = await self._answer(tx, target)
        target.ended_at = await tx.now()
        result = "done" if end.is_success else "failed"
        event = self._progress.event(
            actor_of(run), run, target, "command.end", result=result, reason="" if end.is_success else end.code,  # type: ignore[arg-type]
            job=job.id, state=end.state, exit_code=target.exit_code, stdout_bytes=target.stdout_bytes,
            stderr_bytes=target.stderr_bytes,
        )  # fmt: skip
        self._audit.record_all(tx, [event])
        tx.publish("command", id=run.id, org_id=run.org_id, change="ended")
        program, state = run.program, end.state
        tx.after_commit.append(lambda: self._figures.commands.labels(program, state).inc())

    # -- what may be read of it ------------------------------------------------------------------

    def kept_error(self, end: JobEnd) -> str:
        """Return an error without what the command printed: whoever sees the job may not be one who may read it."""
        if end.code != "command_exit":
            return end.error
        return f"the command ended with exit code {_count(end.detail, 'exit_code')}"

    async def may_read(self, tx: Transaction, access: Access, job: Job) -> bool:
        """Tell whether somebody may see what a command printed."""
        run, _ = await self._subject(tx, job)
        return run is not None and bool(await readable(tx, access, self._contents, run, [job.cluster_id]))

    async def _subject(self, tx: Transaction, job: Job) -> tuple[CommandRun | None, CommandTarget | None]:
        target = await repository.target_of_job(tx, job.id)
        return (None, None) if target is None else (await repository.run(tx, target.run_id), target)

    async def _answer(self, tx: Transaction, target: CommandTarget) -> str:
        """Return a hash over what a target answered."""
        found = hashlib.sha256(f"{target.state} {target.exit_code} {target.code}\0".encode())
        for stage in output.STAGES:
            found.update(f"\0{stage}\0".encode())
            async for text in output.texts(tx, target.job_id, stage):
                found.update(text.encode())
        return found.hexdigest()


def _count(detail: Mapping[str, Any], name: str) -> int:
    value = detail.get(name)
    return max(-LARGEST_COUNT, min(LARGEST_COUNT, value)) if isinstance(value, int) else 0

"""Taking orders and seeing them through: one project's jobs one by one, several projects at once.

An order is in the journal before it is accepted, and a result before it is sent. A runner that starts again goes on
with what the journal holds. Not here: what the jobs do (`kinds.py`), talking to the control plane (`delivery.py`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection

import msgspec
import structlog

from towline.agent.errors import AgentError, JobFailed, PolicyRefused, StorageError
from towline.agent.jobs import kinds
from towline.agent.jobs.context import Host, JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.jobs.reporter import Reporter
from towline.agent.journal import Entry
from towline.aio.tasks import TaskOwner
from towline.wire import link, orders

DISK_PAUSE = 10.0
"""Seconds until a job is tried again whose journal could not be written: somebody has to make room first."""

SIDE_BY_SIDE = frozenset({"command.run"})
"""Kinds that have slots of their own and wait for no job of their project: a command may follow a log for hours."""

Execute = Callable[[JobContext], Awaitable[Ended]]
_log = structlog.get_logger("towline.agent")


class Runner:
    """The jobs of one agent.

    Args: publish: called with a job's id when it has new events or its result. before_result: tells what is seen on
    the host, so that a result does not arrive before its effects.
    """

    def __init__(
        self,
        host: Host,
        owner: TaskOwner,
        publish: Callable[[str], None],
        *,
        execute: Execute = kinds.execute,
        before_result: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._host = host
        self._owner = owner
        self._publish = publish
        self._execute = execute
        self._before_result = before_result
        self._waiting: dict[str, deque[str]] = {}
        self._running: dict[str, JobContext] = {}
        self._slots = asyncio.Semaphore(host.settings.parallel_jobs)
        self._command_slots = asyncio.Semaphore(host.settings.parallel_commands)
        self.ended: Counter[tuple[str, str]] = Counter()
        """Jobs that ended since the agent began, by kind and outcome."""

    def __repr__(self) -> str:
        return f"<Runner running={sorted(self._running)} projects={sorted(self._waiting)}>"

    @property
    def running(self) -> int:
        return len(self._running)

    def resume(self) -> None:
        """Go on with everything that the journal holds, and remove what belongs to no job."""
        unfinished = self._host.journal.unfinished()
        held = {entry.job_id for entry in unfinished}
        for job_id in set(self._host.steps.known()) - held:
            self._host.steps.forget(job_id)
        self._clear_stages(held)
        for entry in unfinished:
            _log.info("job resumed", job=entry.job_id, kind=entry.kind, project=entry.project)
            self._enqueue(entry)

    def _clear_stages(self, held: Collection[str]) -> None:
        """Remove what jobs that have ended left: a stage, or the login of a registry."""
        stages = self._host.stages
        for path in stages.iterdir() if stages.is_dir() else ():
            if path.name.partition(".")[0] not in held:
                shutil.rmtree(path, ignore_errors=True)

    def take(self, job: link.Job) -> None:
        """Promise to do a job; a repeated order changes nothing. Raises: StorageError: the disk did not take it."""
        project = _project(job)
        if self._host.journal.accept(job, project, self._now()):
            _log.info("job accepted", job=job.job_id, kind=job.kind, project=project)
            entry = self._host.journal.entry(job.job_id)
            assert entry is not None
            self._enqueue(entry)

    def cancel(self, job_id: str) -> None:
        """Cancel a job, now or when its turn comes."""
        if not self._host.journal.cancel(job_id):
            return
        _log.info("job cancelled", job=job_id)
        context = self._running.get(job_id)
        if context is not None:
            context.cancelled.set()

    def _enqueue(self, entry: Entry) -> None:
        key = entry.job_id if entry.kind in SIDE_BY_SIDE else entry.project or entry.job_id
        queue = self._waiting.get(key)
        if queue is not None:
            queue.append(entry.job_id)
            return
        self._waiting[key] = deque([entry.job_id])
        slots = self._command_slots if entry.kind in SIDE_BY_SIDE else self._slots
        self._owner.spawn(f"jobs of {key}", self._drain(key, slots))

    async def _drain(self, key: str, slots: asyncio.Semaphore) -> None:
        try:
            while self._waiting[key]:
                async with slots:
                    await self._work_or_wait(self._waiting[key])
        finally:
            del self._waiting[key]

    async def _work_or_wait(self, queue: deque[str]) -> None:
        """Do the first job; while the journal cannot be written it stays the first."""
        try:
            await self._work(queue[0])
        except StorageError as error:
            _log.error("job waits for the disk", job=queue[0], reason=str(error))
            await self._host.clock.sleep(DISK_PAUSE)
        else:
            queue.popleft()

    async def _work(self, job_id: str) -> None:
        journal = self._host.journal
        journal.begin(job_id, self._now())
        entry = journal.entry(job_id)
        if entry is None or entry.result is not None:
            return
        reporter = Reporter(job_id, journal, self._publish, clock=self._host.clock)
        context = self._running[job_id] = JobContext(self._host, entry, reporter)
        try:
            ended = await self._ended(context)
            reporter.close()
            if self._before_result is not None:
                await self._before_result()
            self._finish(entry, ended, reporter)
        finally:
            del self._running[job_id]

    async def _ended(self, context: JobContext) -> Ended:
        if context.cancelled.is_set() and context.entry.plan is None:
            return Ended("cancelled", "cancelled", "cancelled before it began")
        try:
            return await self._execute(context)
        except JobFailed as error:
            return Ended("refused" if error.code == "bad_order" else "failed", error.code, str(error), error.detail)
        except PolicyRefused as error:
            return Ended("refused", "policy_violation", str(error))
        except StorageError as error:
            return Ended("failed", "disk_full", str(error))
        except AgentError as error:
            return Ended("failed", "command_failed", str(error))
        except Exception as error:
            # A job ends here; whatever went wrong must become a result, or the control plane waits for ever.
            _log.exception("job failed", job=context.job_id)
            return Ended("failed", "internal", f"the agent failed: {type(error).__name__}: {error}")

    def _finish(self, entry: Entry, ended: Ended, reporter: Reporter) -> None:
        last = self._host.journal.entry(entry.job_id)
        detail = orders.detail_dict(ended.detail) if ended.detail is not None else {}
        self._host.journal.finish(
            link.JobResult(
                job_id=entry.job_id,
                fence=last.fence if last else entry.fence,
                outcome=ended.outcome,
                error=reporter.redacted(ended.error),
                code=ended.code,
                detail=detail,
                finished_at=self._now(),
                last_seq=last.last_seq if last else 0,
            )
        )
        self.ended[entry.kind if entry.kind in orders.ORDERS else "unknown", ended.outcome] += 1
        self._host.steps.forget(entry.job_id)
        _log.info("job finished", job=entry.job_id, outcome=ended.outcome, code=ended.code)
        self._publish(entry.job_id)

    def _now(self) -> float:
        return self._host.clock.now().timestamp()


def _project(job: link.Job) -> str:
    """Return the project that a payload names; empty when it cannot be read, which the work will tell."""
    try:
        return orders.decode(job.kind, job.payload).project
    except (orders.BadOrder, msgspec.DecodeError):
        return ""

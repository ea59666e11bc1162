"""The rules of jobs: submitting, cancelling, ending, and who may see them. Sending is `dispatch.py`.

Every change of a state goes through here, in one transaction with its event and with what the handler does about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.service import carrier
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import is_id, new_id
from towline.control.jobs import repository
from towline.control.jobs.models import Job, JobEvent
from towline.control.jobs.states import ENDED, PENDING, JobState, before
from towline.control.jobs.work import (
    OUTPUT_STAGES,
    Discreet,
    JobEnd,
    JobHandler,
    KeepsBack,
    Submission,
    Submitted,
)
from towline.control.links.registry import Links
from towline.control.listing import Listed, ListQuery, fetch
from towline.control.logging import get_logger

_log = get_logger("jobs")

SORTS = {"created_at": Job.created_at, "state": Job.state, "kind": Job.kind}
LONGEST_ERROR = 4000
"""Characters of an error that are kept: a sentence and a log's last lines."""
PROJECT_PREFIX = "project/"


class Jobs:
    """Work for agents."""

    def __init__(self, db: Database, audit: AuditLog, links: Links) -> None:
        self._db = db
        self._audit = audit
        self._links = links
        self._handlers: dict[str, JobHandler] = {}
        self.ended: Counter[tuple[str, str]] = Counter()
        """Jobs that ended, by kind and state; for metrics."""

    def __repr__(self) -> str:
        return f"<Jobs {sorted(self._handlers)}>"

    def register(self, kind: str, handler: JobHandler) -> None:
        """Name who makes the orders of a kind and hears how they end."""
        assert kind not in self._handlers, f"{kind} has a handler already"
        self._handlers[kind] = handler

    def handler(self, kind: str) -> JobHandler:
        return self._handlers[kind]

    # -- submitting ------------------------------------------------------------------------------

    async def submit(self, tx: Transaction, actor: Actor, wanted: Submission) -> Submitted:
        """Put a job into the queue, in the caller's transaction.

        Raises: ApiError: conflict, when the idempotency key was used for something else.
        """
        assert wanted.kind in self._handlers, f"nobody handles {wanted.kind}"
        if wanted.idem_key:
            known = await repository.by_idem_key(tx, actor.org_id, wanted.idem_key)
            if known is not None:
                return _repeated(known, wanted)
        superseded = await self._supersede(tx, wanted) if wanted.supersede and wanted.serial_key else ()
        job = await self._insert(tx, actor, wanted)
        await self._event(tx, job, *await self._first_words(tx, job))
        tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="queued")
        return Submitted(job, superseded)

    async def _insert(self, tx: Transaction, actor: Actor, wanted: Submission) -> Job:
        moment = await tx.now()
        connected = self._links.is_connected(wanted.cluster_id)
        project = wanted.project
        if not project and wanted.serial_key.startswith(PROJECT_PREFIX):
            project = wanted.serial_key.rpartition("/")[2]
        job = Job(
            id=new_id("job"),
            org_id=actor.org_id,
            cluster_id=wanted.cluster_id,
            deployment_id=wanted.deployment_id,
            kind=wanted.kind,
            project=project,
            serial_key=wanted.serial_key,
            idem_key=wanted.idem_key,
            state=JobState.QUEUED if connected else JobState.WAITING,
            run_after=moment,
            deadline_at=moment + timedelta(seconds=wanted.deadline_seconds),
            timeout=wanted.timeout,
            payload=dict(wanted.payload),
            created_by=actor.username,
            created_at=moment,
        )
        tx.add(job)
        await tx.flush()
        return job

    async def _first_words(self, tx: Transaction, job: Job) -> tuple[str, str]:
        if job.state == JobState.QUEUED:
            return "queued", f"queued by {job.created_by}"
        row = (await clusters.by_id(tx, [job.cluster_id])).get(job.cluster_id)
        since = f" since {row.last_seen_at:%Y-%m-%d %H:%M} UTC" if row and row.last_seen_at else ""
        until = f"{job.deadline_at:%Y-%m-%d %H:%M} UTC" if job.deadline_at else "it is back"
        return "waiting", f"the agent of {row.name if row else job.cluster_id} is away{since}; waiting until {until}"

    async def _supersede(self, tx: Transaction, wanted: Submission) -> tuple[str, ...]:
        ended = []
        for old in await repository.pending_of(tx, wanted.serial_key, wanted.kind):
            end = JobEnd(JobState.SUPERSEDED, "a newer one took its place", "superseded")
            if await self.end(tx, old, end, states=PENDING):
                ended.append(old.id)
        return tuple(ended)

    # -- cancelling and ending -------------------------------------------------------------------

    async def cancel(self, tx: Transaction, actor: Actor, job: Job) -> Job:
        """Cancel a job: at once while nobody has begun, else the agent is asked to. Raises: ApiError: conflict."""
        end = JobEnd(JobState.CANCELLED, f"cancelled by {actor.username}", "cancelled")
        await repository.cancel_unsent(tx, job.id)
        if await self.end(tx, job, end, states=PENDING):
            asked = False
        else:
            begun = {JobState.SENT, JobState.RUNNING}
            asked = await repository.move(tx, job.id, states=begun, to=JobState.CANCELLING)
            if not asked:
                raise ApiError(ErrorCode.CONFLICT, f"the job has {'ended' if job.state in ENDED else 'that state'}")
            await self._event(tx, job, "cancelling", f"{actor.username} asked to cancel")
            tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="cancelling")
        await self._audit.record(
            tx, actor, action="job.cancel", target_kind="job", target_id=job.id, target_name=job.kind,
            cluster_id=job.cluster_id, detail={"begun": asked},
        )  # fmt: skip
        await tx.refresh(job)
        return job

    async def end(self, tx: Transaction, job: Job, end: JobEnd, *, states: frozenset[JobState] | None = None) -> bool:
        """End a job from one of some states. False when it has ended, or is in none of them."""
        to = JobState(end.state)
        handler = self._handlers[job.kind]
        kept = handler.kept_detail(job.kind, end.detail) if isinstance(handler, KeepsBack) else end.detail
        error = handler.kept_error(end) if isinstance(handler, Discreet) else end.error
        moved = await repository.move(
            tx,
            job.id,
            states=before(to) if states is None else states & before(to),
            to=to,
            error=error[:LONGEST_ERROR],
            code=end.code[:64],
            result=dict(kept),
            finished_at=await tx.now(),
            lease_owner="",
            lease_until=None,
        )
        if not moved:
            return False
        level = "info" if to in (JobState.SUCCEEDED, JobState.SUPERSEDED, JobState.CANCELLED) else "error"
        await self._event(tx, job, "", f"{to}: {error}" if error else str(to), level=level)
        ended = await repository.by_id(tx, job.id)
        assert ended is not None
        await handler.finished(tx, ended, end)
        tx.publish("job", id=job.id, cluster_id=job.cluster_id, change="ended")
        tx.after_commit.append(lambda: self.ended.update([(job.kind, str(to))]))
        _log.info("job ended", job=job.id, kind=job.kind, state=str(to), code=end.code, cluster=job.cluster_id)
        return True

    async def _event(self, tx: Transaction, job: Job, stage: str, text: str, *, level: str = "info") -> None:
        row: dict[str, Any] = {"at": await tx.now(), "stage": stage, "text": text[:LONGEST_ERROR], "level": level}
        await repository.append(tx, job, [row])

    # -- looking ---------------------------------------------------------------------------------

    async def find(
        self, tx: Transaction, access: Access, job_id: str, permission: Permission = Permission.JOB_READ
    ) -> tuple[Job, Resource]:
        """Return a job that the actor has a permission for. Raises: ApiError: job_not_found, forbidden."""
        missing = not_found("job", job_id[:64])
        job = await repository.by_id(tx, job_id) if is_id(job_id, "job") else None
        if job is None or job.org_id != access.org_id:
            raise missing
        labels = (await clusters.labels_of(tx, [job.cluster_id]))[job.cluster_id]
        resource = Resource(access.org_id, job.cluster_id, labels, job.project)
        access.require(permission, resource, missing=missing)
        return job, resource

    async def page(
        self,
        access: Access,
        asked: ListQuery,
        *,
        cluster: str = "",
        deployment_id: str = "",
        states: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> tuple[Listed[Job], Mapping[str, str]]:
        """Return a page of jobs, newest first, and the names of their clusters."""
        scope = access.scope(Permission.JOB_READ)
        visible = scope.clause(cluster_id=Job.cluster_id, matches_selector=carrier(Job.cluster_id), project=Job.project)
        async with self._db.read() as tx:
            place = await clusters.find(tx, access.org_id, cluster) if cluster else None
            if cluster and place is None:
                raise not_found("cluster", cluster[:64])
            query = repository.matching(
                access.org_id,
                where=[visible],
                cluster_id=place.id if place else "",
                deployment_id=deployment_id,
                states=states,
                kinds=kinds,
                search=asked.search,
            )
            found: Listed[Job] = await fetch(tx, query, asked, sorts=SORTS, default="-created_at", key=Job.id)
            names = await clusters.names(tx, {job.cluster_id for job in found.rows})
        return found, names

    async def get(self, access: Access, job_id: str) -> tuple[Job, str]:
        """Return a job and the name of its cluster. Raises: ApiError: job_not_found."""
        async with self._db.read() as tx:
            job, _ = await self.find(tx, access, job_id)
            return job, (await clusters.names(tx, [job.cluster_id])).get(job.cluster_id, "")

    async def request_cancel(self, access: Access, job_id: str) -> tuple[Job, str]:
        """Cancel a job on behalf of somebody. Raises: ApiError: job_not_found, forbidden, conflict."""
        async with self._db.begin() as tx:
            job, _ = await self.find(tx, access, job_id, Permission.JOB_CANCEL)
            job = await self.cancel(tx, access.actor, job)
            name = (await clusters.names(tx, [job.cluster_id])).get(job.cluster_id, "")
        return job, name

    async def events(self, tx: Transaction, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
        return await repository.events(tx, job_id, after, limit)

    def is_discreet(self, kind: str) -> bool:
        """Tell whether not everybody who may see a job of a kind may read its output."""
        return isinstance(self._handlers.get(kind), Discreet)

    async def reader(self, tx: Transaction, access: Access, job: Job) -> Callable[[JobEvent], bool]:
        """Return what tells which events of a job an actor may see: of some kinds not everybody reads the output."""
        handler: object = self._handlers.get(job.kind)
        if isinstance(handler, Discreet) and not await handler.may_read(tx, access, job):
            return lambda event: event.stage not in OUTPUT_STAGES
        return lambda event: True


def show(job: Job, cluster_name: str, access: Access | None = None) -> dict[str, Any]:
    """Return the JSON of a job; ready for any encoder.

    Args: access: who looks; log lines in the detail are for those who may read logs there. None: who deployed it.
    """
    deployment = {"id": job.deployment_id, "name": job.project} if job.deployment_id else None
    return {
        "id": job.id,
        "kind": job.kind,
        "cluster": {"id": job.cluster_id, "name": cluster_name},
        "deployment": deployment,
        "project": job.project,
        "state": job.state,
        "stage": job.stage,
        "error": job.error,
        "code": job.code,
        "attempt": job.attempt,
        "created_by": job.created_by,
        "created_at": _rfc3339(job.created_at),
        "started_at": _rfc3339(job.started_at),
        "finished_at": _rfc3339(job.finished_at),
        "deadline_at": _rfc3339(job.deadline_at),
        "last_seq": job.last_seq,
        "detail": _detail(job, access),
    }


def _detail(job: Job, access: Access | None) -> dict[str, Any]:
    here = Resource(job.org_id, job.cluster_id, project=job.project)
    if access is None or "failing" not in job.result or access.may(Permission.LOGS_READ, here):
        return job.result
    failing = [{**entry, "log_tail": []} for entry in job.result["failing"]]
    return {**job.result, "failing": failing}


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _repeated(known: Job, wanted: Submission) -> Submitted:
    same = (known.cluster_id, known.kind, known.deployment_id) == (wanted.cluster_id, wanted.kind, wanted.deployment_id)
    if not same:
        raise ApiError(ErrorCode.CONFLICT, "this idempotency key was used for something else")
    return Submitted(known, repeated=True)

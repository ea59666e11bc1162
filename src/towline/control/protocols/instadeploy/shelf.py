"""What the control plane's rows hold that an InstaDeploy agent forgets: files of revisions, projects, begun jobs.

Our own agent keeps these on its disk; here they are read back from where they were written. Reading only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import structs

from towline.control.db import Database, Transaction
from towline.control.deployments import repository
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.vault import Vault
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs import repository as job_rows
from towline.control.jobs.models import Job
from towline.control.jobs.service import Jobs
from towline.control.jobs.states import JobState
from towline.wire import orders

BEGUN = frozenset({JobState.RUNNING, JobState.CANCELLING})


@dataclass(frozen=True, slots=True)
class Known:
    """A project of ours on the host."""

    name: str
    revision: int
    revision_id: str
    services: tuple[Mapping[str, Any], ...]
    """As `Revision.services`."""
    stopped: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """A job that was on the host when the line was lost. `seq`: its newest event that is stored."""

    job_id: str
    kind: str
    fence: int
    timeout: float
    seq: int


class Shelf(Protocol):
    """What a session reads."""

    async def projects(self, cluster_id: str) -> Sequence[Known]:
        """Return the projects that are, or were last, on the host."""

    async def file(self, revision_id: str, cluster_id: str) -> orders.Deploy | None:
        """Return what a revision of that cluster was made of; None when it is gone."""

    async def current(self, project: str, cluster_id: str) -> orders.Deploy | None:
        """Return what runs, or ran before it was stopped."""

    async def begun(self, cluster_id: str) -> Sequence[Begun]:
        """Return the jobs of a cluster that its agent had got and that have no result."""

    async def payload(self, job_id: str) -> Mapping[str, Any]:
        """Make the order of a begun job once more. Raises: ApiError."""


class Rows:
    """`Shelf`, on the database."""

    def __init__(self, db: Database, vault: Vault, jobs: Jobs) -> None:
        self._db = db
        self._vault = vault
        self._jobs = jobs

    async def projects(self, cluster_id: str) -> Sequence[Known]:
        async with self._db.read() as tx:
            found = await repository.present(tx, [cluster_id])
            revisions = await repository.numbered(tx, [(each.id, _number(each)) for each in found])
            return [_known(each, revisions[each.id]) for each in found if each.id in revisions]

    async def file(self, revision_id: str, cluster_id: str) -> orders.Deploy | None:
        async with self._db.read() as tx:
            revision = await repository.revision_by_id(tx, revision_id) if revision_id else None
            deployment = await repository.by_id(tx, revision.deployment_id) if revision is not None else None
            if revision is None or deployment is None or deployment.cluster_id != cluster_id:
                return None
            return self._order(deployment, revision)

    async def current(self, project: str, cluster_id: str) -> orders.Deploy | None:
        async with self._db.read() as tx:
            for deployment in await repository.present(tx, [cluster_id]):
                if deployment.name == project:
                    return await self._current(tx, deployment)
        return None

    async def begun(self, cluster_id: str) -> Sequence[Begun]:
        async with self._db.read() as tx:
            return [
                Begun(job.id, job.kind, job.fence, job.timeout, job.agent_seq)
                for job in await job_rows.active_of(tx, cluster_id)
                if job.state in BEGUN and job.started_at is not None
            ]

    async def payload(self, job_id: str) -> Mapping[str, Any]:
        async with self._db.read() as tx:
            job: Job | None = await job_rows.by_id(tx, job_id)
        if job is None:
            raise ApiError(ErrorCode.CONFLICT, "the job is gone")
        return await self._jobs.handler(job.kind).prepare(job)

    async def _current(self, tx: Transaction, deployment: Deployment) -> orders.Deploy | None:
        revision = await repository.revision(tx, deployment.id, _number(deployment))
        return self._order(deployment, revision) if revision is not None else None

    def _order(self, deployment: Deployment, revision: Revision) -> orders.Deploy | None:
        if revision.compose is None:
            return None
        # it ran here before: the way back does not depend on today's policy
        return structs.replace(self._vault.order(deployment, revision), policy_level="privileged")


def _number(deployment: Deployment) -> int:
    return deployment.running_number or deployment.desired_number


def _known(deployment: Deployment, revision: Revision) -> Known:
    number = deployment.running_number
    return Known(
        name=deployment.name,
        revision=number,
        revision_id=revision.id if number else "",
        services=tuple(revision.services),
        stopped=bool(deployment.stopped_by),
    )

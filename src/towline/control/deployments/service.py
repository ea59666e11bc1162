"""Deployments as people see and work them: lists, details, settings, stop, start, restart, scale, remove, prune.

Not here: revisions and how they get to a host (`revisions`), what the end of a job changes (`handlers`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.db import Database, Transaction
from towline.control.deployments import intents, repository, views
from towline.control.deployments.directory import Directory
from towline.control.deployments.interfaces import ClusterView, Fleet, Queue
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.schemas import (
    DeploymentOut,
    DeploymentPatch,
    RemoveRequest,
    RevisionDetail,
    RevisionOut,
    ScaleRequest,
    ServicesRequest,
)
from towline.control.deployments.vault import Vault
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs.work import Submission
from towline.control.listing import Listed, ListQuery, Page, fetch, page

OPERATIONS: Mapping[str, str] = {
    "stop": "compose.stop",
    "start": "compose.start",
    "restart": "compose.restart",
}
"""Verbs that leave the revision as it is, and the job that does them."""


NO_CLUSTER = "-"
"""No cluster has this id."""

Found = tuple[ClusterView, Deployment]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asked of the list of deployments, beside paging."""

    cluster: str = ""
    states: tuple[str, ...] = ()
    removed: bool = False


class DeploymentService:
    """Deployments of every organisation."""

    def __init__(self, db: Database, fleet: Fleet, queue: Queue, vault: Vault, audit: AuditLog) -> None:
        self._db = db
        self._fleet = fleet
        self._queue = queue
        self._vault = vault
        self._audit = audit
        self._directory = Directory(fleet)

    # -- reading -------------------------------------------------------------------------------

    async def find_many(self, access: Access, asked: ListQuery, wanted: Wanted) -> Page[DeploymentOut]:
        """Return a page of what the actor may see. States are judged anew; filters use the stored ones."""
        async with self._db.read() as tx:
            cluster_id = await self._cluster_id(tx, access, wanted.cluster) if wanted.cluster else ""
            allowed = access.scope(Permission.DEPLOYMENT_READ).clause(
                cluster_id=Deployment.cluster_id,
                matches_selector=self._fleet.matches_selector(Deployment.cluster_id),
                project=Deployment.name,
            )
            query = repository.matching(
                repository.Filter(access.org_id, allowed, cluster_id, asked.search, wanted.states, wanted.removed)
            )
            found = await fetch(tx, query, asked, sorts=repository.SORTS, default="name", key=Deployment.id)
            known = await views.gather(tx, self._fleet, self._queue, found.rows)
        return page(found, lambda deployment: views.deployment_out(deployment, known))

    async def get(self, access: Access, cluster_name: str, name: str) -> DeploymentOut:
        """Raises: ApiError: deployment_not_found, cluster_not_found."""
        async with self._db.read() as tx:
            _, deployment = await self._readable(tx, access, cluster_name, name)
            return await self._shown(tx, deployment)

    async def resource(self, access: Access, cluster_name: str, name: str) -> Resource:
        """Return what permissions on a deployment are asked for. Raises: ApiError: as `get`."""
        async with self._db.read() as tx:
            cluster, deployment = await self._readable(tx, access, cluster_name, name)
        return cluster.resource(deployment.name)

    async def revisions(self, access: Access, cluster_name: str, name: str, asked: ListQuery) -> Page[RevisionOut]:
        """Return a page of revisions, newest first. Raises: ApiError: deployment_not_found, cluster_not_found."""
        async with self._db.read() as tx:
            cluster, deployment = await self._readable(tx, access, cluster_name, name)
            query = repository.revisions(deployment.id)
            sorts = {"number": Revision.number}
            found: Listed[Revision] = await fetch(tx, query, asked, sorts=sorts, default="-number", key=Revision.id)
        with_logs = access.may(Permission.LOGS_READ, cluster.resource(deployment.name))
        return page(found, lambda revision: views.revision_out(revision, with_logs=with_logs))

    async def revision(self, access: Access, cluster_name: str, name: str, number: int) -> RevisionDetail:
        """Return a revision with its files; env file and values only for those who may deploy.

        Raises: ApiError: revision_not_found, deployment_not_found, cluster_not_found.
        """
        async with self._db.read() as tx:
            cluster, deployment = await self._readable(tx, access, cluster_name, name)
            revision = await self._directory.revision(tx, deployment, number)
        may_edit = access.may(Permission.DEPLOYMENT_WRITE, cluster.resource(deployment.name))
        with_logs = access.may(Permission.LOGS_READ, cluster.resource(deployment.name))
        env, variables = self._vault.open_values(revision) if may_edit else (None, None)
        return RevisionDetail(
            **views.revision_fields(revision, with_logs=with_logs),
            compose=revision.compose,
            env=env,
            variable_values=variables,
        )

    # -- changing ------------------------------------------------------------------------------

    async def change(self, access: Access, cluster_name: str, name: str, patch: DeploymentPatch) -> DeploymentOut:
        """Change settings. The policy level is for those who manage the cluster, not for those who deploy.

        Raises: ApiError: forbidden, deployment_not_found, cluster_not_found.
        """
        async with self._db.begin() as tx:
            cluster, deployment = await self._locked(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            if patch.policy_level not in (None, deployment.policy_level):
                access.require(Permission.CLUSTER_MANAGE, cluster.resource(deployment.name))
            changes = {key: value for key, value in patch.model_dump(exclude_unset=True).items() if value is not None}
            for key, value in changes.items():
                setattr(deployment, key, value)
            deployment.updated_at = await tx.now()
            await self._record(tx, access, deployment, "deployment.update", {"changed": changes})
            return await self._shown(tx, deployment)

    async def operate(
        self,
        access: Access,
        cluster_name: str,
        name: str,
        verb: str,
        request: ServicesRequest,
        idem_key: str | None = None,
    ) -> Mapping[str, Any]:
        """Stop, start or restart services; all of them when none is named.

        Raises: ApiError: forbidden, deployment_not_found, invalid (no such service).
        """
        async with self._db.begin() as tx:
            _, deployment = await self._locked(tx, access, Permission.DEPLOYMENT_OPERATE, cluster_name, name)
            await self._require_services(tx, deployment, request.services)
            payload = {"project": deployment.name, "services": request.services}
            key = intents.idem_key(deployment.id, verb, idem_key)
            submission = intents.operation(deployment, OPERATIONS[verb], payload, idem_key=key)
            return await self._submit(tx, access, deployment, submission, verb, {"services": request.services})

    async def scale(
        self, access: Access, cluster_name: str, name: str, request: ScaleRequest, idem_key: str | None = None
    ) -> Mapping[str, Any]:
        """Set replicas of services. Raises: ApiError: forbidden, deployment_not_found, invalid (no such service)."""
        async with self._db.begin() as tx:
            _, deployment = await self._locked(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            await self._require_services(tx, deployment, list(request.services))
            payload = {"project": deployment.name, "services": request.services}
            key = intents.idem_key(deployment.id, "scale", idem_key)
            submission = intents.operation(deployment, intents.SCALE, payload, idem_key=key)
            return await self._submit(tx, access, deployment, submission, "scale", {"services": request.services})

    async def remove(
        self, access: Access, cluster_name: str, name: str, request: RemoveRequest, idem_key: str | None = None
    ) -> Mapping[str, Any]:
        """Take a project off its host. Volumes stay unless asked for. Its history stays for some time.

        Raises: ApiError: forbidden, deployment_not_found.
        """
        async with self._db.begin() as tx:
            _, deployment = await self._locked(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            payload = {"project": deployment.name, "volumes": request.volumes, "by": access.actor.username}
            key = intents.idem_key(deployment.id, "remove", idem_key)
            submission = intents.operation(deployment, intents.REMOVE, payload, idem_key=key)
            return await self._submit(tx, access, deployment, submission, "remove", {"volumes": request.volumes})

    async def prune(
        self, access: Access, cluster_name: str, name: str, idem_key: str | None = None
    ) -> Mapping[str, Any]:
        """Delete images of old revisions now. Raises: ApiError: forbidden, deployment_not_found."""
        async with self._db.begin() as tx:
            _, deployment = await self._locked(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            key = intents.idem_key(deployment.id, "prune", idem_key)
            submission = await prune_submission(tx, deployment, idem_key=key)
            deployment.pruned_at = await tx.now()
            return await self._submit(tx, access, deployment, submission, "prune", {})

    # -- parts ---------------------------------------------------------------------------------

    async def _submit(
        self,
        tx: Transaction,
        access: Access,
        deployment: Deployment,
        submission: Submission,
        verb: str,
        detail: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        job = await self._queue.submit(tx, access.actor, submission)
        await self._record(tx, access, deployment, f"deployment.{verb}", {**detail, "job": job.id})
        return job.shown

    async def _record(
        self, tx: Transaction, access: Access, deployment: Deployment, action: str, detail: Mapping[str, Any]
    ) -> None:
        await self._audit.record(
            tx,
            access.actor,
            action=action,
            target_kind="deployment",
            target_id=deployment.id,
            target_name=deployment.name,
            cluster_id=deployment.cluster_id,
            detail=detail,
        )
        tx.publish("deployment", id=deployment.id, cluster_id=deployment.cluster_id)

    async def _readable(self, tx: Transaction, access: Access, cluster_name: str, name: str) -> Found:
        return await self._directory.deployment(tx, access, Permission.DEPLOYMENT_READ, cluster_name, name)

    async def _locked(
        self, tx: Transaction, access: Access, permission: Permission, cluster_name: str, name: str
    ) -> Found:
        return await self._directory.deployment(tx, access, permission, cluster_name, name, for_update=True)

    async def _shown(self, tx: Transaction, deployment: Deployment) -> DeploymentOut:
        return views.deployment_out(deployment, await views.gather(tx, self._fleet, self._queue, [deployment]))

    async def _cluster_id(self, tx: Transaction, access: Access, name: str) -> str:
        """Return the id to filter by. A name that nobody may see filters everything away, as any other."""
        cluster = await self._fleet.find(tx, access.org_id, name)
        return cluster.id if cluster else NO_CLUSTER

    async def _require_services(self, tx: Transaction, deployment: Deployment, named: Sequence[str]) -> None:
        """Refuse names that neither the revision nor the host knows."""
        if not named:
            return
        known = await views.gather(tx, self._fleet, self._queue, [deployment])
        revision = known.running.get(deployment.id)
        there = {service["name"] for service in revision.services} if revision else set()
        for seen in known.inventory.values():
            there |= {container.service for container in seen.containers}
        if unknown := sorted(set(named) - there):
            raise ApiError(
                ErrorCode.INVALID,
                f"{deployment.name} has no service {', '.join(repr(name) for name in unknown)}",
                hint=f"it has {', '.join(sorted(there)) or 'none'}",
            )


async def prune_submission(tx: Transaction, deployment: Deployment, *, idem_key: str | None = None) -> Submission:
    """Return the job that prunes a project, sparing the images of its last good revisions."""
    good = (await repository.good_revisions(tx, deployment.id))[: deployment.keep_revisions]
    running = await repository.revision(tx, deployment.id, deployment.running_number)
    spared = [image for revision in (*good, *((running,) if running else ())) for image in revision.images.values()]
    payload = {
        "project": deployment.name,
        "keep_images": sorted(set(spared)),
        "keep_revisions": deployment.keep_revisions,
    }
    return intents.operation(
        deployment,
        intents.PRUNE,
        payload,
        timeout=intents.PRUNE_TIMEOUT,
        deadline_seconds=intents.PRUNE_DEADLINE,
        idem_key=idem_key,
    )

"""Making revisions and deploying them: create, roll back, redeploy, adopt. Row, job and audit in one transaction.

Not here: what a file may hold (`content`), what happens when the job ends (`handlers`), other operations (`service`).
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.exc import IntegrityError

from towline.compose import names
from towline.compose.errors import NameRefused
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.audit.service import AuditLog
from towline.control.bundles.service import BundleService
from towline.control.db import Database, Transaction
from towline.control.deployments import intents, repository
from towline.control.deployments.comparisons import Comparisons
from towline.control.deployments.content import Checked, Draft, check
from towline.control.deployments.directory import Directory
from towline.control.deployments.interfaces import ClusterView, Fleet, Queue
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.outcomes import Outcome, previous_good
from towline.control.deployments.schemas import (
    AdoptRequest,
    Content,
    RedeployRequest,
    RevisionRequest,
    RollbackRequest,
)
from towline.control.deployments.vault import Vault
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import new_id
from towline.control.jobs.work import Submission
from towline.control.registries.places import Spot
from towline.control.registries.service import RegistryService

PROBLEMS_SHOWN = 50
"""Problems of one file in an answer: a person fixes some and asks again."""
MAX_ORDER_BYTES = 900 * 1024
"""Of everything that an order carries: with its envelope it must fit a control message of 1 MiB."""
SEALED_GROWTH = 1.5
"""Base 64 and the frame of sealed text, as a factor; rounded up."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A revision and the job that brings it to its host."""

    deployment: Deployment
    revision: Revision
    job: Mapping[str, Any]


class RevisionService:
    """Revisions of every deployment."""

    def __init__(
        self,
        db: Database,
        fleet: Fleet,
        queue: Queue,
        vault: Vault,
        comparisons: Comparisons,
        registries: RegistryService,
        bundles: BundleService,
        audit: AuditLog,
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._queue = queue
        self._vault = vault
        self._comparisons = comparisons
        self._registries = registries
        self._bundles = bundles
        self._audit = audit
        self._directory = Directory(fleet)

    async def create(
        self, access: Access, cluster_name: str, name: str, request: RevisionRequest, idem_key: str | None = None
    ) -> Deployed:
        """Store a new revision and queue its deploy. The deployment is made when it does not exist.

        Args: idem_key: repeating a request under its key answers with what the first one made.
        Raises: ApiError: forbidden, cluster_not_found, compose_invalid, policy_violation, revision_moved,
            bundle_not_found, invalid, too_large, conflict (the key was used for another request).
        """
        name = checked_name(name)
        checked = await self.examine(access, cluster_name, name, request)
        raise_problems(checked)
        try:
            return await self._create(access, cluster_name, name, request, idem_key, checked)
        except IntegrityError:  # somebody made the same deployment, or used the same key, at this very moment
            return await self._create(access, cluster_name, name, request, idem_key, checked)

    async def examine(self, access: Access, cluster_name: str, name: str, content: Content) -> Checked:
        """Check content for a project, in a thread: a hostile file must not hold up the whole server.

        Raises: ApiError: forbidden, cluster_not_found, bundle_not_found, invalid (a secret to keep has no value).
        """
        async with self._db.read() as tx:
            cluster = await self._directory.cluster(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            deployment = await repository.find(tx, access.org_id, cluster.id, name)
            draft = Draft(
                await self._comparisons.of_content(tx, access.org_id, name, deployment, content),
                deployment.policy_level if deployment else "standard",
                has_own_folder=bool(deployment and deployment.folder),
            )
        return await asyncio.to_thread(check, draft)

    async def rollback(
        self, access: Access, cluster_name: str, name: str, request: RollbackRequest, idem_key: str | None = None
    ) -> Deployed:
        """Deploy an old revision again, with the image digests it ran with.

        Raises: ApiError: forbidden, deployment_not_found, revision_not_found, conflict (nothing to return to).
        """
        async with self._db.begin() as tx:
            _, deployment = await self._writable(tx, access, cluster_name, name)
            revision = await self._rollback_target(tx, deployment, request.revision)
            submission = intents.deploy(
                deployment,
                revision,
                action="rollback",
                build=not revision.images,
                timeout=request.timeout,
                pinned=bool(revision.images),
                idem_key=intents.idem_key(deployment.id, "rollback", idem_key),
            )
            detail = {"revision": revision.number, "from": deployment.running_number, "message": request.message}
            return await self._submit(tx, access, deployment, revision, submission, "deployment.rollback", detail)

    async def redeploy(
        self, access: Access, cluster_name: str, name: str, request: RedeployRequest, idem_key: str | None = None
    ) -> Deployed:
        """Deploy the revision that is wanted again, with fresh images.

        Raises: ApiError: forbidden, deployment_not_found, conflict (there is no revision yet).
        """
        async with self._db.begin() as tx:
            _, deployment = await self._writable(tx, access, cluster_name, name)
            number = deployment.running_number or deployment.desired_number or deployment.latest_number
            revision = with_content(await self._directory.revision(tx, deployment, number))
            submission = intents.deploy(
                deployment,
                revision,
                action="redeploy",
                pull=request.pull,
                build=request.build,
                timeout=request.timeout,
                idem_key=intents.idem_key(deployment.id, "redeploy", idem_key),
            )
            detail = {"revision": revision.number, "pull": request.pull}
            return await self._submit(tx, access, deployment, revision, submission, "deployment.redeploy", detail)

    async def adopt(
        self, access: Access, cluster_name: str, name: str, request: AdoptRequest, idem_key: str | None = None
    ) -> Deployed:
        """Take over a project that runs on the host already, without touching its containers.

        Raises: ApiError: forbidden, cluster_not_found, not_found (no such project there), conflict (managed already).
        """
        name = checked_name(name)
        async with self._db.begin() as tx:
            cluster = await self._directory.cluster(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            await self._require_adoptable(tx, cluster, name)
            deployment = await self._open(tx, access, cluster, name)
            if deployment.running_number:
                raise ApiError(ErrorCode.CONFLICT, f"{name} is managed already", hint="deploy a new revision instead")
            revision = await self._new_revision(tx, access, deployment, request.message, source="adopt")
            payload = {
                "project": deployment.name,
                "org_id": access.org_id,
                "deployment_id": deployment.id,
                "revision": revision.number,
                "revision_id": revision.id,
            }
            submission = intents.operation(
                deployment,
                intents.ADOPT,
                payload,
                idem_key=intents.idem_key(deployment.id, "adopt", idem_key),
            )
            detail = {"revision": revision.number}
            return await self._submit(tx, access, deployment, revision, submission, "deployment.adopt", detail)

    # -- creating ------------------------------------------------------------------------------

    async def _create(
        self,
        access: Access,
        cluster_name: str,
        name: str,
        request: RevisionRequest,
        idem_key: str | None,
        checked: Checked,
    ) -> Deployed:
        async with self._db.begin() as tx:
            cluster = await self._directory.cluster(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            deployment = await self._open(tx, access, cluster, name)
            if idem_key and (earlier := await self._repeated(tx, deployment, request, idem_key)):
                return earlier
            _require_base(deployment, request.base_revision)
            revision = await self._store(tx, access, cluster, deployment, request, checked)
            revision.idem_key = idem_key
            revision.idem_hash = fingerprint(request)
            options = request.options
            submission = intents.deploy(
                deployment,
                revision,
                action="deploy",
                pull=options.pull,
                build=options.build,
                auto_rollback=options.auto_rollback,
                settle_seconds=options.settle_seconds,
                timeout=options.timeout,
                deadline_seconds=options.deadline_seconds,
                supersede=options.supersede,
            )
            detail = {"revision": revision.number, "message": request.message, "secret_names": sorted(revision.secrets)}
            return await self._submit(tx, access, deployment, revision, submission, "deployment.deploy", detail)

    async def _store(
        self,
        tx: Transaction,
        access: Access,
        cluster: ClusterView,
        deployment: Deployment,
        request: RevisionRequest,
        checked: Checked,
    ) -> Revision:
        before = await repository.revision(tx, deployment.id, deployment.latest_number)
        await self._registries.usable(
            tx, access.org_id, request.registries, Spot(cluster.id, deployment.name, cluster.labels)
        )
        if request.bundle:
            await self._bundles.use(tx, access.org_id, request.bundle)
        secrets = await self._vault.settle(
            tx, deployment, access.actor, before.secrets if before else {}, request.secrets
        )
        require_fitting(request, secrets=sum(map(len, (await self._vault.open(tx, deployment, secrets)).values())))
        services = checked.services()
        deployment.scales = kept_scales(deployment.scales, before.services if before else [], services)
        revision = await self._new_revision(tx, access, deployment, request.message)
        revision.compose = request.compose
        revision.bundle = request.bundle
        revision.secrets = secrets
        revision.registries = list(dict.fromkeys(request.registries))
        revision.services = services
        self._vault.seal_values(revision, request.env, request.variables)
        return revision

    async def _new_revision(
        self, tx: Transaction, access: Access, deployment: Deployment, message: str, source: str = "deploy"
    ) -> Revision:
        """Number a revision: the deployment's row is locked, so numbers have no gaps and no doubles."""
        revision = Revision(
            id=new_id("rev"),
            org_id=deployment.org_id,
            deployment_id=deployment.id,
            number=deployment.latest_number + 1,
            source=source,
            author_id=access.actor.user_id,
            author=access.actor.username,
            message=message,
            base_number=deployment.running_number,
            outcome=Outcome.PENDING,
            created_at=await tx.now(),
            variables=[],
            secrets={},
            registries=[],
            services=[],
            failing=[],
            images={},
        )
        deployment.latest_number = revision.number
        tx.add(revision)
        return revision

    async def _open(self, tx: Transaction, access: Access, cluster: ClusterView, name: str) -> Deployment:
        """Find the deployment, locked, or make it. One that was removed lives again."""
        found = await repository.find(tx, access.org_id, cluster.id, name, for_update=True)
        now = await tx.now()
        if found is None:
            found = Deployment(
                id=new_id("dep"),
                org_id=access.org_id,
                cluster_id=cluster.id,
                name=name,
                state_since=now,
                created_by=access.actor.user_id,
                created_at=now,
                updated_at=now,
            )
            tx.add(found)
            await tx.flush()
        found.removed_at = None
        return found

    async def _submit(
        self,
        tx: Transaction,
        access: Access,
        deployment: Deployment,
        revision: Revision,
        submission: Submission,
        action: str,
        detail: Mapping[str, Any],
    ) -> Deployed:
        """Queue the job, and put the change on record."""
        await tx.flush()
        now = await tx.now()
        job = await self._queue.submit(tx, access.actor, submission)
        if revision.outcome == Outcome.PENDING:
            revision.job_id = job.id
        deployment.desired_number = revision.number
        deployment.stopped_by = ""
        deployment.updated_at = now
        await self._audit.record(
            tx,
            access.actor,
            action=action,
            target_kind="deployment",
            target_id=deployment.id,
            target_name=deployment.name,
            cluster_id=deployment.cluster_id,
            detail={**detail, "job": job.id},
        )
        tx.publish("deployment", id=deployment.id, cluster_id=deployment.cluster_id)
        return Deployed(deployment, revision, job.shown)

    async def _repeated(
        self, tx: Transaction, deployment: Deployment, request: RevisionRequest, idem_key: str
    ) -> Deployed | None:
        earlier = await repository.revision_by_idem_key(tx, deployment.id, idem_key)
        if earlier is None:
            return None
        if earlier.idem_hash != fingerprint(request):
            raise ApiError(
                ErrorCode.CONFLICT,
                "this idempotency key was used for another revision",
                hint="use a new key for a new request",
                detail={"revision": earlier.number},
            )
        return Deployed(deployment, earlier, await self._queue.show(tx, earlier.job_id or ""))

    # -- helpers of all --------------------------------------------------------------------------

    async def _writable(
        self, tx: Transaction, access: Access, cluster_name: str, name: str
    ) -> tuple[ClusterView, Deployment]:
        return await self._directory.deployment(
            tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name, for_update=True
        )

    async def _rollback_target(self, tx: Transaction, deployment: Deployment, number: int | None) -> Revision:
        if number is None:
            good = [each.number for each in await repository.good_revisions(tx, deployment.id)]
            number = previous_good(good, deployment.running_number)
        if number is None:
            raise ApiError(
                ErrorCode.CONFLICT,
                f"{deployment.name} has no good revision before the one that runs",
                hint="name a revision, or deploy a new one",
            )
        return with_content(await self._directory.revision(tx, deployment, number))

    async def _require_adoptable(self, tx: Transaction, cluster: ClusterView, name: str) -> None:
        seen = (await self._fleet.inventory(tx, [(cluster.id, name)])).get((cluster.id, name))
        if seen is None or seen.project is None:
            raise ApiError(
                ErrorCode.NOT_FOUND,
                f"no Compose project {name!r} runs on {cluster.name}",
                hint="see the projects of the cluster for what does",
            )


def checked_name(name: str) -> str:
    """Check a deployment's name. Raises: ApiError: invalid."""
    try:
        return names.deployment_name(name)
    except NameRefused as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error


def raise_problems(checked: Checked) -> None:
    """Raises: ApiError: compose_invalid or policy_violation, with every problem and its place."""
    if not checked.errors:
        return
    first = checked.errors[0]
    where = f"line {first.line}: " if first.line else ""
    code = ErrorCode.POLICY_VIOLATION if checked.breaks_policy else ErrorCode.COMPOSE_INVALID
    problems = [problem.model_dump() for problem in checked.problems[:PROBLEMS_SHOWN]]
    raise ApiError(code, f"{where}{first.message}", hint=first.hint, detail={"problems": problems})


def with_content(revision: Revision) -> Revision:
    """Raises: ApiError: conflict, when retention has dropped what the revision was made of."""
    if revision.compose is None:
        raise ApiError(
            ErrorCode.CONFLICT,
            f"the files of revision {revision.number} are no longer kept",
            hint="only good revisions are kept for ever; deploy a new one",
        )
    return revision


def require_fitting(request: RevisionRequest, *, secrets: int) -> None:
    """Raises: ApiError: too_large, when an order for it would not fit a message of the link."""
    plain = msgspec.json.encode([request.compose, request.env, request.variables])
    size = len(plain) + int(secrets * SEALED_GROWTH)
    if size > MAX_ORDER_BYTES:
        raise ApiError(
            ErrorCode.TOO_LARGE,
            f"Compose file, env file, variables and secrets make {size} bytes together; the limit is {MAX_ORDER_BYTES}",
            hint="move large content into files of the bundle",
        )


def _require_base(deployment: Deployment, base: int | None) -> None:
    if base is not None and base != deployment.latest_number:
        raise ApiError(
            ErrorCode.REVISION_MOVED,
            f"revision {deployment.latest_number} was made since you looked at revision {base}",
            hint="look at the difference, then deploy again",
            detail={"latest_revision": deployment.latest_number, "base_revision": base},
        )


def kept_scales(scales: Mapping[str, int], before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, int]:
    """Keep what `scale` set, except for services whose number in the file was changed, or that are gone."""
    earlier = {service["name"]: service["replicas"] for service in before}
    wanted = {service["name"]: service["replicas"] for service in now}
    return {
        name: count
        for name, count in scales.items()
        if name in wanted and wanted[name] == earlier.get(name, wanted[name])
    }


def fingerprint(request: RevisionRequest) -> str:
    """Return what tells two requests under one key apart. Values of secrets stay out: a short one could be guessed."""
    plain = request.model_dump(mode="json", exclude={"secrets"})
    names_given = None if request.secrets is None else {name: bool(value) for name, value in request.secrets.items()}
    text = msgspec.json.encode([plain, names_given], order="sorted")
    return hashlib.sha256(text).hexdigest()

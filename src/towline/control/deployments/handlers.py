"""What deployments do for their jobs: make the order when one is sent, and write down how it ended.

Secrets and registry passwords are opened here, sealed for the one agent that gets the order, and forgotten.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec
from msgspec import structs

from towline.compose import revision as compose_revision
from towline.control.db import Database, Transaction
from towline.control.deployments import content, intents, repository
from towline.control.deployments.figures import Figures
from towline.control.deployments.interfaces import Agents, Fleet
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.outcomes import GOOD_OUTCOMES, Outcome, conclude_deploy
from towline.control.deployments.vault import Vault
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs.work import JobEnd
from towline.control.registries.places import Spot
from towline.control.registries.service import Credentials, RegistryService
from towline.wire import orders, sealed
from towline.wire.orders import seal_info

FAILING_BYTES = 64 * 1024
"""Of log tails that a revision keeps: what a page shows; the job's events hold more."""


class JobRow(Protocol):
    """What is read of a job."""

    @property
    def id(self) -> str: ...
    @property
    def org_id(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def deployment_id(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def created_by(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What a deploy job is about."""

    deployment: Deployment
    revision: Revision
    intent: intents.DeployIntent


class DeployHandler:
    """`compose.deploy`."""

    def __init__(
        self,
        db: Database,
        fleet: Fleet,
        agents: Agents,
        vault: Vault,
        registries: RegistryService,
        figures: Figures,
    ) -> None:
        self._db = db
        self._fleet = fleet
        self._agents = agents
        self._vault = vault
        self._registries = registries
        self._figures = figures

    async def prepare(self, job: JobRow) -> dict[str, Any]:
        """Make the order for the agent.

        Raises: ApiError: agent_away (try again when it is back), or why the revision can no longer be deployed.
        """
        async with self._db.read() as tx:
            subject = await _subject(tx, job)
            fallback = await _fallback(tx, subject)
            secrets = await self._vault.open(tx, subject.deployment, subject.revision.secrets)
            credentials = await self._credentials(tx, subject)
        if subject.revision.bundle:
            await self._agents.hand_bundle(job.cluster_id, job.org_id, subject.revision.bundle)
        agent_id, key = await self._agents.sealing_key(job.cluster_id)
        info = seal_info(org_id=job.org_id, deployment_id=subject.deployment.id, agent_id=agent_id)
        order = self._order(subject, fallback, tuple(secrets))
        order = msgspec.structs.replace(
            order,
            sealed_secrets=seal_for(key, info, secrets) if secrets else "",
            sealed_registries=seal_for(key, info, [asdict(each) for each in credentials]) if credentials else "",
        )
        return _builtins(order)

    async def progressed(self, tx: Transaction, job: JobRow, events: Sequence[Any]) -> None:
        """Hint that a page about the deployment is out of date."""
        tx.publish("deployment", id=job.deployment_id or "", cluster_id=job.cluster_id)

    async def finished(self, tx: Transaction, job: JobRow, end: JobEnd) -> None:
        """Write down what became of the revision, and what runs now."""
        subject = await _subject_or_none(tx, job)
        if subject is None:
            return
        revision, deployment = subject.revision, subject.deployment
        result = conclude_deploy(end, revision_id=revision.id, before=Outcome(revision.outcome))
        if result.outcome is not None:
            revision.outcome = result.outcome
            revision.error, revision.code = result.error, result.code
            revision.failing = _cut(result.failing)
            revision.rolled_back_to = result.rolled_back_to
            revision.finished_at = await tx.now()
        if result.images:
            revision.images = dict(result.images)
        if result.running_id is not None:
            deployment.running_number = await _number(tx, deployment, result.running_id)
        if end.is_success:
            deployment.last_good_number = revision.number
            deployment.deployed_at = await tx.now()
        elif deployment.desired_number == revision.number and deployment.running_number:
            deployment.desired_number = deployment.running_number  # nobody tries a failed one again by itself
        await _settle(tx, deployment)
        figures, action, rolled_back = self._figures, subject.intent.action, result.rolled_back_to is not None
        tx.after_commit.append(lambda: figures.deploy_ended(action, end.state, rolled_back=rolled_back))

    def _order(self, subject: Subject, fallback_id: str, secret_names: tuple[str, ...]) -> orders.Deploy:
        deployment, revision, intent = subject.deployment, subject.revision, subject.intent
        return structs.replace(
            self._vault.order(deployment, revision),
            secret_names=secret_names,
            pull=intent.pull,
            build=intent.build,
            image_pins=dict(revision.images) if intent.pinned else {},
            fallback_revision_id=fallback_id,
            auto_rollback=intent.auto_rollback,
            settle_seconds=intent.settle_seconds,
            keep_images=deployment.keep_revisions,
        )

    async def _credentials(self, tx: Transaction, subject: Subject) -> list[Credentials]:
        """Open the registries that the revision names. A rollback does without those that are gone: its images are
        most likely on the host still, and the way back must not depend on a credential."""
        cluster = (await self._fleet.views(tx, [subject.deployment.cluster_id])).get(subject.deployment.cluster_id)
        spot = Spot(subject.deployment.cluster_id, subject.deployment.name, cluster.labels if cluster else {})
        names = subject.revision.registries
        if subject.intent.action == "rollback":
            names = await self._registries.still_usable(tx, subject.deployment.org_id, names, spot)
        return await self._registries.credentials(tx, subject.deployment.org_id, names, spot)


class OperationHandler:
    """Every other job of a project: the row's payload is the order."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def prepare(self, job: JobRow) -> dict[str, Any]:
        """Return the order: the payload, without what only we read."""
        order = msgspec.convert(dict(job.payload), orders.ORDERS[job.kind])
        return _builtins(order)

    async def progressed(self, tx: Transaction, job: JobRow, events: Sequence[Any]) -> None:
        """Hint that a page about the deployment is out of date."""
        tx.publish("deployment", id=job.deployment_id or "", cluster_id=job.cluster_id)

    async def finished(self, tx: Transaction, job: JobRow, end: JobEnd) -> None:
        """Write down what the job changed for good."""
        deployment = await repository.by_id(tx, job.deployment_id or "", for_update=True)
        if deployment is None:
            return
        if job.kind == intents.ADOPT:
            await self._adopted(tx, deployment, job, end)
        elif end.is_success:
            await self._changed(tx, deployment, job)
        elif job.kind == intents.PRUNE and end.code == "bad_order":
            deployment.prune_interval_seconds = 0.0  # its agent knows no pruning: asking every week changes nothing
        await _settle(tx, deployment)

    def kept_detail(self, kind: str, detail: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep the files of an adopted project out of the job: they are in the revision, env file sealed."""
        return {key: value for key, value in detail.items() if key not in ("compose", "env")}

    async def _changed(self, tx: Transaction, deployment: Deployment, job: JobRow) -> None:
        match job.kind:
            case "compose.stop" if not job.payload.get("services"):
                deployment.stopped_by = job.created_by or "somebody"
            case "compose.start" | "compose.restart":
                deployment.stopped_by = ""
            case intents.SCALE:
                deployment.scales = {**deployment.scales, **job.payload["services"]}
            case intents.PRUNE:
                deployment.pruned_at = await tx.now()
            case intents.REMOVE:
                deployment.removed_at = await tx.now()
                deployment.running_number = deployment.desired_number = 0
                deployment.scales = {}
                deployment.stopped_by = ""

    async def _adopted(self, tx: Transaction, deployment: Deployment, job: JobRow, end: JobEnd) -> None:
        revision = await repository.revision_by_id(tx, job.payload["revision_id"])
        if revision is None:
            return
        now = await tx.now()
        if not end.is_success:
            _fail_adoption(revision, end, now)
            return
        detail = orders.parse_detail(orders.AdoptDetail, dict(end.detail))
        self._fill(revision, deployment, detail)
        revision.outcome, revision.finished_at = Outcome.ADOPTED, now
        deployment.folder = detail.folder
        deployment.running_number = deployment.last_good_number = deployment.desired_number = revision.number

    def _fill(self, revision: Revision, deployment: Deployment, detail: orders.AdoptDetail) -> None:
        """Give an adopted revision its content, the only time that content is written after the row."""
        draft = content.Draft(compose_revision.Revision(deployment.name, detail.compose, detail.env))
        revision.compose = detail.compose
        revision.services = content.check(draft).services()
        revision.images = dict(detail.images)
        self._vault.seal_values(revision, detail.env or None, {})


def _fail_adoption(revision: Revision, end: JobEnd, now: datetime) -> None:
    revision.outcome = Outcome.CANCELLED if end.state == "cancelled" else Outcome.FAILED
    revision.error, revision.code = end.error or end.state, end.code or end.state
    revision.finished_at = now


async def _subject(tx: Transaction, job: JobRow) -> Subject:
    found = await _subject_or_none(tx, job, for_update=False)
    if found is None or found.revision.compose is None:
        raise ApiError(ErrorCode.CONFLICT, "the deployment or the files of this revision are gone")
    return found


async def _subject_or_none(tx: Transaction, job: JobRow, *, for_update: bool = True) -> Subject | None:
    intent = intents.read_deploy(job.payload)
    deployment = await repository.by_id(tx, job.deployment_id or "", for_update=for_update)
    revision = await repository.revision_by_id(tx, intent.revision_id)
    if deployment is None or revision is None or revision.deployment_id != deployment.id:
        return None
    return Subject(deployment, revision, intent)


async def _fallback(tx: Transaction, subject: Subject) -> str:
    """Return the id of the revision to put back: the one that runs when it is good, else the last good one."""
    deployment = subject.deployment
    for number in (deployment.running_number, deployment.last_good_number):
        found = await repository.revision(tx, deployment.id, number) if number else None
        if found is not None and found.outcome in GOOD_OUTCOMES and found.id != subject.revision.id:
            return found.id
    return ""


async def _number(tx: Transaction, deployment: Deployment, revision_id: str) -> int:
    """Return the number of the revision that the agent says it runs; 0 when it is none of this deployment's."""
    found = await repository.revision_by_id(tx, revision_id) if revision_id else None
    return found.number if found is not None and found.deployment_id == deployment.id else 0


async def _settle(tx: Transaction, deployment: Deployment) -> None:
    deployment.updated_at = await tx.now()
    tx.publish("deployment", id=deployment.id, cluster_id=deployment.cluster_id)


def seal_for(key: bytes, info: bytes, plain: Any) -> str:
    """Seal JSON for one agent, as text for an order. Raises: ApiError: agent_refused: it has no key, so no secrets."""
    if not key:
        raise ApiError(
            ErrorCode.AGENT_REFUSED,
            "the agent of this host keeps no secrets and no registry passwords",
            hint="leave them out, or run Towline's own agent on the host",
        )
    return base64.b64encode(sealed.seal(key, info, json.dumps(plain).encode())).decode()


def _builtins(order: orders.Order) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(order)
    return value


def _cut(failing: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Keep as many failing containers as fit; the first is the one to read."""
    kept: list[Any] = []
    size = 0
    for each in failing:
        plain = msgspec.json.decode(msgspec.json.encode(each))
        size += len(msgspec.json.encode(plain))
        if kept and size > FAILING_BYTES:
            break
        kept.append(plain)
    return kept

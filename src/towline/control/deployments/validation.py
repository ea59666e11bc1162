"""Validating a project without deploying it: our own checks at once, the host's `docker compose config` by a job."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.db import Database, Transaction
from towline.control.deployments import intents, repository
from towline.control.deployments.directory import Directory
from towline.control.deployments.handlers import JobRow, seal_for
from towline.control.deployments.interfaces import Agents, Fleet, Queue
from towline.control.deployments.models import Deployment
from towline.control.deployments.revisions import RevisionService, checked_name
from towline.control.deployments.schemas import ValidateOut, ValidateRequest
from towline.control.deployments.vault import Vault
from towline.control.ids import new_id
from towline.control.jobs.work import JobEnd, Submission
from towline.wire import orders

VALIDATE_TIMEOUT = 60.0
"""Seconds for `docker compose config`, which takes one."""


class Validation:
    """Validates what somebody is about to deploy."""

    def __init__(self, db: Database, fleet: Fleet, queue: Queue, vault: Vault, revisions: RevisionService) -> None:
        self._db = db
        self._queue = queue
        self._vault = vault
        self._revisions = revisions
        self._directory = Directory(fleet)

    async def validate(self, access: Access, cluster_name: str, name: str, request: ValidateRequest) -> ValidateOut:
        """Check a project here, and, when asked, start the check on its host.

        Raises: ApiError: forbidden, cluster_not_found, bundle_not_found, invalid.
        """
        name = checked_name(name)
        checked = await self._revisions.examine(access, cluster_name, name, request)
        job = await self._ask_host(access, cluster_name, name, request) if request.on_host else None
        return ValidateOut(
            valid=not checked.errors,
            problems=list(checked.problems),
            needed_variables=checked.variables(),
            job=dict(job) if job is not None else None,
        )

    async def _ask_host(
        self, access: Access, cluster_name: str, name: str, request: ValidateRequest
    ) -> Mapping[str, Any]:
        async with self._db.begin() as tx:
            cluster = await self._directory.cluster(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            deployment = await repository.find(tx, access.org_id, cluster.id, name)
            secrets = await self._secrets(tx, deployment, request)
            order = orders.Deploy(
                project=name,
                org_id=access.org_id,
                deployment_id=deployment.id if deployment else "",
                revision=0,
                revision_id="",
                compose=request.compose,
                env=request.env or "",
                bundle=request.bundle or "",
                variables=request.variables,
                secret_names=tuple(secrets),
                policy_level=deployment.policy_level if deployment else "standard",
            )
            record = new_id("rev")
            plain = msgspec.json.encode({"order": order, "secrets": secrets})
            sealed = self._vault.seal_text(access.org_id, record, plain)
            payload = {"project": name, "record": record, "sealed": base64.b64encode(sealed).decode()}
            job = await self._queue.submit(
                tx,
                access.actor,
                Submission(
                    cluster_id=cluster.id,
                    deployment_id=deployment.id if deployment else None,
                    project=name,
                    kind=intents.VALIDATE,
                    payload=payload,
                    timeout=VALIDATE_TIMEOUT,
                    deadline_seconds=intents.VALIDATE_DEADLINE,
                ),
            )
            return job.shown

    async def _secrets(
        self, tx: Transaction, deployment: Deployment | None, request: ValidateRequest
    ) -> dict[str, str]:
        """Return the values that a deploy of this request would use; they leave only sealed."""
        if deployment is None:
            return {name: value.get_secret_value() for name, value in (request.secrets or {}).items() if value}
        newest = await repository.revision(tx, deployment.id, deployment.latest_number)
        return await self._vault.values(tx, deployment, newest.secrets if newest else {}, request.secrets)


class ValidateHandler:
    """`compose.validate`: the order waits sealed in the job's row, for env files hold passwords in practice."""

    def __init__(self, agents: Agents, vault: Vault) -> None:
        self._agents = agents
        self._vault = vault

    async def prepare(self, job: JobRow) -> dict[str, Any]:
        """Open the order. Raises: ApiError: agent_away, bundle_not_found."""
        sealed = base64.b64decode(job.payload["sealed"])
        plain = msgspec.json.decode(self._vault.open_text(job.org_id, job.payload["record"], sealed))
        order: dict[str, Any] = plain["order"]
        if order.get("bundle"):
            await self._agents.hand_bundle(job.cluster_id, job.org_id, order["bundle"])
        if plain["secrets"]:
            agent_id, key = await self._agents.sealing_key(job.cluster_id)
            info = orders.seal_info(org_id=job.org_id, deployment_id=order["deployment_id"], agent_id=agent_id)
            order["sealed_secrets"] = seal_for(key, info, plain["secrets"])
        return order

    def kept_detail(self, kind: str, detail: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep the findings; the normal form would show the values of the env file to whoever sees jobs."""
        return {key: value for key, value in detail.items() if key != "config"}

    async def progressed(self, tx: Transaction, job: JobRow, events: Sequence[Any]) -> None:
        """Nothing here follows a validation; the job's own events do."""

    async def finished(self, tx: Transaction, job: JobRow, end: JobEnd) -> None:
        """A validation changes nothing; its result is the job's."""

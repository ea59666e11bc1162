"""Taking over what an InstaDeploy control plane knew: its agents, its projects, its jobs. One transaction a request.

Importing the same again changes nothing. Its database has no Compose files: those come from the hosts, with the
request, and become revision 1. Nothing is sent to any agent.
"""

from __future__ import annotations

from datetime import UTC, datetime

from towline.compose import names
from towline.compose.errors import NameRefused
from towline.compose.revision import Revision as Content
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.agents.models import Agent
from towline.control.audit.service import AuditLog
from towline.control.db import Database, Transaction
from towline.control.deployments import content, repository
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.outcomes import Outcome
from towline.control.deployments.vault import Vault
from towline.control.ids import new_id
from towline.control.jobs import repository as job_rows
from towline.control.jobs.models import Job
from towline.control.jobs.states import JobState
from towline.control.protocols.admission import Caller, Compat
from towline.control.protocols.instadeploy import numbers
from towline.control.protocols.instadeploy.entrance import PROTOCOL
from towline.control.protocols.instadeploy.import_schemas import (
    ImportedAgent,
    ImportedDeployment,
    ImportedJob,
    ImportReport,
    ImportRequest,
)
from towline.control.protocols.models import CompatToken
from towline.control.protocols.tokens import CompatTokens

FOLDER = "/opt/platform/projects"
"""Where InstaDeploy's agents keep projects in production."""
AUTHOR = "InstaDeploy"
"""Whom the history names: it kept nobody's name."""
KINDS = {"DEPLOY_COMPOSE": "compose.deploy", "STOP_COMPOSE": "compose.stop"}
NOT_RUN = "was not finished in InstaDeploy when it was imported; it was not run here"
_STATES = {
    "completed": JobState.SUCCEEDED, "failed": JobState.FAILED,
    "queued": JobState.EXPIRED, "in_progress": JobState.FAILED,
}  # fmt: skip


class _DryRun(Exception):
    """Ends the transaction without a trace."""


class Importing:
    """Imports into an organisation."""

    def __init__(self, db: Database, audit: AuditLog, compat: Compat, tokens: CompatTokens, vault: Vault) -> None:
        self._db = db
        self._audit = audit
        self._compat = compat
        self._tokens = tokens
        self._vault = vault

    async def run(self, access: Access, request: ImportRequest) -> ImportReport:
        """Import, or only say what an import would do. Raises: ApiError: forbidden, conflict."""
        for permission in (Permission.JOIN_TOKEN_MANAGE, Permission.CLUSTER_MANAGE, Permission.DEPLOYMENT_WRITE):
            access.require_org(permission)
        report = ImportReport(dry_run=request.dry_run)
        try:
            async with self._db.begin() as tx:
                await self._run(tx, access, request, report)
                if request.dry_run:
                    raise _DryRun
        except _DryRun:
            return report
        return report

    async def _run(self, tx: Transaction, access: Access, request: ImportRequest, report: ImportReport) -> None:
        token = await self._tokens.ensure_shared(tx, access, PROTOCOL, request.token.get_secret_value())
        agents: dict[str, Agent] = {}
        for each in request.agents:
            agents[each.hostname] = await self._agent(tx, token, each, report)
        found: dict[tuple[str, str], Deployment] = {}
        for deployment in request.deployments:
            row = await self._deployment(tx, access, agents, deployment, report)
            if row is not None:
                found[deployment.hostname, deployment.project] = row
        for job in request.jobs:
            await self._job(tx, access, agents, job, report)
        await self._audit.record(
            tx, access.actor, action="instadeploy.import", target_kind="compat_token", target_id=token.id,
            detail={
                "agents": len(report.agents_made), "deployments": len(report.deployments_made),
                "jobs": report.jobs_made,
            },
        )  # fmt: skip

    # -- agents ------------------------------------------------------------------------------------

    async def _agent(self, tx: Transaction, token: CompatToken, each: ImportedAgent, report: ImportReport) -> Agent:
        caller = Caller(each.hostname, hostname=each.hostname, version=each.version)
        row, made = await self._compat.expect(tx, token, caller)
        (report.agents_made if made else report.agents_known).append(each.hostname)
        if row.cluster_id is not None:
            await numbers.claim(tx, row.org_id, "agent", row.cluster_id, each.number)
        return row

    # -- deployments -------------------------------------------------------------------------------

    async def _deployment(
        self,
        tx: Transaction,
        access: Access,
        agents: dict[str, Agent],
        each: ImportedDeployment,
        report: ImportReport,
    ) -> Deployment | None:
        shown = f"{each.hostname}/{each.project}"
        agent = agents.get(each.hostname)
        if agent is None or agent.cluster_id is None:
            report.notes.append(f"{shown}: its agent is not in the import, or its cluster was removed; left out")
            return None
        try:
            name = names.deployment_name(each.project.lower())
        except NameRefused as error:
            report.notes.append(f"{shown}: {error}; left out")
            return None
        if name != each.project:
            report.notes.append(f"{shown}: is called {name} here, as Compose itself calls it")
        row = await repository.find(tx, access.org_id, agent.cluster_id, name, for_update=True)
        known = row is not None
        if row is None:
            row = await self._insert(tx, access, agent.cluster_id, name, each)
        (report.deployments_known if known else report.deployments_made).append(shown)
        await numbers.claim(tx, access.org_id, "deployment", row.id, each.number)
        if not row.latest_number:
            await self._first_revision(tx, row, each, report)
        return row

    async def _insert(
        self, tx: Transaction, access: Access, cluster_id: str, name: str, each: ImportedDeployment
    ) -> Deployment:
        now = await tx.now()
        row = Deployment(
            id=new_id("dep"), org_id=access.org_id, cluster_id=cluster_id, name=name, folder=f"{FOLDER}/{each.project}",
            state_since=now, created_by=access.actor.user_id, created_at=_utc(each.created_at), updated_at=now,
        )  # fmt: skip
        tx.add(row)
        await tx.flush()
        tx.publish("deployment", id=row.id, cluster_id=cluster_id)
        return row

    async def _first_revision(
        self, tx: Transaction, deployment: Deployment, each: ImportedDeployment, report: ImportReport
    ) -> None:
        """Make revision 1 of the file that came with the request, when one did and it can be read."""
        shown = f"{each.hostname}/{each.project}"
        if each.compose is None:
            report.without_file.append(shown)
            return
        draft = content.Draft(
            Content(deployment.name, each.compose, each.env or ""), deployment.policy_level, has_own_folder=True
        )
        checked = content.check(draft)
        if checked.errors:
            report.without_file.append(shown)
            first = checked.errors[0]
            report.notes.append(f"{shown}: its file was not taken, line {first.line}: {first.message}")
            return
        now = await tx.now()
        revision = Revision(
            id=new_id("rev"), org_id=deployment.org_id, deployment_id=deployment.id, number=1, source="import",
            author_id="", author=AUTHOR, message="imported from InstaDeploy", outcome=Outcome.ADOPTED,
            created_at=now, finished_at=now, compose=each.compose, services=checked.services(),
            variables=[], secrets={}, registries=[], failing=[], images={},
        )  # fmt: skip
        self._vault.seal_values(revision, each.env, {})
        tx.add(revision)
        deployment.latest_number = deployment.running_number = deployment.desired_number = 1
        deployment.last_good_number = 1
        if each.status == "stopped":
            deployment.stopped_by = AUTHOR

    # -- jobs --------------------------------------------------------------------------------------

    async def _job(
        self, tx: Transaction, access: Access, agents: dict[str, Agent], each: ImportedJob, report: ImportReport
    ) -> None:
        kind, agent = KINDS.get(each.command.upper()), agents.get(each.hostname)
        if kind is None or agent is None or agent.cluster_id is None:
            report.jobs_left_out += 1
            return
        job_id = numbers.job_id(each.id)
        if await job_rows.by_id(tx, job_id) is not None:
            report.jobs_known += 1
            return
        deployment = await repository.find(tx, access.org_id, agent.cluster_id, each.project.lower())
        unfinished = each.status in ("queued", "in_progress")
        ended_at = _utc(each.updated_at)
        job = Job(
            id=job_id, org_id=access.org_id, cluster_id=agent.cluster_id,
            deployment_id=deployment.id if deployment is not None else None,
            kind=kind, project=each.project.lower(), state=_STATES[each.status],
            error=NOT_RUN if unfinished else each.error, code="imported" if unfinished or each.error else "",
            run_after=ended_at, timeout=0.0, payload={}, result={}, created_by=AUTHOR,
            created_at=_utc(each.created_at), started_at=None if unfinished else _utc(each.created_at),
            finished_at=ended_at, last_seq=0,
        )  # fmt: skip
        tx.add(job)
        await tx.flush()
        lines = [line for line in each.logs.split("\n") if line.strip()]
        if lines:
            plain = {"at": ended_at, "stage": "imported", "service": "", "level": "info", "current": 0, "total": 0}
            rows = [{**plain, "text": line} for line in lines]
            await job_rows.append(tx, job, rows)
        report.jobs_made += 1


def _utc(moment: datetime) -> datetime:
    """InstaDeploy writes UTC without saying so."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

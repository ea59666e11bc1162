"""What InstaDeploy's REST API means here: its agents are hosts that run Compose, its deployments are ours.

Every host that can carry a deployment is shown, whatever its agent speaks, so that scripts go on working when a host
gets Towline's own agent. The numbers are the older system's where it was imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.agents import repository as agents
from towline.control.agents.models import Agent
from towline.control.agents.states import AgentState
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import carrier
from towline.control.deployments.models import Deployment
from towline.control.deployments.schemas import DeployOptions, RevisionRequest, ServicesRequest
from towline.control.errors import ApiError, ErrorCode
from towline.control.protocols.instadeploy import numbers
from towline.control.protocols.instadeploy.entrance import PROTOCOL
from towline.wire import instadeploy

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

MOST_HOSTS = 10_000
"""Hosts of one answer; the older system shows all that there are."""


class Refused(Exception):
    """Answered with a status and the older system's shape of an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Host:
    """One host, as that API shows it."""

    number: int
    cluster_id: str
    cluster_name: str
    hostname: str
    address: str
    online: bool
    last_seen_at: datetime | None
    version: str
    architecture: str

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "hostname": self.hostname,
            "ip_address": self.address,
            "status": "online" if self.online else "offline",
            "last_seen": self.last_seen_at.isoformat() if self.last_seen_at else None,
            "version": self.version,
            "architecture": self.architecture,
        }


class RestService:
    """Answers its calls."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def hosts(self, access: Access, permission: Permission = Permission.CLUSTER_READ) -> list[Host]:
        """Return the hosts on which the caller has a permission, by number."""
        scope = access.scope(permission).clause(cluster_id=Cluster.id, matches_selector=carrier(Cluster.id))
        query = select(Cluster).where(Cluster.org_id == access.org_id, scope).order_by(Cluster.created_at, Cluster.id)
        async with self._control.db.read() as tx:
            rows = (await tx.scalars(query.limit(MOST_HOSTS))).all()
            known = await numbers.known(tx, access.org_id, "agent")
            members = await agents.agents_of(tx, [row.id for row in rows])
        own = {agent.cluster_id for agent in members if agent.protocol == PROTOCOL}
        rows = [row for row in rows if row.id in own or _carries_compose(row)]
        if missing := [row.id for row in rows if row.id not in known]:
            async with self._control.db.begin() as tx:
                known |= await numbers.given(tx, access.org_id, "agent", missing)
        newest = {agent.cluster_id: agent for agent in members}
        found = [self._host(row, newest.get(row.id), known[row.id]) for row in rows]
        return sorted(found, key=lambda host: host.number)

    async def deploy(self, access: Access, project: str, compose: str, number: int | None) -> tuple[str, int]:
        """Deploy on a host, or on the first that is online. Returns: the job's UUID and the deployment's number.

        Raises: Refused. ApiError.
        """
        host = self._chosen(await self.hosts(access, Permission.DEPLOYMENT_WRITE), number)
        try:
            text = instadeploy.compose_file(compose).decode()
            name = instadeploy.project_name(project).lower()
        except (instadeploy.BadMessage, UnicodeDecodeError) as error:
            raise Refused(422, str(error)) from error
        request = RevisionRequest(compose=text, message="through InstaDeploy's API", options=DeployOptions())
        made = await self._control.deployments.revisions.create(access, host.cluster_name, name, request)
        async with self._control.db.begin() as tx:
            known = await numbers.given(tx, access.org_id, "deployment", [made.deployment.id])
        return numbers.job_uuid(made.job["id"]), known[made.deployment.id]

    async def stop(self, access: Access, project: str, number: int | None) -> str:
        """Stop a project. Returns: the job's UUID. Raises: Refused. ApiError."""
        host, name = await self._place(access, Permission.DEPLOYMENT_OPERATE, project, number)
        service = self._control.deployments.service
        job = await service.operate(access, host.cluster_name, name, "stop", ServicesRequest(), None)
        return numbers.job_uuid(job["id"])

    async def status(self, access: Access, project: str, number: int | None) -> str:
        """Return what is known of a project, as text. Raises: Refused. ApiError."""
        host, name = await self._place(access, Permission.DEPLOYMENT_READ, project, number)
        shown = await self._control.deployments.service.get(access, host.cluster_name, name)
        lines = [f"Status for project '{project}':", "", f"{shown.state.value}: {shown.reason or 'all is well'}"]
        for one in shown.services:
            lines.append(f"{one.name:<24} {one.image:<40} {one.state.value:<10} {one.reason}".rstrip())
        return "\n".join(lines)

    # -- inside ------------------------------------------------------------------------------------

    def _host(self, row: Cluster, agent: Agent | None, number: int) -> Host:
        facts = row.facts or {}
        version = agent.version if agent is not None else ""
        return Host(
            number=number,
            cluster_id=row.id,
            cluster_name=row.name,
            hostname=str(facts.get("hostname") or (agent.hostname if agent is not None else "") or row.name),
            address=agent.address if agent is not None else "",
            online=row.connected and (agent is None or agent.state == AgentState.ACTIVE),
            last_seen_at=row.last_seen_at,
            version=version,
            architecture="-".join(str(facts[key]) for key in ("system", "architecture") if facts.get(key)),
        )

    def _chosen(self, hosts: Sequence[Host], number: int | None) -> Host:
        if number is None:
            online = next((host for host in hosts if host.online), None)
            if online is None:
                raise Refused(503, "No online agents available")
            return online
        found = next((host for host in hosts if host.number == number), None)
        if found is None:
            raise Refused(404, f"Agent {number} not found")
        if not found.online:
            raise Refused(503, f"Agent {number} is not connected")
        return found

    async def _place(
        self, access: Access, permission: Permission, project: str, number: int | None
    ) -> tuple[Host, str]:
        """Find the host of a project. Raises: Refused: unknown, on several hosts, or its host is away."""
        hosts = {host.cluster_id: host for host in await self.hosts(access)}
        scope = access.scope(permission).clause(
            cluster_id=Deployment.cluster_id,
            matches_selector=carrier(Deployment.cluster_id),
            project=Deployment.name,
        )
        query = select(Deployment.cluster_id).where(
            Deployment.org_id == access.org_id,
            Deployment.name == project.lower(),
            Deployment.removed_at.is_(None),
            scope,
        )
        async with self._control.db.read() as tx:
            found = [hosts[each] for each in (await tx.scalars(query)).all() if each in hosts]
        if number is not None:
            found = [host for host in found if host.number == number]
        if not found:
            raise Refused(404, f"Project '{project}' not found")
        if len(found) > 1:
            named = ", ".join(str(host.number) for host in sorted(found, key=lambda host: host.number))
            raise Refused(409, f"Project '{project}' is on several agents ({named}); name one as agent_id")
        if not found[0].online:
            raise Refused(503, f"Agent {found[0].number} is not connected")
        return found[0], project.lower()


def _carries_compose(row: Cluster) -> bool:
    return any(one.get("name") == "compose" for one in row.capabilities)


def status_of(error: ApiError) -> int:
    """Return the status that the older system has for an error of ours."""
    return 503 if error.code in (ErrorCode.AGENT_AWAY, ErrorCode.UNAVAILABLE) else error.status

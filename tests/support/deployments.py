"""Deployments over the API without agents: a real database and app, and ports that a test moves by hand.

world = World(control_app)
answer = await world.deploy(client, "edge", "shop", WEB)
await world.end(answer["job"]["id"], "succeeded", {"images": {...}})
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from prometheus_client import CollectorRegistry
from tests.support.control_app import ControlApp

from towline.aio.clock import SimulatedClock
from towline.control.access.actor import Actor
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.db import Transaction
from towline.control.deployments.adapters import ClusterFleet
from towline.control.deployments.feature import Deployments
from towline.control.deployments.figures import Figures
from towline.control.deployments.handlers import DeployHandler, OperationHandler
from towline.control.deployments.interfaces import Queued
from towline.control.deployments.states import Activity
from towline.control.deployments.validation import ValidateHandler
from towline.control.deployments.vault import Vault
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import new_id
from towline.control.jobs.work import JobEnd, Submission
from towline.wire import link, sealed

WEB = "services:\n  web:\n    image: shop/web:1\n"
ENDED = {"succeeded", "failed", "cancelled", "superseded", "expired"}


@dataclass
class FakeJob:
    """A job that nobody works on until the test says so."""

    id: str
    org_id: str
    created_by: str
    submission: Submission
    state: str = "queued"
    stage: str = ""

    @property
    def cluster_id(self) -> str:
        return self.submission.cluster_id

    @property
    def deployment_id(self) -> str | None:
        return self.submission.deployment_id

    @property
    def kind(self) -> str:
        return self.submission.kind

    @property
    def payload(self) -> Mapping[str, Any]:
        return self.submission.payload

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "kind": self.kind, "state": self.state}


@dataclass
class FakeQueue:
    """The port `Queue`, in memory. Jobs stay where they are until a test ends them."""

    jobs: dict[str, FakeJob] = field(default_factory=dict)

    async def submit(self, tx: Transaction, actor: Actor, submission: Submission) -> Queued:
        key = submission.idem_key
        same = [job for job in self.jobs.values() if key and job.submission.idem_key == key]
        if same:
            return Queued(same[0].id, same[0].shown())
        new = FakeJob(new_id("job"), actor.org_id, actor.username, submission)
        self.jobs[new.id] = new
        return Queued(new.id, new.shown())

    async def activities(self, tx: Transaction, deployment_ids: Sequence[str]) -> Mapping[str, Activity]:
        found: dict[str, Activity] = {}
        for job in self.jobs.values():
            if job.deployment_id in deployment_ids and job.state not in ENDED and job.kind != "compose.validate":
                number = int(job.payload.get("revision", 0))
                action = str(job.payload.get("action", ""))
                activity = Activity(job.id, job.kind, job.state, job.stage, number, action)
                found.setdefault(str(job.deployment_id), activity)
        return found

    async def show(self, tx: Transaction, job_id: str) -> Mapping[str, Any]:
        return self.jobs[job_id].shown()


@dataclass
class FakeAgents:
    """The port `Agents`: one agent with a key of its own, that takes every bundle."""

    private_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    bundles: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    async def sealing_key(self, cluster_id: str) -> tuple[str, bytes]:
        if self.away:
            raise ApiError(ErrorCode.AGENT_AWAY, "the agent is away")
        return "agt_test", self.private_key.public_key().public_bytes_raw()

    async def hand_bundle(self, cluster_id: str, org_id: str, digest: str) -> None:
        self.bundles.append((cluster_id, digest))

    def open(self, org_id: str, deployment_id: str, text: bytes) -> Any:
        """Open what was sealed for this agent."""
        info = sealed.context(org_id, deployment_id, "agt_test")
        plain = sealed.open_sealed(self.private_key.private_bytes_raw(), info, text)
        return msgspec.json.decode(plain)


class World:
    """A control plane with deployments whose agents and jobs the test plays."""

    def __init__(self, app: ControlApp) -> None:
        control = app.control
        self.app = app
        self.db = control.db
        self.org_id = control.default_org
        self.queue = FakeQueue()
        self.agents = FakeAgents()
        self.clock = SimulatedClock()
        self.vault = Vault(control.sealer)
        fleet = ClusterFleet()
        self.registry = CollectorRegistry()
        figures = Figures(self.registry)
        self.feature = Deployments(
            control.db,
            control.bus,
            control.audit,
            fleet,
            self.queue,
            self.vault,
            control.registries,
            control.bundles,
            figures,
            clock=self.clock,
            keep_bundle_days=7,
        )
        control.deployments = self.feature
        deploy = DeployHandler(control.db, fleet, self.agents, self.vault, control.registries, figures)
        operation = OperationHandler(self.vault)
        self._handlers: dict[str, Any] = {
            "compose.deploy": deploy,
            "compose.validate": ValidateHandler(self.agents, self.vault),
        }
        self._operation = operation

    async def cluster(self, name: str, *, org_id: str = "", connected: bool = True, **labels: str) -> str:
        """A cluster whose agent is there, or away."""
        async with self.db.begin() as tx:
            moment = await tx.now()
            row = await clusters.insert(
                tx, org_id=org_id or self.org_id, name=name, labels=labels, created_by="", moment=moment
            )
            row.connected = connected
            return row.id

    async def report(self, cluster_id: str, *, project: link.Project | None = None, **containers: Any) -> None:
        """What the agent of a cluster sees: a project, and a container for each service."""
        found = tuple(
            link.Container(id=f"{name}-1", name=name, service=name, **value) for name, value in containers.items()
        )
        message = link.Inventory(full=True, containers=found, projects=(project,) if project else ())
        async with self.db.read() as tx:
            row = await tx.get(Cluster, cluster_id)
            assert row is not None
        reports = self.app.control.fleet.reports
        reports.inventory(cluster_id, row.org_id, message)
        await reports.flush()

    async def deploy(
        self, client: httpx.AsyncClient, cluster: str, name: str, compose: str = WEB, **more: Any
    ) -> dict[str, Any]:
        """Create a revision. Returns: the answer's JSON, which must be a success."""
        answer = await client.post(
            f"/api/v1/clusters/{cluster}/deployments/{name}/revisions", json={"compose": compose, **more}
        )
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def good(
        self, client: httpx.AsyncClient, cluster: str, name: str, *, image: int = 0, **more: Any
    ) -> dict[str, Any]:
        """Create a revision and let its deploy succeed. Without `image` each revision runs an image of its own."""
        made = await self.deploy(client, cluster, name, **more)
        images = {"web": f"shop/web@sha256:{image or made['revision']['number']:064x}"}
        await self.end(made["job"]["id"], "succeeded", {"images": images})
        return made

    async def order(self, job_id: str) -> dict[str, Any]:
        """What the agent would get."""
        job = self.queue.jobs[job_id]
        order: dict[str, Any] = await self._handler(job).prepare(job)
        return order

    async def end(self, job_id: str, state: str, detail: Mapping[str, Any] | None = None, **more: str) -> None:
        """End a job as the queue would."""
        job = self.queue.jobs[job_id]
        job.state = state
        async with self.db.begin() as tx:
            await self._handler(job).finished(tx, job, JobEnd(state, detail=detail or {}, **more))

    def move(self, job_id: str, state: str, stage: str = "") -> None:
        self.queue.jobs[job_id] = replace(self.queue.jobs[job_id], state=state, stage=stage)

    def _handler(self, job: FakeJob) -> Any:
        return self._handlers.get(job.kind, self._operation)

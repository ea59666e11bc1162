"""The ports of `interfaces`, on top of clusters, inventory, jobs, links and agents. Reading and translating only."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from towline.control.access.actor import Actor
from towline.control.access.permissions import MatchesSelector
from towline.control.agents.service import Agents as AgentService
from towline.control.bundles.service import BundleService
from towline.control.clusters import repository
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import carrier
from towline.control.db import Transaction
from towline.control.deployments.interfaces import ClusterView, Inventory, Queued
from towline.control.deployments.states import Activity
from towline.control.jobs import repository as job_rows
from towline.control.jobs.models import Job
from towline.control.jobs.service import Jobs, show
from towline.control.jobs.states import ACTIVE, ENDED
from towline.control.jobs.work import Submission
from towline.control.links.registry import Links, away
from towline.wire import link

QUIET_KINDS = frozenset({"compose.validate"})
"""Jobs that change nothing: a deployment is not busy while one runs."""


class ClusterFleet:
    """`Fleet`, and the registries' `ClusterNames`."""

    async def find(self, tx: Transaction, org_id: str, name: str) -> ClusterView | None:
        row = await repository.find(tx, org_id, name)
        return None if row is None else (await self._views(tx, [row]))[row.id]

    async def views(self, tx: Transaction, cluster_ids: Sequence[str]) -> Mapping[str, ClusterView]:
        return await self._views(tx, list((await repository.by_id(tx, cluster_ids)).values()))

    async def inventory(
        self, tx: Transaction, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Inventory]:
        projects = {
            (row.cluster_id, row.name): msgspec.convert(row.data, link.Project)
            for row in await repository.projects_named(tx, wanted)
        }
        containers: dict[tuple[str, str], list[link.Container]] = {key: [] for key in wanted}
        for row in await repository.containers_of_projects(tx, wanted):
            containers[row.cluster_id, row.project].append(msgspec.convert(row.data, link.Container))
        return {key: Inventory(projects.get(key), containers[key]) for key in wanted}

    def matches_selector(self, cluster_id: Any) -> MatchesSelector:
        return carrier(cluster_id)

    async def ids(self, tx: Transaction, org_id: str, names: Sequence[str]) -> Mapping[str, str]:
        found = {name: await repository.find(tx, org_id, name) for name in dict.fromkeys(names)}
        return {name: row.id for name, row in found.items() if row is not None}

    async def names(self, tx: Transaction, org_id: str, ids: Sequence[str]) -> Mapping[str, str]:
        rows = await repository.by_id(tx, ids)
        return {row.id: row.name for row in rows.values() if row.org_id == org_id}

    async def _views(self, tx: Transaction, rows: Sequence[Cluster]) -> dict[str, ClusterView]:
        labels = await repository.labels_of(tx, [row.id for row in rows])
        return {row.id: _view(row, labels[row.id]) for row in rows}


class JobQueue:
    """`Queue`, on the jobs of the control plane."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def submit(self, tx: Transaction, actor: Actor, submission: Submission) -> Queued:
        job = (await self._jobs.submit(tx, actor, submission)).job
        return Queued(job.id, await self._shown(tx, job))

    async def activities(self, tx: Transaction, deployment_ids: Sequence[str]) -> Mapping[str, Activity]:
        found: dict[str, Activity] = {}
        for job in await _unfinished(tx, deployment_ids):
            if job.deployment_id is not None and job.kind not in QUIET_KINDS:
                known = found.get(job.deployment_id)
                if known is None or (job.state in ACTIVE and known.state not in ACTIVE):
                    found[job.deployment_id] = _activity(job)
        return found

    async def show(self, tx: Transaction, job_id: str) -> Mapping[str, Any]:
        job = await job_rows.by_id(tx, job_id)
        return {"id": job_id} if job is None else await self._shown(tx, job)

    async def _shown(self, tx: Transaction, job: Job) -> dict[str, Any]:
        return show(job, (await repository.names(tx, [job.cluster_id])).get(job.cluster_id, ""))


async def _unfinished(tx: Transaction, deployment_ids: Sequence[str]) -> Sequence[Job]:
    query = select(Job).where(Job.deployment_id.in_(deployment_ids), Job.state.not_in(ENDED)).order_by(Job.position)
    return (await tx.scalars(query)).all()


def _activity(job: Job) -> Activity:
    """Read what a job is about from its payload: only deploys and adoptions have a revision."""
    number, action = job.payload.get("revision", 0), job.payload.get("action", "")
    return Activity(job.id, job.kind, job.state, job.stage, int(number), str(action))


class LinkedAgents:
    """`Agents`, by the links of this process."""

    def __init__(self, links: Links, agents: AgentService, bundles: BundleService) -> None:
        self._links = links
        self._agents = agents
        self._bundles = bundles

    async def sealing_key(self, cluster_id: str) -> tuple[str, bytes]:
        found = self._links.of_cluster(cluster_id)
        if found is None:
            raise away()
        return found.agent_id, await self._agents.sealing_key(found.agent_id)

    async def hand_bundle(self, cluster_id: str, org_id: str, digest: str) -> None:
        await self._bundles.hand_over(org_id, digest, self._links.session(cluster_id))


def _view(row: Cluster, labels: Mapping[str, str]) -> ClusterView:
    return ClusterView(
        id=row.id,
        org_id=row.org_id,
        name=row.name,
        connected=row.connected,
        labels=labels,
        last_seen_at=row.last_seen_at,
        compose_problem=_compose_problem(row.capabilities),
    )


def _compose_problem(capabilities: Sequence[Mapping[str, Any]]) -> str:
    for one in capabilities:
        if one.get("name") == "compose" and not one.get("ready"):
            return f"Docker does not answer: {one.get('reason') or 'no reason given'}"
    return ""

"""The ports of `interfaces`, on top of clusters, inventory, links and agents. Reading and translating only."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from towline.control.access.permissions import MatchesSelector
from towline.control.agents.service import Agents as AgentService
from towline.control.bundles.service import BundleService
from towline.control.clusters import repository
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import carrier
from towline.control.db import Transaction
from towline.control.deployments.interfaces import ClusterView, Inventory
from towline.control.links.registry import Links, away
from towline.wire import link


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

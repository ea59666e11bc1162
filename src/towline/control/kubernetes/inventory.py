"""Rules of reading what is known of Kubernetes clusters: who sees which part of it, and how fresh it is.

Whoever may read a cluster sees all of it; whoever was granted namespaces sees what is in them, and nothing of the
nodes. Writing is `inventory_intake`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.access.actor import Access, forbidden
from towline.control.access.permissions import Permission, Reach, Resource, ScopeKind
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import carrier
from towline.control.db import Database, Transaction
from towline.control.errors import not_found
from towline.control.kubernetes import inventory_repository as repository
from towline.control.kubernetes.models import KubeCluster, KubeObject
from towline.control.listing import Listed, ListQuery, fetch

MOST_UNWELL = 20
"""Things that the overview names."""
SORTS: Mapping[str, Mapping[str, Any]] = {
    "nodes": {"name": KubeObject.name, "state": KubeObject.state, "pods": KubeObject.amount, "rank": KubeObject.rank},
    "namespaces": {"name": KubeObject.name, "pods": KubeObject.amount, "created_at": KubeObject.moment},
    "workloads": {
        "name": KubeObject.name,
        "namespace": KubeObject.namespace,
        "kind": KubeObject.kind,
        "state": KubeObject.state,
        "rank": KubeObject.rank,
        "created_at": KubeObject.moment,
    },
    "pods": {
        "name": KubeObject.name,
        "namespace": KubeObject.namespace,
        "restarts": KubeObject.amount,
        "since": KubeObject.moment,
        "rank": KubeObject.rank,
    },
    "events": {"last_at": KubeObject.moment, "count": KubeObject.amount, "reason": KubeObject.state},
}
DEFAULT_SORT = {"nodes": "name", "namespaces": "name", "workloads": "name", "pods": "-since", "events": "-last_at"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a list shows."""

    namespace: str = ""
    kind: str = ""
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Freshness:
    """How much what is known is worth."""

    state: str
    reason: str
    as_of: datetime | None
    age: float


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that a cluster's first page shows."""

    row: Cluster
    known: KubeCluster | None
    freshness: Freshness
    restricted: bool
    counts: Sequence[tuple[str, str, str, bool, int]]
    nodes: Sequence[Any]
    namespaces: Sequence[Any]
    unwell: Sequence[KubeObject]


@dataclass(frozen=True, slots=True)
class About:
    """What stands above every page of a cluster."""

    row: Cluster
    freshness: Freshness
    restricted: bool
    namespaces: tuple[str, ...]
    """Names of those that are known and seen, in order."""
    measured: bool
    """True where the cluster tells what nodes and pods use."""


class KubernetesInventory:
    """Reads what agents told last."""

    def __init__(self, db: Database, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._clock = clock

    async def overview(self, access: Access, cluster: str) -> Overview:
        """Raises: ApiError: cluster_not_found, forbidden."""
        async with self._db.read() as tx:
            row, namespaces = await self.require(tx, access, cluster)
            visible = repository.within(namespaces)
            known = await repository.cluster(tx, row.id)
            return Overview(
                row=row,
                known=known,
                freshness=freshness(row, known, self._clock.now()),
                restricted=namespaces is not None,
                counts=await repository.counts(tx, row.id, visible),
                nodes=await repository.data_of(tx, row.id, "nodes", visible),
                namespaces=await repository.data_of(tx, row.id, "namespaces", visible),
                unwell=await repository.unwell(tx, row.id, visible, MOST_UNWELL),
            )

    async def about(self, access: Access, cluster: str) -> About:
        """Raises: ApiError: cluster_not_found."""
        async with self._db.read() as tx:
            row, seen = await self.require(tx, access, cluster)
            known = await repository.cluster(tx, row.id)
            names = await repository.names_of(tx, row.id, "namespaces", repository.within(seen))
            measured = known is not None and known.metrics
            return About(row, freshness(row, known, self._clock.now()), seen is not None, tuple(names), measured)

    async def page(
        self, access: Access, cluster: str, section: str, asked: ListQuery, wanted: Wanted
    ) -> Listed[KubeObject]:
        """Return a page of one section. Raises: ApiError: cluster_not_found, forbidden, invalid."""
        async with self._db.read() as tx:
            row, namespaces = await self.require(tx, access, cluster)
            if section == "nodes" and namespaces is not None:
                raise forbidden(Permission.CLUSTER_READ)
            query = repository.entries(
                row.id,
                section,
                repository.within(namespaces),
                namespace=wanted.namespace,
                kind=wanted.kind,
                states=wanted.states,
                search=asked.search,
            )
            return await fetch(
                tx, query, asked, sorts=SORTS[section], default=DEFAULT_SORT[section], key=KubeObject.key
            )

    async def search(self, access: Access, text: str, most: int) -> list[tuple[KubeObject, str]]:
        """Return workloads, unwell pods and nodes by name on every cluster that the actor sees, with its name."""
        where = access.scope(Permission.CLUSTER_READ).clause(
            cluster_id=KubeObject.cluster_id, matches_selector=carrier(KubeObject.cluster_id),
            namespace=KubeObject.namespace,
        )  # fmt: skip
        async with self._db.read() as tx:
            found = await tx.execute(repository.anywhere(access.org_id, text, where).limit(most))
            return [(row[0], row[1]) for row in found]

    async def require(self, tx: Transaction, access: Access, cluster: str) -> tuple[Cluster, frozenset[str] | None]:
        """Return a cluster, and the namespaces of it that the actor sees; None for all of it."""
        row = await clusters.find(tx, access.org_id, cluster)
        if row is None:
            raise not_found("cluster", cluster[:64])
        labels = (await clusters.labels_of(tx, [row.id]))[row.id]
        seen = namespaces_seen(access, Resource(access.org_id, row.id, labels))
        if seen is not None and not seen:
            raise not_found("cluster", cluster[:64])
        return row, seen


def namespaces_seen(access: Access, resource: Resource) -> frozenset[str] | None:
    """Return the namespaces of a cluster that the actor may read; None for all of it, and empty for nothing."""
    scope = access.scope(Permission.CLUSTER_READ)
    granted = _namespaces(scope.reaches, resource)
    limit = None if scope.limit is None else _namespaces(scope.limit, resource)
    if granted is None or limit is None:
        return limit if granted is None else granted
    return granted & limit


def _namespaces(reaches: Sequence[Reach], resource: Resource) -> frozenset[str] | None:
    if any(reach.covers(resource) for reach in reaches):
        return None
    here = [reach for reach in reaches if reach.kind is ScopeKind.NAMESPACE and reach.namespace]
    return frozenset(reach.namespace for reach in here if reach.cluster_id in ("", resource.cluster_id))


def freshness(row: Cluster, known: KubeCluster | None, now: datetime) -> Freshness:
    """Say of which moment the inventory is: of now, as long as agent and API server both answer."""
    if known is None:
        return Freshness("unknown", "the agent has told nothing of a Kubernetes cluster yet", None, 0.0)
    if not row.connected:
        seen = row.last_seen_at or known.told_at
        earlier = min(seen, known.away_since or seen)
        return _aged("away", "the agent is away", earlier, now)
    if known.away_since is not None:
        why = f"the API server does not answer the agent: {known.away_reason}"
        return _aged("away", why, known.away_since, now)
    unserved = _unserved(row)
    if unserved is not None:
        reason, since = unserved
        return _aged("away", f"the agent does not serve Kubernetes: {reason}", since or known.told_at, now)
    if known.missing:
        kinds = ", ".join(sorted({str(one.get("kind", "")) for one in known.missing}))
        return Freshness("partial", f"the agent may not read {kinds}", now, 0.0)
    return Freshness("live", "", now, 0.0)


def _unserved(row: Cluster) -> tuple[str, datetime | None] | None:
    """Return why and since when the agent says that it cannot serve Kubernetes; None when it can."""
    for one in row.capabilities:
        if one.get("name") == "kubernetes" and not one.get("ready"):
            since = one.get("since")
            return str(one.get("reason", "")), datetime.fromisoformat(since) if since else None
    return None


def _aged(state: str, reason: str, as_of: datetime, now: datetime) -> Freshness:
    return Freshness(state, reason, as_of, max(timedelta(), now - as_of).total_seconds())

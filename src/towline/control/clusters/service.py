"""Rules of clusters: who sees which, what they are called, and their removal. Health is `health.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import MatchesSelector, Permission, Resource
from towline.control.agents import repository as agent_rows
from towline.control.agents.models import Agent
from towline.control.agents.refusals import REMOVED
from towline.control.agents.service import Agents
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository
from towline.control.clusters.models import Cluster, InventoryContainer, InventoryProject
from towline.control.clusters.names import check_name
from towline.control.clusters.reports import Reports
from towline.control.clusters.selectors import BadSelector, parse, require_labels
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.links.registry import Link, Links, away
from towline.control.listing import Listed, ListQuery, fetch

SORTS: Mapping[str, Any] = {
    "name": Cluster.name,
    "created_at": Cluster.created_at,
    "state": Cluster.health_state,
    "health_since": Cluster.health_since,
    "last_seen": func.coalesce(Cluster.last_seen_at, Cluster.created_at),
}
CONTAINER_SORTS = {"name": InventoryContainer.name}


@dataclass(frozen=True, slots=True)
class View:
    """A cluster with everything that is shown of it."""

    row: Cluster
    labels: Mapping[str, str]
    agents: Sequence[Agent]
    projects: int
    containers: int
    link: Link | None
    live_instances: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Per agent that is connected the names of its instances; that of an only one is empty."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which clusters a list shows."""

    selector: str = ""
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A cluster as a form offers it."""

    name: str
    connected: bool


class Clusters:
    """Clusters of organisations."""

    def __init__(self, db: Database, audit: AuditLog, links: Links, agents: Agents, reports: Reports) -> None:
        self._db = db
        self._audit = audit
        self._links = links
        self._agents = agents
        self._reports = reports

    async def page(self, access: Access, asked: ListQuery, wanted: Wanted) -> Listed[View]:
        """Return a page of the clusters that the actor may see. Raises: ApiError: invalid."""
        query = repository.matching(
            access.org_id,
            where=[visible(access, Permission.CLUSTER_READ)],
            search=asked.search,
            states=wanted.states,
            selector=_selector(wanted.selector),
        )
        async with self._db.read() as tx:
            found: Listed[Cluster] = await fetch(tx, query, asked, sorts=SORTS, default="name", key=Cluster.id)
            views = await self._views(tx, found.rows)
        return Listed(views, found.next_cursor, found.total)

    async def count_states(self, access: Access) -> Mapping[str, int]:
        """Return how many of the clusters that the actor may see are in each state."""
        async with self._db.read() as tx:
            return await repository.count_states(tx, access.org_id, visible(access, Permission.CLUSTER_READ))

    async def choices(self, access: Access, permission: Permission) -> Sequence[Choice]:
        """Return every cluster where the actor holds a permission somewhere, by name: what a form offers."""
        async with self._db.read() as tx:
            found = await repository.names_with_link(tx, access.org_id, visible(access, permission))
        return [Choice(name, connected) for name, connected in found]

    async def names(self, cluster_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the names of clusters by id, for showing what somebody else's grant is about."""
        async with self._db.read() as tx:
            return await repository.names(tx, cluster_ids)

    async def get(self, access: Access, cluster: str) -> View:
        """Raises: ApiError: cluster_not_found."""
        async with self._db.read() as tx:
            row, _ = await self.require(tx, access, cluster, Permission.CLUSTER_READ)
            return (await self._views(tx, [row]))[0]

    async def require(
        self, tx: Transaction, access: Access, cluster: str, permission: Permission, *, project: str = ""
    ) -> tuple[Cluster, Resource]:
        """Return a cluster that the actor has a permission for, and the resource that it is asked for.

        Raises: ApiError: cluster_not_found, forbidden.
        """
        missing = not_found("cluster", cluster[:64])
        row = await repository.find(tx, access.org_id, cluster)
        if row is None:
            raise missing
        labels = (await repository.labels_of(tx, [row.id]))[row.id]
        resource = Resource(access.org_id, row.id, labels, project)
        access.require(permission, resource, missing=missing)
        return row, resource

    async def change(
        self,
        access: Access,
        cluster: str,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> View:
        """Change what people call a cluster. Raises: ApiError: cluster_not_found, name_taken, invalid."""
        try:
            async with self._db.begin() as tx:
                row, _ = await self.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
                before = {"name": row.name, "description": row.description}
                await _apply(tx, access, row, name, labels, description)
                await self._audit.record(
                    tx, access.actor, action="cluster.change", target_kind="cluster", target_id=row.id,
                    target_name=row.name, cluster_id=row.id,
                    detail={"before": before, "labels": None if labels is None else dict(labels)},
                )  # fmt: skip
                tx.publish("cluster", id=row.id)
                return (await self._views(tx, [row]))[0]
        except IntegrityError as error:
            raise ApiError(ErrorCode.NAME_TAKEN, f"a cluster named {name} exists already") from error

    async def remove(self, access: Access, cluster: str) -> None:
        """Remove a cluster with its history. Its agents stop for good; what runs on the host keeps running."""
        async with self._db.begin() as tx:
            row, _ = await self.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
            ended = await self._agents.remove_all(tx, access.actor, row)
            await self._audit.record(
                tx, access.actor, action="cluster.remove", target_kind="cluster", target_id=row.id,
                target_name=row.name, cluster_id=row.id, detail={"agents": list(ended)},
            )  # fmt: skip
            await tx.delete(row)
            tx.publish("cluster", id=row.id)
        self._reports.forget(row.id)
        for agent_id in ended:
            self._links.cut(agent_id, REMOVED)

    async def containers(
        self, access: Access, cluster: str, asked: ListQuery, *, project: str = ""
    ) -> Listed[InventoryContainer]:
        """Return what ran on a cluster last."""
        async with self._db.read() as tx:
            row, _ = await self.require(tx, access, cluster, Permission.CLUSTER_READ)
            query = repository.containers(row.id, project=project, search=asked.search)
            key = InventoryContainer.container_id
            return await fetch(tx, query.order_by(None), asked, sorts=CONTAINER_SORTS, default="name", key=key)

    async def search_containers(self, access: Access, text: str, most: int) -> list[tuple[InventoryContainer, str]]:
        """Return containers by name, image or project on every cluster that the actor sees, with its name."""
        async with self._db.read() as tx:
            where = visible(access, Permission.CLUSTER_READ)
            found = await tx.execute(repository.containers_anywhere(access.org_id, text, where).limit(most))
            return [(row[0], row[1]) for row in found]

    async def projects(self, access: Access, cluster: str, search: str = "") -> Sequence[InventoryProject]:
        """Return the Compose projects that were on a cluster last, ours or not."""
        async with self._db.read() as tx:
            row, _ = await self.require(tx, access, cluster, Permission.CLUSTER_READ)
            found: Sequence[InventoryProject] = (
                (await tx.execute(repository.projects(row.id, search=search))).scalars().all()
            )
            return found

    async def away(self, cluster_id: str) -> ApiError:
        """Return the error for a cluster whose agent is away, with its name and when it was seen."""
        async with self._db.read() as tx:
            row = (await repository.by_id(tx, [cluster_id])).get(cluster_id)
        return away(row.name, row.last_seen_at) if row else away()

    async def _views(self, tx: Transaction, rows: Sequence[Cluster]) -> list[View]:
        ids = [row.id for row in rows]
        labels = await repository.labels_of(tx, ids)
        counts = await repository.counts(tx, ids)
        agents = await agent_rows.agents_of(tx, ids)
        connected = {one.id: tuple(live) for one in agents if (live := self._links.live_instances(one.id))}
        return [
            View(
                row,
                labels[row.id],
                [one for one in agents if one.cluster_id == row.id],
                *counts.get(row.id, (0, 0)),
                self._links.of_cluster(row.id),
                connected,
            )
            for row in rows
        ]


def visible(access: Access, permission: Permission, cluster_id: Any = Cluster.id) -> ColumnElement[bool]:
    """Return the condition for the rows of clusters that the actor has a permission for."""
    return access.scope(permission).clause(cluster_id=cluster_id, matches_selector=carrier(cluster_id))


def carrier(cluster_id: Any) -> MatchesSelector:
    """Return what `Scope.clause` needs to look at the labels of the cluster in a column."""
    return lambda labels: repository.carries(labels, cluster_id)


async def _apply(
    tx: Transaction,
    access: Access,
    row: Cluster,
    name: str | None,
    labels: Mapping[str, str] | None,
    description: str | None,
) -> None:
    if name is not None:
        check_name(name)
        row.name = name
    if description is not None:
        row.description = description
    if labels is not None:
        require_labels(labels)
        # Labels carry grants: whoever may manage this cluster alone must not move it under another selector.
        access.require_org(Permission.CLUSTER_MANAGE)
        await repository.set_labels(tx, row.id, labels)
    await tx.flush()


def _selector(text: str) -> tuple[Any, ...]:
    try:
        return parse(text)
    except BadSelector as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error

"""Every query of clusters, their labels and their inventory. No rules here."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import aliased

from towline.control.agents.models import Agent
from towline.control.clusters.health import Health
from towline.control.clusters.models import Cluster, ClusterLabel, InventoryContainer, InventoryProject
from towline.control.clusters.names import free_name
from towline.control.clusters.selectors import Requirement
from towline.control.db import Transaction, execute_many, table_of, upsert
from towline.control.ids import is_id, new_id

_RANK = {"active": 0, "pending": 1, "suspect": 2, "revoked": 3, "removed": 4}
NOT_CONNECTED_YET = "The agent has joined and has not connected yet"


async def find(tx: Transaction, org_id: str, name_or_id: str) -> Cluster | None:
    """Return a cluster of an organisation by its name or its id."""
    column = Cluster.id if is_id(name_or_id, "clu") else Cluster.name
    query = select(Cluster).where(Cluster.org_id == org_id, column == name_or_id)
    return (await tx.execute(query)).scalar_one_or_none()


async def names_beginning(tx: Transaction, org_id: str, prefix: str) -> set[str]:
    """Return the names of an organisation's clusters that begin with some text."""
    query = select(Cluster.name).where(Cluster.org_id == org_id, Cluster.name.startswith(prefix, autoescape=True))
    return set((await tx.execute(query)).scalars())


async def by_id(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, Cluster]:
    rows = (await tx.execute(select(Cluster).where(Cluster.id.in_(cluster_ids)))).scalars()
    return {row.id: row for row in rows}


async def agent_states(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return state and reason of the agent that speaks for each cluster: the best one, the newest of equals."""
    query = (
        select(Agent.cluster_id, Agent.state, Agent.state_reason)
        .where(Agent.cluster_id.in_(cluster_ids))
        .order_by(Agent.created_at)
    )
    found: dict[str, tuple[str, str]] = {}
    for cluster_id, state, reason in await tx.execute(query):
        if cluster_id is None:
            continue
        if cluster_id not in found or _RANK.get(state, 9) <= _RANK.get(found[cluster_id][0], 9):
            found[cluster_id] = (state, reason)
    return found


async def names(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, str]:
    """Return the names of clusters by id."""
    query = select(Cluster.id, Cluster.name).where(Cluster.id.in_(cluster_ids))
    return {row.id: row.name for row in await tx.execute(query)}


async def insert_called(
    tx: Transaction, *, org_id: str, wanted: str, labels: Mapping[str, str], created_by: str, moment: datetime
) -> Cluster:
    """Add a cluster with its labels, under a name or, when that is taken, the first number behind it that is free."""
    name = free_name(wanted, await names_beginning(tx, org_id, wanted[:50]))
    return await insert(tx, org_id=org_id, name=name, labels=labels, created_by=created_by, moment=moment)


async def insert(
    tx: Transaction, *, org_id: str, name: str, labels: Mapping[str, str], created_by: str, moment: datetime
) -> Cluster:
    """Add a cluster with its labels."""
    row = Cluster(
        id=new_id("clu"),
        org_id=org_id,
        name=name,
        created_at=moment,
        created_by=created_by,
        health_state=Health.WORKING,
        health_reason=NOT_CONNECTED_YET,
        health_since=moment,
    )
    tx.add(row)
    await tx.flush()
    await set_labels(tx, row.id, labels)
    return row


async def set_labels(tx: Transaction, cluster_id: str, labels: Mapping[str, str]) -> None:
    """Replace the labels of a cluster."""
    await tx.execute(delete(ClusterLabel).where(ClusterLabel.cluster_id == cluster_id))
    tx.add_all(ClusterLabel(cluster_id=cluster_id, key=key, value=value) for key, value in labels.items())
    await tx.flush()


async def labels_of(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {cluster_id: {} for cluster_id in cluster_ids}
    query = select(ClusterLabel).where(ClusterLabel.cluster_id.in_(cluster_ids)).order_by(ClusterLabel.key)
    for row in (await tx.execute(query)).scalars():
        found[row.cluster_id][row.key] = row.value
    return found


async def counts(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return how many projects and containers each cluster had last."""
    return {
        cluster_id: (projects, containers)
        for cluster_id, projects, containers in await tx.execute(
            select(
                Cluster.id,
                select(func.count()).where(InventoryProject.cluster_id == Cluster.id).scalar_subquery(),
                select(func.count()).where(InventoryContainer.cluster_id == Cluster.id).scalar_subquery(),
            ).where(Cluster.id.in_(cluster_ids))
        )
    }


def carries(labels: Mapping[str, str], cluster_id: Any = Cluster.id) -> ColumnElement[bool]:
    """Return the condition that a row's cluster carries labels; what `Scope.clause` asks for."""
    return and_(*(meets(Requirement(key, "in", (value,)), cluster_id) for key, value in labels.items()))


def meets(requirement: Requirement, cluster_id: Any = Cluster.id) -> ColumnElement[bool]:
    """Return one requirement of a selector as SQL."""
    label = aliased(ClusterLabel)
    here = select(label.cluster_id).where(label.cluster_id == cluster_id, label.key == requirement.key)
    match requirement.operator:
        case "exists":
            return exists(here)
        case "absent":
            return ~exists(here)
        case "in":
            return exists(here.where(label.value.in_(requirement.values)))
    return ~exists(here.where(label.value.in_(requirement.values)))


def matching(
    org_id: str,
    *,
    where: Sequence[ColumnElement[bool]],
    search: str = "",
    states: Sequence[str] = (),
    selector: Sequence[Requirement] = (),
) -> Select[Any]:
    """Return the query of a list of clusters, without order."""
    query = select(Cluster).where(Cluster.org_id == org_id, *where, *(meets(one) for one in selector))
    if states:
        query = query.where(Cluster.health_state.in_(states))
    if search:
        label = aliased(ClusterLabel)
        labelled = select(label.cluster_id).where(
            label.cluster_id == Cluster.id,
            or_(label.value.icontains(search, autoescape=True), label.key.icontains(search, autoescape=True)),
        )
        text = (Cluster.name, Cluster.description, Cluster.link_address)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in text), exists(labelled)))
    return query


async def count_states(tx: Transaction, org_id: str, where: ColumnElement[bool]) -> dict[str, int]:
    query = select(Cluster.health_state, func.count()).where(Cluster.org_id == org_id, where)
    return {row[0]: row[1] for row in await tx.execute(query.group_by(Cluster.health_state))}


async def names_with_link(tx: Transaction, org_id: str, where: ColumnElement[bool]) -> list[tuple[str, bool]]:
    """Return names and whether an agent is connected, by name."""
    query = select(Cluster.name, Cluster.connected).where(Cluster.org_id == org_id, where).order_by(Cluster.name)
    return [(row[0], row[1]) for row in await tx.execute(query)]


async def update_many(tx: Transaction, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what changed of many clusters, in one statement for each set of columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cluster_id, values in changes.items():
        groups.setdefault(tuple(sorted(values)), []).append({"key": cluster_id, **values})
    table = table_of(Cluster)
    for columns, rows in groups.items():
        if columns:
            written: dict[str, Any] = {name: bindparam(name) for name in columns}
            await execute_many(tx, update(table).where(table.c.id == bindparam("key")).values(written), rows)


async def silent(tx: Transaction) -> Sequence[Cluster]:
    """Return the clusters without a link whose health does not yet say so for good."""
    query = select(Cluster).where(Cluster.connected.is_(False), Cluster.health_state == Health.WORKING)
    return (await tx.execute(query)).scalars().all()


async def disconnect_all(tx: Transaction, why: str) -> None:
    """Note that no link is up: this process has just started."""
    values = {"connected": False, "link_last_error": why, "health_state": Health.WORKING}
    statement = update(Cluster).where(Cluster.connected.is_(True)).values(**values)
    await tx.execute(statement.execution_options(synchronize_session=False))


# -- inventory ---------------------------------------------------------------------------------


async def clear_inventories(tx: Transaction, cluster_ids: Collection[str]) -> None:
    """Forget what ran on clusters whose agents have just said all of it again."""
    if cluster_ids:
        await tx.execute(delete(InventoryContainer).where(InventoryContainer.cluster_id.in_(cluster_ids)))
        await tx.execute(delete(InventoryProject).where(InventoryProject.cluster_id.in_(cluster_ids)))


async def change_containers(
    tx: Transaction, rows: Sequence[Mapping[str, Any]], removed: Collection[tuple[str, str]]
) -> None:
    """Write containers, and remove others by cluster and id."""
    if removed:
        key = tuple_(InventoryContainer.cluster_id, InventoryContainer.container_id)
        await tx.execute(delete(InventoryContainer).where(key.in_(removed)))
    await upsert(tx, InventoryContainer, rows, key=("cluster_id", "container_id"))


async def change_projects(
    tx: Transaction, rows: Sequence[Mapping[str, Any]], removed: Collection[tuple[str, str]]
) -> None:
    """Write projects, and remove others by cluster and name."""
    if removed:
        key = tuple_(InventoryProject.cluster_id, InventoryProject.name)
        await tx.execute(delete(InventoryProject).where(key.in_(removed)))
    await upsert(tx, InventoryProject, rows, key=("cluster_id", "name"))


async def sick_names(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the names of containers that are not well, by cluster."""
    query = select(InventoryContainer.cluster_id, InventoryContainer.name).where(
        InventoryContainer.cluster_id.in_(cluster_ids), InventoryContainer.sick.is_(True)
    )
    found: dict[str, list[str]] = {cluster_id: [] for cluster_id in cluster_ids}
    for cluster_id, name in await tx.execute(query):
        found[cluster_id].append(name)
    return found


def containers(cluster_id: str, *, project: str = "", service: str = "", search: str = "") -> Select[Any]:
    """Return the query of a cluster's containers, by project, service and number of the name."""
    query = select(InventoryContainer).where(InventoryContainer.cluster_id == cluster_id)
    if project:
        query = query.where(InventoryContainer.project == project)
    if service:
        query = query.where(InventoryContainer.service == service)
    if search:
        text = (InventoryContainer.name, InventoryContainer.image, InventoryContainer.project)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in text)))
    return query.order_by(InventoryContainer.project, InventoryContainer.service, InventoryContainer.name)


def containers_anywhere(org_id: str, text: str, where: ColumnElement[bool]) -> Select[InventoryContainer, str]:
    """Return the query of containers that match a text on any cluster of an organisation, with the cluster's name."""
    columns = (InventoryContainer.name, InventoryContainer.image, InventoryContainer.project)
    return (
        select(InventoryContainer, Cluster.name)
        .join(Cluster, Cluster.id == InventoryContainer.cluster_id)
        .where(Cluster.org_id == org_id, where, or_(*(each.icontains(text, autoescape=True) for each in columns)))
        .order_by(InventoryContainer.name)
    )


async def container_named(tx: Transaction, cluster_id: str, name: str, shortest_id: int) -> InventoryContainer | None:
    """Return a container by its name, its id, or the beginning of its id when that fits one alone."""
    exact = or_(InventoryContainer.name == name, InventoryContainer.container_id == name)
    here = select(InventoryContainer).where(InventoryContainer.cluster_id == cluster_id)
    found = (await tx.execute(here.where(exact).limit(1))).scalar_one_or_none()
    if found is not None or len(name) < shortest_id:
        return found
    begins = InventoryContainer.container_id.startswith(name, autoescape=True)
    candidates = (await tx.execute(here.where(begins).limit(2))).scalars().all()
    return candidates[0] if len(candidates) == 1 else None


def projects(cluster_id: str, *, search: str = "") -> Select[Any]:
    query = select(InventoryProject).where(InventoryProject.cluster_id == cluster_id)
    if search:
        query = query.where(InventoryProject.name.icontains(search, autoescape=True))
    return query.order_by(InventoryProject.name)


async def projects_named(tx: Transaction, wanted: Collection[tuple[str, str]]) -> Sequence[InventoryProject]:
    """Return the projects that are named by cluster id and name."""
    if not wanted:
        return ()
    query = select(InventoryProject).where(tuple_(InventoryProject.cluster_id, InventoryProject.name).in_(list(wanted)))
    return (await tx.execute(query)).scalars().all()


async def containers_of_projects(tx: Transaction, wanted: Collection[tuple[str, str]]) -> Sequence[InventoryContainer]:
    """Return the containers of projects that are named by cluster id and name."""
    if not wanted:
        return ()
    query = (
        select(InventoryContainer)
        .where(tuple_(InventoryContainer.cluster_id, InventoryContainer.project).in_(list(wanted)))
        .order_by(InventoryContainer.cluster_id, InventoryContainer.project, InventoryContainer.name)
    )
    return (await tx.execute(query)).scalars().all()

"""Every query of what agents tell of Kubernetes clusters. No rules here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, true

from towline.control.clusters.models import Cluster
from towline.control.db import Transaction, execute_many, now, table_of, upsert
from towline.control.kubernetes.models import KubeCluster, KubeObject
from towline.control.listing import contains

SEARCHED = ("workloads", "pods", "nodes")
"""What a search over everything finds; events and namespaces have lists of their own."""
WRITTEN_AT_ONCE = 500
"""Rows of one statement."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """What of a cluster is not well: how many things, and the gravest by name."""

    total: int
    named: tuple[str, ...]


# -- writing -----------------------------------------------------------------------------------


async def known_clusters(tx: Transaction, cluster_ids: Collection[str]) -> set[str]:
    """Return those that still exist."""
    return set((await tx.scalars(select(Cluster.id).where(Cluster.id.in_(cluster_ids)))).all())


async def write_cluster(tx: Transaction, row: Mapping[str, Any]) -> None:
    await upsert(tx, KubeCluster, [row], key=("cluster_id",))


async def clear(tx: Transaction, cluster_id: str) -> None:
    """Forget every entry of a cluster."""
    await tx.execute(delete(KubeObject).where(KubeObject.cluster_id == cluster_id))


async def remove(tx: Transaction, cluster_id: str, keys: Collection[tuple[str, str]]) -> None:
    """Remove entries by section and key."""
    table = table_of(KubeObject)
    statement = delete(table).where(
        table.c.cluster_id == cluster_id, table.c.section == bindparam("a_section"), table.c.key == bindparam("a_key")
    )
    await execute_many(tx, statement, [{"a_section": section, "a_key": key} for section, key in keys])


async def write(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    for at in range(0, len(rows), WRITTEN_AT_ONCE):
        await upsert(tx, KubeObject, rows[at : at + WRITTEN_AT_ONCE], key=("cluster_id", "section", "key"))


async def trim(tx: Transaction, cluster_id: str, section: str, most: int) -> int:
    """Keep only the newest entries of a section. Returns: how many were removed."""
    here = (KubeObject.cluster_id == cluster_id, KubeObject.section == section)
    held = await tx.scalar(select(func.count()).select_from(KubeObject).where(*here)) or 0
    if held <= most:
        return 0
    order = (KubeObject.moment.asc(), KubeObject.key.desc())
    oldest = select(KubeObject.key).where(*here).order_by(*order).limit(held - most).scalar_subquery()
    gone = delete(KubeObject).where(*here, KubeObject.key.in_(oldest))
    await tx.execute(gone.execution_options(synchronize_session=False))
    return held - most


async def forget_silent(tx: Transaction, seconds: float) -> int:
    """Remove what was known of clusters that have been silent for so long. Returns: how many rows."""
    silent = select(Cluster.id).where(Cluster.connected.is_(False), Cluster.last_seen_at < now(-seconds))
    removed = 0
    for table in (KubeObject, KubeCluster):
        gone = delete(table).where(table.cluster_id.in_(silent)).returning(table.cluster_id)
        removed += len((await tx.execute(gone.execution_options(synchronize_session=False))).all())
    return removed


# -- reading -----------------------------------------------------------------------------------


async def cluster(tx: Transaction, cluster_id: str) -> KubeCluster | None:
    return await tx.get(KubeCluster, cluster_id)


async def away(tx: Transaction, cluster_ids: Collection[str]) -> Sequence[KubeCluster]:
    """Return the clusters whose API server does not answer their agent."""
    query = select(KubeCluster).where(KubeCluster.cluster_id.in_(cluster_ids), KubeCluster.away_since.is_not(None))
    return (await tx.scalars(query)).all()


async def troubles(tx: Transaction, cluster_ids: Collection[str], rank: int, named: int) -> dict[str, Troubles]:
    """Return what is at least so grave, by cluster."""
    grave = (KubeObject.cluster_id.in_(cluster_ids), KubeObject.rank >= rank)
    counted = select(KubeObject.cluster_id, func.count()).where(*grave).group_by(KubeObject.cluster_id)
    totals = {row[0]: row[1] for row in await tx.execute(counted)}
    if not totals:
        return {}
    order = (KubeObject.rank.desc(), KubeObject.key)
    place = func.row_number().over(partition_by=KubeObject.cluster_id, order_by=order).label("place")
    columns = (KubeObject.cluster_id, KubeObject.section, KubeObject.kind, KubeObject.namespace, KubeObject.name)
    placed = select(*columns, KubeObject.reason, place).where(*grave).subquery()
    found: dict[str, list[str]] = {cluster_id: [] for cluster_id in totals}
    query = select(placed).where(placed.c.place <= named).order_by(placed.c.cluster_id, placed.c.place)
    for row in await tx.execute(query):
        found[row.cluster_id].append(in_words(row.section, row.kind, row.namespace, row.name, row.reason))
    return {cluster_id: Troubles(total, tuple(found[cluster_id])) for cluster_id, total in totals.items()}


def in_words(section: str, kind: str, namespace: str, name: str, reason: str) -> str:
    """Return what is wrong with an entry, as a part of a sentence."""
    what = "node" if section == "nodes" else kind.lower()
    where = f"{namespace}/{name}" if namespace else name
    return f"{what} {where}: {reason}" if reason else f"{what} {where}"


def entries(
    cluster_id: str,
    section: str,
    visible: ColumnElement[bool],
    *,
    namespace: str = "",
    kind: str = "",
    states: Sequence[str] = (),
    search: str = "",
) -> Select[Any]:
    """Return the query of one section, without order."""
    query = select(KubeObject).where(KubeObject.cluster_id == cluster_id, KubeObject.section == section, visible)
    if namespace:
        query = query.where(KubeObject.namespace == namespace)
    if kind:
        query = query.where(KubeObject.kind == kind)
    if states:
        query = query.where(KubeObject.state.in_(states))
    if search:
        query = query.where(contains(KubeObject.words, search))
    return query


def within(namespaces: Collection[str] | None) -> ColumnElement[bool]:
    """Return the condition that an entry is in one of some namespaces; None: anything goes."""
    return true() if namespaces is None else KubeObject.namespace.in_(sorted(namespaces))


async def unwell(tx: Transaction, cluster_id: str, visible: ColumnElement[bool], most: int) -> Sequence[KubeObject]:
    """Return the gravest entries, the longest unwell first."""
    query = (
        select(KubeObject)
        .where(KubeObject.cluster_id == cluster_id, KubeObject.rank > 0, visible)
        .order_by(KubeObject.rank.desc(), KubeObject.moment, KubeObject.key)
        .limit(most)
    )
    return (await tx.scalars(query)).all()


async def counts(
    tx: Transaction, cluster_id: str, visible: ColumnElement[bool]
) -> Sequence[tuple[str, str, str, bool, int]]:
    """Return how many entries there are by section, kind, state, and whether they are unwell."""
    unwell = (KubeObject.rank > 0).label("unwell")
    columns = (KubeObject.section, KubeObject.kind, KubeObject.state, unwell)
    # Events have as many kinds and states as there are reasons: they are counted as one.
    query = (
        select(*columns, func.count())
        .where(KubeObject.cluster_id == cluster_id, KubeObject.section != "events", visible)
        .group_by(*columns)
    )
    events = select(func.count()).where(KubeObject.cluster_id == cluster_id, KubeObject.section == "events", visible)
    found = [(row[0], row[1], row[2], bool(row[3]), row[4]) for row in await tx.execute(query)]
    return [*found, ("events", "", "", False, await tx.scalar(events) or 0)]


async def data_of(tx: Transaction, cluster_id: str, section: str, visible: ColumnElement[bool]) -> Sequence[Any]:
    """Return what was told of every entry of a section."""
    query = select(KubeObject.data).where(KubeObject.cluster_id == cluster_id, KubeObject.section == section, visible)
    return (await tx.scalars(query)).all()


def anywhere(org_id: str, text: str, where: ColumnElement[bool]) -> Select[KubeObject, str]:
    """Return the query of what is called like a text on any cluster of an organisation, with the cluster's name."""
    return (
        select(KubeObject, Cluster.name)
        .join(Cluster, Cluster.id == KubeObject.cluster_id)
        .where(Cluster.org_id == org_id, KubeObject.section.in_(SEARCHED), where, contains(KubeObject.name, text))
        .order_by(KubeObject.rank.desc(), KubeObject.name, KubeObject.key)
    )


async def names_of(tx: Transaction, cluster_id: str, section: str, visible: ColumnElement[bool]) -> Sequence[str]:
    """Return the names of every entry of a section, in order."""
    query = select(KubeObject.name).where(KubeObject.cluster_id == cluster_id, KubeObject.section == section, visible)
    return (await tx.scalars(query.order_by(KubeObject.name))).all()

"""Every query of the history of usage. No rules here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, false, func, insert, or_, select

from towline.control.clusters.models import Cluster
from towline.control.db import Transaction, execute_many, table_of, upsert
from towline.control.usage.models import UsageBlock, UsageState
from towline.control.usage.packing import Block
from towline.wire.kube_usage import MOST_SERIES

KINDS = tuple(MOST_SERIES)
Row = tuple[int, bytes]
"""When a block begins, and its data."""


# -- writing -----------------------------------------------------------------------------------


async def known_clusters(tx: Transaction, cluster_ids: Collection[str]) -> set[str]:
    """Return those that still exist."""
    return set((await tx.scalars(select(Cluster.id).where(Cluster.id.in_(cluster_ids)))).all())


async def write_state(tx: Transaction, row: Mapping[str, Any]) -> None:
    await upsert(tx, UsageState, [row], key=("cluster_id",))


async def write(
    tx: Transaction, cluster_id: str, step: int, begins: int, blocks: Mapping[str, Iterable[Block]]
) -> None:
    """Write the blocks of one moment by kind; what another process wrote of the same moment goes."""
    here = delete(UsageBlock).where(*_between(cluster_id, step, begins, begins + 1))
    await tx.execute(here.execution_options(synchronize_session=False))
    rows = [
        {
            "cluster_id": cluster_id, "kind": kind, "step": step, "begins": begins, "part": part, "first": one.first,
            "last": one.last, "series": one.series, "data": one.data,
        }
        for kind, found in blocks.items()
        for part, one in enumerate(found)
    ]  # fmt: skip
    await execute_many(tx, insert(table_of(UsageBlock)), rows)


async def moments(tx: Transaction, cluster_id: str, step: int, begin: int, end: int) -> set[int]:
    """Return when blocks of a cluster begin, from `begin` until before `end`."""
    query = select(UsageBlock.begins).distinct().where(*_between(cluster_id, step, begin, end))
    return set((await tx.scalars(query)).all())


async def data(tx: Transaction, cluster_id: str, step: int, begin: int, end: int) -> Sequence[tuple[str, bytes]]:
    """Return kind and data of every block between two moments."""
    query = select(UsageBlock.kind, UsageBlock.data).where(*_between(cluster_id, step, begin, end))
    return [(row[0], row[1]) for row in await tx.execute(query)]


async def cluster_with_older(tx: Transaction, step: int, begins: int) -> str | None:
    """Return some cluster that has blocks from before a moment."""
    query = select(UsageBlock.cluster_id).where(UsageBlock.step == step, UsageBlock.begins < begins)
    return await tx.scalar(query.order_by(UsageBlock.begins).limit(1))


async def forget(tx: Transaction, cluster_id: str, step: int, begins: int) -> int:
    """Remove a cluster's blocks from before a moment. Returns: how many."""
    gone = delete(UsageBlock).where(*_between(cluster_id, step, 0, begins)).returning(UsageBlock.part)
    return len((await tx.execute(gone.execution_options(synchronize_session=False))).all())


def _between(cluster_id: str, step: int, begin: int, end: int) -> tuple[ColumnElement[bool], ...]:
    return (
        UsageBlock.cluster_id == cluster_id,
        UsageBlock.kind.in_(KINDS),  # all there are, so that the primary key is of use
        UsageBlock.step == step,
        UsageBlock.begins >= begin,
        UsageBlock.begins < end,
    )


# -- reading -----------------------------------------------------------------------------------


async def state(tx: Transaction, cluster_id: str) -> UsageState | None:
    return await tx.get(UsageState, cluster_id)


def named(name: bytes) -> ColumnElement[bool]:
    """Return the condition that a block may hold a name."""
    return and_(UsageBlock.first <= name, UsageBlock.last >= name)


def within(namespaces: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that a block may hold pods of some namespaces."""
    if not namespaces:
        return false()
    ranges = ((f"{one}/".encode(), f"{one}0".encode()) for one in sorted(namespaces))  # 0 comes right after /
    return or_(*(and_(UsageBlock.first < end, UsageBlock.last >= begin) for begin, end in ranges))


async def count(
    tx: Transaction, cluster_id: str, kind: str, step: int, begin: int, end: int, *where: ColumnElement[bool]
) -> int:
    """Return how many blocks there are to read."""
    chosen = (*_between(cluster_id, step, begin, end), UsageBlock.kind == kind, *where)
    return await tx.scalar(select(func.count()).select_from(UsageBlock).where(*chosen)) or 0


async def read(
    tx: Transaction, cluster_id: str, kind: str, step: int, begin: int, end: int, *where: ColumnElement[bool]
) -> list[Row]:
    """Return blocks of one kind between two moments, in order."""
    chosen = (*_between(cluster_id, step, begin, end), UsageBlock.kind == kind, *where)
    query = select(UsageBlock.begins, UsageBlock.data).where(*chosen).order_by(UsageBlock.begins, UsageBlock.part)
    return [(row[0], row[1]) for row in await tx.execute(query)]

"""Queries of recordings and of clusters' policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.clusters.service import carrier
from towline.control.db import Transaction, now
from towline.control.listing import contains
from towline.control.recordings.models import Recording, RecordingPolicy


def visible(access: Access) -> ColumnElement[bool]:
    """Return the condition for what somebody may play: their own sessions, and those of places that they answer for.

    A limited token is not its user: what was shown elsewhere, under other rights, is none of its own.
    """
    others = access.scope(Permission.RECORDING_READ).clause(
        cluster_id=Recording.cluster_id,
        matches_selector=carrier(Recording.cluster_id),
        project=Recording.project,
        namespace=Recording.namespace,
    )
    own = and_(Recording.user_id == access.actor.user_id, Recording.user_id != "")
    if access.rights.limit is not None:
        own = and_(own, Recording.token_id == access.actor.token_id, Recording.token_id != "")
    return and_(Recording.org_id == access.org_id, or_(own, others))


def matching(access: Access, *, search: str = "", **equal: str) -> Select[Any]:
    """Return the query of a list. Args: equal: columns and what they must hold, empty ones left out."""
    query = select(Recording).where(visible(access))
    for name, value in equal.items():
        if value:
            query = query.where(getattr(Recording, name) == value)
    if search:
        columns = (
            Recording.user_name, Recording.cluster_name, Recording.target, Recording.command, Recording.namespace,
        )  # fmt: skip
        query = query.where(or_(*(contains(column, search) for column in columns)))
    return query


async def find(tx: Transaction, access: Access, recording_id: str) -> Recording | None:
    query = select(Recording).where(visible(access), Recording.id == recording_id)
    found: Recording | None = (await tx.scalars(query)).one_or_none()
    return found


async def rules_of(tx: Transaction, cluster_id: str) -> dict[str, Any]:
    """Return what a cluster does differently."""
    row = await tx.get(RecordingPolicy, cluster_id)
    return dict(row.rules) if row is not None else {}


async def set_rules(tx: Transaction, org_id: str, cluster_id: str, rules: dict[str, Any]) -> None:
    row = await tx.get(RecordingPolicy, cluster_id)
    if row is None:
        tx.add(RecordingPolicy(cluster_id=cluster_id, org_id=org_id, rules=rules))
    else:
        row.rules = rules
    await tx.flush()


async def unfinished(tx: Transaction) -> Sequence[Recording]:
    return (await tx.scalars(select(Recording).where(Recording.state == "running"))).all()


async def expired(tx: Transaction, most: int) -> Sequence[Recording]:
    query = select(Recording).where(Recording.expires_at < now(), Recording.state != "running")
    return (await tx.scalars(query.order_by(Recording.expires_at).limit(most))).all()


async def known(tx: Transaction, ids: Sequence[str]) -> set[str]:
    return set((await tx.scalars(select(Recording.id).where(Recording.id.in_(ids)))).all())

"""Queries of channels and of the messages that wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import aliased

from towline.control.alerts.models import AlertChannel, AlertMessage
from towline.control.db import Transaction, now

WAITING, SENT, DROPPED = "waiting", "sent", "dropped"


async def channels(tx: Transaction, org_id: str) -> Sequence[AlertChannel]:
    query = select(AlertChannel).where(AlertChannel.org_id == org_id).order_by(AlertChannel.name)
    return (await tx.scalars(query)).all()


async def channel(tx: Transaction, org_id: str, name_or_id: str) -> AlertChannel | None:
    named = or_(AlertChannel.name == name_or_id, AlertChannel.id == name_or_id)
    return (await tx.scalars(select(AlertChannel).where(AlertChannel.org_id == org_id, named))).first()


async def waiting_counts(tx: Transaction, org_id: str) -> dict[str, int]:
    """Return how many messages wait for each channel."""
    query = (
        select(AlertMessage.channel_id, func.count())
        .where(AlertMessage.org_id == org_id, AlertMessage.state == WAITING)
        .group_by(AlertMessage.channel_id)
    )
    return {row[0]: row[1] for row in await tx.execute(query)}


async def forget_waiting(tx: Transaction, channel_id: str) -> None:
    """Drop what waits for a channel that is removed."""
    gone = and_(AlertMessage.channel_id == channel_id, AlertMessage.state == WAITING)
    await tx.execute(delete(AlertMessage).where(gone).execution_options(synchronize_session=False))


def _oldest() -> ColumnElement[bool]:
    """Return the condition that nothing older waits for the channel: an end never comes before its beginning."""
    older = aliased(AlertMessage)
    here = and_(older.channel_id == AlertMessage.channel_id, older.state == WAITING, older.id < AlertMessage.id)
    return ~select(older.id).where(here).exists()


def _ready() -> ColumnElement[bool]:
    return and_(AlertMessage.state == WAITING, AlertChannel.enabled, _oldest())


async def claim(tx: Transaction, *, owner: str, lease: float, most: int) -> Sequence[tuple[AlertMessage, AlertChannel]]:
    """Take messages that are due, of each channel the oldest."""
    query = (
        select(AlertMessage, AlertChannel)
        .join(AlertChannel, AlertChannel.id == AlertMessage.channel_id)
        .where(_ready(), AlertMessage.next_at <= now())
        .order_by(AlertMessage.next_at, AlertMessage.id)
        .limit(most)
        .with_for_update(of=AlertMessage, skip_locked=True)
    )
    found = [(row[0], row[1]) for row in await tx.execute(query)]
    ids = [message.id for message, _ in found]
    taken = update(AlertMessage).where(AlertMessage.id.in_(ids)).values(owner=owner, next_at=now(lease))
    await tx.execute(taken.execution_options(synchronize_session=False))
    return found


async def write(tx: Transaction, message_id: str, owner: str, values: Mapping[str, Any]) -> bool:
    """Write as the one who took a message; False: somebody else has it."""
    mine = and_(AlertMessage.id == message_id, AlertMessage.owner == owner, AlertMessage.state == WAITING)
    statement = update(AlertMessage).where(mine).values(owner="", **values).returning(AlertMessage.id)
    return (await tx.execute(statement.execution_options(synchronize_session=False))).first() is not None


async def set_channel(tx: Transaction, channel_id: str, values: Mapping[str, Any]) -> None:
    statement = update(AlertChannel).where(AlertChannel.id == channel_id).values(**values)
    await tx.execute(statement.execution_options(synchronize_session=False))


async def next_moment(tx: Transaction) -> float | None:
    """Return the seconds until the next message is due; None when none waits."""
    soonest = (
        select(func.min(AlertMessage.next_at))
        .join(AlertChannel, AlertChannel.id == AlertMessage.channel_id)
        .where(_ready())
    )
    moment = await tx.scalar(soonest)
    return (moment - await tx.now()).total_seconds() if moment is not None else None


async def waiting(tx: Transaction) -> int:
    query = select(func.count()).select_from(AlertMessage).where(AlertMessage.state == WAITING)
    return await tx.scalar(query) or 0

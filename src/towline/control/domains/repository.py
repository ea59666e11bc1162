"""Every query on domains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from towline.control.db import Transaction
from towline.control.domains.models import Domain
from towline.control.ids import is_id

VERIFIED = "verified"
PENDING = "pending"
LAPSED = "lapsed"


async def find(tx: Transaction, org_id: str, name_or_id: str) -> Domain | None:
    column = Domain.id if is_id(name_or_id, "dom") else Domain.name
    return (await tx.scalars(select(Domain).where(Domain.org_id == org_id, column == name_or_id))).first()


def matching(org_id: str, search: str = "") -> Select[Any]:
    """Return the query of an organisation's domains, without order."""
    query = select(Domain).where(Domain.org_id == org_id)
    return query.where(Domain.name.icontains(search, autoescape=True)) if search else query


async def count(tx: Transaction, org_id: str) -> int:
    return await tx.scalar(select(func.count()).select_from(Domain).where(Domain.org_id == org_id)) or 0


async def verified_elsewhere(tx: Transaction, org_id: str, name: str) -> bool:
    """Tell whether another organisation has proved the same name."""
    query = select(Domain.id).where(Domain.name == name, Domain.org_id != org_id, Domain.state == VERIFIED)
    return (await tx.execute(query.limit(1))).first() is not None


async def lapsed_elsewhere(tx: Transaction, org_id: str, name: str) -> Sequence[Domain]:
    """Return the same name as other organisations have it who cannot prove it any more."""
    query = select(Domain).where(Domain.name == name, Domain.org_id != org_id, Domain.state == LAPSED)
    return (await tx.scalars(query)).all()


async def due(tx: Transaction, looked_before: datetime, limit: int) -> Sequence[Domain]:
    """Return verified domains that were not looked at for long, those of the longest time first."""
    looked_at = func.coalesce(Domain.checked_at, Domain.created_at)
    query = select(Domain).where(Domain.state == VERIFIED, looked_at < looked_before)
    return (await tx.scalars(query.order_by(looked_at, Domain.id).limit(limit))).all()


async def verified_by_org(tx: Transaction, org_ids: Collection[str], state: str = VERIFIED) -> dict[str, set[str]]:
    """Return the verified names of organisations, or those in another state."""
    found: dict[str, set[str]] = {org_id: set() for org_id in org_ids}
    query = select(Domain.org_id, Domain.name).where(Domain.org_id.in_(org_ids), Domain.state == state)
    for org_id, name in await tx.execute(query):
        found[org_id].add(name)
    return found


async def all_verified(tx: Transaction) -> Sequence[str]:
    """Return every name of the installation that is, or was, verified: its routes answer."""
    query = select(Domain.name).where(Domain.state.in_((VERIFIED, LAPSED)))
    return (await tx.scalars(query.distinct())).all()

"""Every query on registries. Each names the organisation."""

from collections.abc import Sequence

from sqlalchemy import func, select

from towline.control.db import Transaction
from towline.control.registries.models import Registry


async def all_of(tx: Transaction, org_id: str, search: str = "") -> Sequence[Registry]:
    """Return the registries of an organisation by name; with `search` those whose name or host holds it."""
    query = select(Registry).where(Registry.org_id == org_id).order_by(Registry.name)
    if search:
        query = query.where(
            Registry.name.contains(search, autoescape=True) | Registry.host.contains(search, autoescape=True)
        )
    return (await tx.scalars(query)).all()


async def count(tx: Transaction, org_id: str) -> int:
    return await tx.scalar(select(func.count()).select_from(Registry).where(Registry.org_id == org_id)) or 0


async def find(tx: Transaction, org_id: str, name: str) -> Registry | None:
    """Find one by name or id."""
    query = select(Registry).where(Registry.org_id == org_id, (Registry.name == name) | (Registry.id == name))
    return (await tx.scalars(query)).first()


async def named(tx: Transaction, org_id: str, names: Sequence[str]) -> dict[str, Registry]:
    """Return those of the named ones that exist, by name."""
    query = select(Registry).where(Registry.org_id == org_id, Registry.name.in_(names))
    return {registry.name: registry for registry in (await tx.scalars(query)).all()}

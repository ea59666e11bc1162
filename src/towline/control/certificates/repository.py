"""Every query of certificates. What somebody writes who works on one names owner and epoch: see `hold` and `write`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.orm import defer

from towline.control.certificates import budget
from towline.control.certificates.models import AcmeAccount, AcmeChallenge, AcmeOrder, Certificate
from towline.control.certificates.states import Source, State
from towline.control.db import Transaction, UtcDateTime, now, upsert

FRESH = {"populate_existing": True}
EMPTY: Mapping[str, Any] = {
    "reason": "", "wanted": True, "serial": 0, "names": [], "chain": "", "sealed_key": b"", "issuer": "",
    "fingerprint": "", "order_url": "", "order_serial": 0, "sealed_order_key": b"", "challenge": "", "directory": "",
    "attempts": 0, "owner": "", "epoch": 0, "force": False,
}  # fmt: skip
"""Columns of a name that has nothing yet."""
ENDS_SOON = 200 * 86400.0
"""Seconds; of what ends later nobody is warned: the longest certificates live 398 days."""
BITE = 500
"""Values of one question by id or name: fewer than every database takes as parameters."""


async def by_name(tx: Transaction, name: str) -> Certificate | None:
    query = select(Certificate).where(or_(Certificate.name == name, Certificate.id == name))
    return (await tx.scalars(query.execution_options(**FRESH))).first()


_LIGHT = (defer(Certificate.chain), defer(Certificate.sealed_key), defer(Certificate.sealed_order_key))
"""What lists go without: kilobytes of each row. `names` says whether there is a certificate."""


async def everything(tx: Transaction) -> Sequence[Certificate]:
    """Return every row of the installation, without what is heavy."""
    return (await tx.scalars(select(Certificate).options(*_LIGHT).order_by(Certificate.name))).all()


async def of_org(tx: Transaction, org_id: str, search: str = "") -> Sequence[Certificate]:
    """Return an organisation's rows by name, without what is heavy."""
    query = select(Certificate).options(*_LIGHT).where(Certificate.org_id == org_id).order_by(Certificate.name)
    return (await tx.scalars(query.where(Certificate.name.contains(search.lower(), autoescape=True)))).all()


async def may_serve(tx: Transaction, host: str) -> Sequence[Certificate]:
    """Return rows that may be for a host: its own, its wildcard's, and all uploads."""
    own = [host, f"*.{host.partition('.')[2]}"]
    query = select(Certificate).options(*_LIGHT)
    return (await tx.scalars(query.where(or_(Certificate.name.in_(own), Certificate.source == Source.UPLOAD)))).all()


async def served(tx: Transaction) -> list[tuple[str, int]]:
    """Return id and serial of what can be served: uploads that hold come last, so that they win."""
    query = select(Certificate.id, Certificate.serial).where(Certificate.chain != "")
    first = and_(Certificate.source == Source.UPLOAD, Certificate.ends_at > now())
    rows = await tx.execute(query.order_by(first, Certificate.id))
    return [(row.id, row.serial) for row in rows]


async def by_ids(tx: Transaction, ids: Sequence[str]) -> list[Certificate]:
    """Return rows by id, in bites that every database takes as parameters."""
    found: list[Certificate] = []
    for some in _bites(ids):
        found += (await tx.scalars(select(Certificate).where(Certificate.id.in_(some)))).all()
    return found


def _bites(values: Collection[str]) -> Iterator[list[str]]:
    listed = list(values)
    return (listed[start : start + BITE] for start in range(0, len(listed), BITE))


async def count(tx: Transaction) -> int:
    return await tx.scalar(select(func.count()).select_from(Certificate)) or 0


async def insert_missing(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows; a name that another replica added meanwhile is left alone."""
    for row in rows:
        await upsert(tx, Certificate, [{"name": row["name"]}], key=["name"], defaults=row)


async def set_wanted(tx: Transaction, names: Collection[str], *, wanted: bool) -> None:
    """Mark names as wanted, which makes those that were not due, or as unwanted."""
    values: dict[str, Any] = {"wanted": wanted, "updated_at": now()}
    if wanted:
        values["next_at"] = now()
    for some in _bites(names):
        await tx.execute(update(Certificate).where(Certificate.name.in_(some)).values(**values))


async def take_over(tx: Transaction, names: Collection[str]) -> None:
    """Ask an authority for what was uploaded and has ended; it is shown until the new one has come."""
    values = {"source": Source.ACME, "state": State.WAITING, "next_at": now(), "attempts": 0, "updated_at": now()}
    for some in _bites(names):
        await tx.execute(update(Certificate).where(Certificate.name.in_(some)).values(**values))


def _free() -> ColumnElement[bool]:
    return or_(Certificate.owner == "", Certificate.lease_until.is_(None), Certificate.lease_until < now())


async def claim(tx: Transaction, *, owner: str, lease: float) -> Certificate | None:
    """Take the next name that is due and that nobody works on; None when there is none."""
    due = and_(Certificate.wanted, Certificate.source != Source.UPLOAD, Certificate.next_at <= now())
    candidate = select(Certificate.id).where(due, _free()).order_by(Certificate.next_at, Certificate.id).limit(1)
    return await _take(tx, candidate, owner, lease)


async def claim_named(tx: Transaction, name: str, *, owner: str, lease: float) -> Certificate | None:
    """Take one name, due or not; None while somebody works on it."""
    candidate = select(Certificate.id).where(Certificate.name == name, _free()).limit(1)
    return await _take(tx, candidate, owner, lease)


async def _take(tx: Transaction, candidate: Any, owner: str, lease: float) -> Certificate | None:
    if tx.get_bind().dialect.name == "postgresql":
        candidate = candidate.with_for_update(skip_locked=True)
    statement = (
        update(Certificate)
        .where(Certificate.id == candidate.scalar_subquery())
        .values(owner=owner, epoch=Certificate.epoch + 1, lease_until=now(lease))
        .returning(Certificate)
        .execution_options(synchronize_session=False, **FRESH)
    )
    return (await tx.execute(statement)).scalar_one_or_none()


async def write(tx: Transaction, row: Certificate, values: Mapping[str, Any]) -> bool:
    """Write as the one who holds the lease. False: fenced; somebody else has it, stop at once."""
    statement = (
        update(Certificate)
        .where(Certificate.id == row.id, Certificate.owner == row.owner, Certificate.epoch == row.epoch)
        .values(updated_at=now(), **values)
        .returning(Certificate.id)
        .execution_options(synchronize_session=False)
    )
    return (await tx.execute(statement)).first() is not None


async def release_all(tx: Transaction, owner: str) -> None:
    """Give back every lease of a replica that stops."""
    await tx.execute(update(Certificate).where(Certificate.owner == owner).values(owner="", lease_until=None))


async def with_end(tx: Transaction) -> Sequence[Certificate]:
    """Return those in use that end some time, the first to end first."""
    query = select(Certificate).where(Certificate.wanted, Certificate.chain != "", Certificate.ends_at < now(ENDS_SOON))
    return (await tx.scalars(query.options(defer(Certificate.chain)).order_by(Certificate.ends_at))).all()


async def mark_warned(tx: Transaction, row: Certificate) -> bool:
    """Note that people were warned. False: somebody else did so meanwhile."""
    same = Certificate.warned_at.is_(None) if row.warned_at is None else Certificate.warned_at == row.warned_at
    statement = update(Certificate).where(Certificate.id == row.id, same).values(warned_at=now())
    return (await tx.execute(statement.returning(Certificate.id))).first() is not None


async def next_moment(tx: Transaction) -> float | None:
    """Return the seconds until something is due, or a lease ends; None when nothing ever is due."""
    due = and_(Certificate.wanted, Certificate.source != Source.UPLOAD)
    moment = case((_free(), Certificate.next_at), else_=Certificate.lease_until)
    found: datetime | None = await tx.scalar(select(func.min(moment, type_=UtcDateTime())).where(due))
    return None if found is None else (found - await tx.now()).total_seconds()


# -- accounts


async def account(tx: Transaction, directory: str) -> AcmeAccount | None:
    return await tx.get(AcmeAccount, directory, populate_existing=True)


async def add_account(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Keep a new key; the one that another replica kept meanwhile stays."""
    key = {"directory": row["directory"]}
    await upsert(tx, AcmeAccount, [key], key=["directory"], defaults=row)


# -- challenges


async def add_challenge(tx: Transaction, row: Mapping[str, Any]) -> None:
    await upsert(tx, AcmeChallenge, [row], key=["token"])


async def challenges(tx: Transaction) -> Sequence[AcmeChallenge]:
    return (await tx.scalars(select(AcmeChallenge).where(AcmeChallenge.expires_at > now()))).all()


async def challenge(tx: Transaction, token: str) -> AcmeChallenge | None:
    query = select(AcmeChallenge).where(AcmeChallenge.token == token, AcmeChallenge.expires_at > now())
    return (await tx.scalars(query)).first()


async def end_challenges(tx: Transaction, certificate_id: str) -> None:
    await tx.execute(delete(AcmeChallenge).where(AcmeChallenge.certificate_id == certificate_id))


# -- orders, for budgets


async def orders_since(
    tx: Transaction,
    directory: str,
    seconds: float,
    *,
    name: str = "",
    domain: str = "",
    failed: bool = False,
    renewals: bool = False,
) -> int:
    """Count the times that an authority was asked within some seconds; renewals by `replaces` only when asked for.

    Args: failed: count what it refused, renewals too.
    """
    query = select(func.count()).select_from(AcmeOrder)
    query = query.where(AcmeOrder.directory == directory, AcmeOrder.created_at > now(-seconds))
    if failed:
        query = query.where(AcmeOrder.state == "failed")
    elif not renewals:
        query = query.where(~AcmeOrder.renewal)
    if name:
        query = query.where(AcmeOrder.name == name)
    if domain:
        query = query.where(AcmeOrder.domain == domain)
    return await tx.scalar(query) or 0


async def spent(tx: Transaction, directory: str, name: str, domain: str) -> budget.Spent:
    """Return what was asked of an authority, as budgets count it."""
    return budget.Spent(
        account=await orders_since(tx, directory, budget.PER_ACCOUNT_SPAN),
        domain=await orders_since(tx, directory, budget.PER_DOMAIN_SPAN, domain=domain),
        name=await orders_since(tx, directory, budget.PER_NAME.seconds, name=name),
        failures=await orders_since(tx, directory, budget.FAILURES.seconds, name=name, failed=True),
        renewals=await orders_since(tx, directory, budget.RENEWALS.seconds, name=name, renewals=True),
    )


async def end_order(tx: Transaction, order_id: str, state: str, reason: str = "") -> None:
    values = {"state": state, "reason": reason, "ended_at": now()}
    await tx.execute(update(AcmeOrder).where(AcmeOrder.id == order_id).values(**values))


async def open_order(tx: Transaction, directory: str, name: str) -> AcmeOrder | None:
    """Return the order of a name that has not ended, the newest."""
    query = select(AcmeOrder).where(AcmeOrder.directory == directory, AcmeOrder.name == name, AcmeOrder.state == "open")
    return (await tx.scalars(query.order_by(AcmeOrder.created_at.desc()).limit(1))).first()


# -- counting


async def states(tx: Transaction) -> dict[tuple[str, str], int]:
    """Return how many wanted names are in each state, by source."""
    query = select(Certificate.source, Certificate.state, func.count()).where(Certificate.wanted)
    rows = await tx.execute(query.group_by(Certificate.source, Certificate.state))
    return {(source, state): count for source, state, count in rows}


async def soonest_end(tx: Transaction) -> datetime | None:
    """Return when the first of the certificates that are needed ends."""
    query = select(func.min(Certificate.ends_at)).where(Certificate.wanted, Certificate.chain != "")
    found: datetime | None = await tx.scalar(query)
    return found

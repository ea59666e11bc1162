"""The numbers and UUIDs that InstaDeploy's API shows, for our ids: given once, kept for ever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select

from towline.control.db import Transaction
from towline.control.ids import ALPHABET, ULID_CHARACTERS, encode
from towline.control.protocols.models import CompatNumber

Kind = Literal["agent", "deployment"]

LARGEST_NUMBER = 2**31 - 1
"""What the column holds."""
_UUID_BITS = 128


async def given(tx: Transaction, org_id: str, kind: Kind, refs: Iterable[str]) -> dict[str, int]:
    """Return the number of each id; those that have none get the next ones. Needs a writing transaction for that."""
    wanted = list(dict.fromkeys(refs))
    rows = await tx.execute(
        select(CompatNumber.ref, CompatNumber.number).where(CompatNumber.kind == kind, CompatNumber.ref.in_(wanted))
    )
    found: dict[str, int] = {row.ref: row.number for row in rows}
    for ref in wanted:
        if ref not in found:
            found[ref] = await _next(tx, org_id, kind)
            tx.add(CompatNumber(kind=kind, ref=ref, org_id=org_id, number=found[ref]))
            await tx.flush()
    return found


async def known(tx: Transaction, org_id: str, kind: Kind) -> dict[str, int]:
    """Return every number of a kind, by id."""
    query = select(CompatNumber.ref, CompatNumber.number).where(
        CompatNumber.org_id == org_id, CompatNumber.kind == kind
    )
    return {row.ref: row.number for row in await tx.execute(query)}


async def claim(tx: Transaction, org_id: str, kind: Kind, ref: str, number: int) -> None:
    """Give an id the number that it had in the older system, when both are free."""
    taken = select(CompatNumber).where(
        CompatNumber.kind == kind,
        (CompatNumber.ref == ref) | ((CompatNumber.org_id == org_id) & (CompatNumber.number == number)),
    )
    if 0 < number <= LARGEST_NUMBER and (await tx.execute(taken)).first() is None:
        tx.add(CompatNumber(kind=kind, ref=ref, org_id=org_id, number=number))
        await tx.flush()


async def _next(tx: Transaction, org_id: str, kind: Kind) -> int:
    query = select(func.max(CompatNumber.number)).where(CompatNumber.org_id == org_id, CompatNumber.kind == kind)
    return (await tx.scalar(query) or 0) + 1


def job_uuid(job_id: str) -> str:
    """Return a job's id as the UUID that it is: 128 bits, written in base 32 by us."""
    value = 0
    for letter in job_id.rpartition("_")[2]:
        value = value * 32 + ALPHABET.index(letter)
    return str(UUID(int=value % (1 << _UUID_BITS)))


def job_id(uuid: UUID) -> str:
    """Return our id for a job of the older system."""
    return f"job_{encode(uuid.int, ULID_CHARACTERS)}"

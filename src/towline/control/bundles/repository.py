"""Every query on bundles. Each that a request leads to names the organisation."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, func, insert, select

from towline.control.bundles.models import Bundle, BundleChunk
from towline.control.db import Transaction

CHUNK_BYTES = 1024 * 1024
"""Bytes of a bundle in one row: what is held in memory while one is passed on."""


async def find(tx: Transaction, org_id: str, digest: str) -> Bundle | None:
    query = select(Bundle).where(Bundle.org_id == org_id, Bundle.digest == digest)
    return (await tx.scalars(query)).first()


async def add(tx: Transaction, bundle: Bundle, content: bytes) -> None:
    """Store a bundle with its bytes. Raises: IntegrityError: it is there already."""
    tx.add(bundle)
    await tx.flush()
    for number, at in enumerate(range(0, len(content), CHUNK_BYTES)):
        piece = content[at : at + CHUNK_BYTES]
        await tx.execute(insert(BundleChunk).values(bundle_id=bundle.id, number=number, data=piece))


async def chunk(tx: Transaction, bundle_id: str, number: int) -> bytes | None:
    """Return the bytes of one chunk; None behind the last one."""
    query = select(BundleChunk.data).where(BundleChunk.bundle_id == bundle_id, BundleChunk.number == number)
    return await tx.scalar(query)


async def total_bytes(tx: Transaction, org_id: str) -> int:
    """Return what the bundles of an organisation take."""
    return await tx.scalar(select(func.coalesce(func.sum(Bundle.size), 0)).where(Bundle.org_id == org_id)) or 0


async def organisations(tx: Transaction) -> list[str]:
    """Return the organisations that have bundles."""
    return list((await tx.scalars(select(Bundle.org_id).distinct())).all())


async def drop_unused(tx: Transaction, org_id: str, in_use: Collection[str], before: datetime) -> int:
    """Delete the bundles of an organisation that nobody names and nobody touched since. Returns: how many."""
    query = select(Bundle.id, Bundle.digest).where(Bundle.org_id == org_id, Bundle.used_at < before)
    ids = [row.id for row in (await tx.execute(query)).all() if row.digest not in in_use]
    if ids:
        await tx.execute(delete(BundleChunk).where(BundleChunk.bundle_id.in_(ids)))
        await tx.execute(delete(Bundle).where(Bundle.id.in_(ids)))
    return len(ids)

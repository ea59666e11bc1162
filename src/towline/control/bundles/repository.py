"""Every query on bundles. Each that a request leads to names the organisation."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime

from sqlalchemy import delete, select, update

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
        tx.add(BundleChunk(bundle_id=bundle.id, number=number, data=content[at : at + CHUNK_BYTES]))
        await tx.flush()
        tx.expire_all()


async def touch(tx: Transaction, bundle_id: str, now: datetime) -> None:
    """Note that a bundle is still wanted."""
    await tx.execute(update(Bundle).where(Bundle.id == bundle_id).values(used_at=now))


async def chunks(tx: Transaction, bundle_id: str) -> AsyncIterator[bytes]:
    """Yield the bytes of a bundle, one chunk in memory at a time."""
    number = 0
    while True:
        data = await tx.scalar(
            select(BundleChunk.data).where(BundleChunk.bundle_id == bundle_id, BundleChunk.number == number)
        )
        if data is None:
            return
        yield data
        number += 1


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

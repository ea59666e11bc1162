"""Proof at start that the sealing keys are the ones that the secrets in the database were sealed with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from towline.control.db import Database
from towline.control.errors import StartupError
from towline.control.sealing import ring as rings
from towline.control.sealing.models import SealingCanary
from towline.control.sealing.ring import KeyRing
from towline.control.sealing.service import CannotOpen, Sealer

TEXT = b"towline canary"
_PLACE = ("system", "canary", 1, "canary")


async def open_ring(db: Database, folder: Path, files: Sequence[str]) -> KeyRing:
    """Load the ring, or make it on a new installation, and prove it against the database.

    Raises: StartupError: a key that the database needs is missing or another one. It is never made anew.
    """
    ring = rings.load(folder, files)
    async with db.begin() as tx:
        known = {row.key_id: row.sealed for row in (await tx.scalars(select(SealingCanary))).all()}
        if ring is None and known:
            raise StartupError(
                f"the sealing key is missing: the database needs {', '.join(sorted(known))}, and {folder} holds none. "
                "Put the key back from a backup; a new one could not open the secrets"
            )
        if ring is None:
            ring = rings.create(folder)
        _prove(ring, known)
        for name in ring.names:
            if name not in known:
                only = Sealer(KeyRing({name: ring.key(name)}))
                tx.add(SealingCanary(key_id=name, sealed=only.seal(*_PLACE, TEXT), created_at=await tx.now()))
    return ring


def _prove(ring: KeyRing, known: dict[str, bytes]) -> None:
    missing = sorted(set(known) - set(ring.names))
    if missing:
        raise StartupError(
            f"the sealing keys are not those of this database: {', '.join(missing)} is missing, "
            f"{', '.join(ring.names)} was found. Put the right key back from a backup"
        )
    for name, sealed in known.items():
        try:
            Sealer(ring).open(*_PLACE, sealed)
        except CannotOpen as error:
            raise StartupError(f"the sealing key {name} does not open this database's secrets") from error

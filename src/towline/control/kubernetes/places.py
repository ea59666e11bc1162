"""Clusters as requests name them, kept for a moment so that a request costs no query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from towline.aio.clock import Clock
from towline.control.clusters import repository
from towline.control.clusters.models import Cluster
from towline.control.db import Database, Transaction

KEPT_SECONDS = 2.0
"""The longest that another process's renaming or removal goes unseen; a hint of it comes sooner."""
KEPT_ENTRIES = 5000


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster: what rights are held against."""

    id: str
    org_id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


class Places:
    """Finds clusters by name."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Place | None]] = {}

    def __repr__(self) -> str:
        return f"<Places {len(self._known)} known>"

    def known(self, org_id: str, name: str) -> tuple[bool, Place | None]:
        """Return whether a name was looked up just now, and what was found."""
        entry = self._known.get((org_id, name))
        if entry is None or entry[0] <= self._clock.monotonic():
            return False, None
        return True, entry[1]

    async def find(self, org_id: str, name: str) -> Place | None:
        """Return a cluster of an organisation. Raises: ApiError: unavailable."""
        async with self._db.read() as tx:
            row = await repository.find(tx, org_id, name)
            place = None if row is None else await _place(tx, row)
        if len(self._known) >= KEPT_ENTRIES:
            self._known.clear()
        self._known[org_id, name] = (self._clock.monotonic() + KEPT_SECONDS, place)
        return place

    async def by_id(self, tx: Transaction, cluster_ids: list[str]) -> dict[str, Place]:
        """Return clusters as they are now; those that were removed are missing."""
        rows = await repository.by_id(tx, cluster_ids)
        labels = await repository.labels_of(tx, list(rows))
        return {row.id: Place(row.id, row.org_id, row.name, labels[row.id]) for row in rows.values()}

    def forget(self) -> None:
        """Forget every look-up: something about clusters changed."""
        self._known.clear()


async def _place(tx: Transaction, row: Cluster) -> Place:
    return Place(row.id, row.org_id, row.name, (await repository.labels_of(tx, [row.id]))[row.id])

"""What fires now, in memory: for the number beside the navigation, which every page shows and no query may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.alerts import repository
from towline.control.db import Database


@dataclass(frozen=True, slots=True)
class Lit:
    """One alert that fires."""

    rule: str
    place: Resource


class Board:
    """Read again after each change, by each replica."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lit: dict[str, list[Lit]] = {}

    def __repr__(self) -> str:
        return f"<Board {sum(map(len, self._lit.values()))} firing>"

    async def refresh(self) -> Sequence[Lit]:
        """Read what fires. Returns: all of it. Raises: ApiError, DBAPIError."""
        async with self._db.read() as tx:
            rows = await repository.firing(tx)
            labels = await repository.labels_of(tx, {row.cluster_id for row in rows if row.cluster_id})
        lit: dict[str, list[Lit]] = {}
        for row in rows:
            place = Resource(row.org_id, row.cluster_id, labels.get(row.cluster_id, {}), row.project, row.namespace)
            lit.setdefault(row.org_id, []).append(Lit(row.rule, place))
        self._lit = lit
        return [one for found in lit.values() for one in found]

    def count(self, access: Access) -> int:
        """Return how many alerts fire that somebody may see."""
        lit = self._lit.get(access.org_id, [])
        if access.scope(Permission.ALERT_READ).everything:
            return len(lit)
        return sum(access.may(Permission.ALERT_READ, one.place) for one in lit)

"""What time brings to routes: sources that stay away, grace that ends, rivals that are gone. One loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import IntegrityError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.db import Database
from towline.control.domains.names import Ownership
from towline.control.errors import ApiError
from towline.control.logging import get_logger
from towline.control.routes import repository
from towline.control.routes.settling import hint, key_of, settle

_log = get_logger("routes")

BITE = 500
"""Routes of one transaction: some 100 ms in which nobody else writes to SQLite."""
INTERVAL = 5.0
"""Seconds between two looks: a route goes at most so much later than its grace time says."""


class Upkeep:
    """The loop. Args: away_grace: seconds after which a cluster that is away gives its sources' names up."""

    def __init__(
        self, db: Database, ownership: Callable[[], Ownership], away_grace: float, *, clock: Clock = REAL_CLOCK
    ) -> None:
        self._db = db
        self._ownership = ownership
        self._away_grace = timedelta(seconds=away_grace)
        self._clock = clock
        self._tasks = TaskOwner("route-upkeep")

    async def start(self) -> None:
        self._tasks.spawn("tidy", self._tidy_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()

    async def tidy(self) -> int:
        """Do what is due now, in small bites. Returns: how many names and paths it was about."""
        total = 0
        async with self._db.read() as tx:  # without the write lock, which everybody else needs
            zone = self._ownership().gateway_domain
            if not await repository.is_anything_due(tx, await tx.now(), self._away_grace, zone):
                return 0
        while count := await self._bite():
            total += count
        return total

    async def _bite(self) -> int:
        """Do some of what is due. Returns: how many names and paths changed hands."""
        async with self._db.begin() as tx:
            moment = await tx.now()
            await repository.note_away(tx, moment - self._away_grace, moment, BITE)
            overdue = await repository.overdue(tx, moment, BITE)
            ownership = self._ownership()
            unopposed = await repository.unopposed(tx, ownership.gateway_domain, BITE)
            due = (*overdue, *unopposed, *await repository.orphans(tx, BITE))
            keys = {key_of(row) for row in due}
            gone = [row for row in overdue if row.missing and row.decision != "refused"]
            hint(tx, gone)
            for row in gone:
                await tx.delete(row)
            changed = await settle(tx, ownership, keys)
        return len(keys) if gone or changed else 0

    async def _tidy_for_ever(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            try:
                await self.tidy()
            except (ApiError, IntegrityError) as error:
                _log.warning("routes not tidied", why=str(error)[:300])

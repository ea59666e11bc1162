"""The loop that looks for the proofs of verified domains again, a few at a time. What follows from it: `service`."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.domains.service import Domains
from towline.control.errors import ApiError
from towline.control.logging import get_logger

_log = get_logger("domains")

INTERVAL = 3600.0
"""Seconds between two rounds; each domain is looked at once a day."""


class Rechecks:
    """Begins an hour after the start: a server that is started again and again asks DNS no more often."""

    def __init__(self, domains: Domains, *, clock: Clock = REAL_CLOCK) -> None:
        self._domains = domains
        self._clock = clock
        self._tasks = TaskOwner("domains")

    async def start(self) -> None:
        self._tasks.spawn("look again", self._look_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()

    async def _look_for_ever(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            try:
                await self._domains.look_again()
            except (ApiError, DBAPIError) as error:
                _log.warning("domains not looked at", why=str(error)[:300])

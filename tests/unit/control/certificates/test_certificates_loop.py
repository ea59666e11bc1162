"""The loop that keeps certificates goes on after a statement that the database refused."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy.exc import DBAPIError

from towline.aio.clock import SimulatedClock
from towline.control.bus import Bus
from towline.control.certificates.feature import CertificatesFeature


class Refused(CertificatesFeature):
    """Every look and every question fails; the third look is the last."""

    def __init__(self) -> None:
        self._control = cast(Any, SimpleNamespace(clock=Instant(), bus=Bus(), db=self))
        self.looks = 0

    async def look(self) -> None:
        self.looks += 1
        if self.looks == 3:
            raise asyncio.CancelledError
        self._control.bus.publish("route")
        raise DBAPIError("SELECT 1", {}, Exception("refused"))

    def read(self) -> Any:
        raise DBAPIError("SELECT 1", {}, Exception("refused"))


class Instant(SimulatedClock):
    """Pauses take no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_refused_statement_does_not_end_the_loop() -> None:
    feature = Refused()
    async with asyncio.timeout(10):
        found = await asyncio.gather(feature._look_for_ever(), return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError) and feature.looks == 3

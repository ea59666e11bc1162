"""Claims that cannot be written take nothing with them: neither other clusters' nor the loop."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from towline.control.audit.service import AuditLog
from towline.control.db import Database
from towline.control.domains.names import Ownership
from towline.control.links.registry import Links
from towline.control.routes.given import Sealer
from towline.control.routes.intake import Pending, RouteIntake
from towline.control.sealing.service import CannotOpen


class Writer:
    """Writes what it can: not what belongs to one cluster."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def write(self, tx: Any, batch: Mapping[str, Pending]) -> int:
        if "clu_bad" in batch:
            raise CannotOpen("made under another key")
        self.written += batch
        return len(batch)


class NoDatabase:
    """Transactions of nothing."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        yield


async def test_claims_that_fail_in_a_way_nobody_expected_drop_their_own_cluster_alone() -> None:
    ownership = Ownership("", frozenset())
    intake = RouteIntake(
        cast(Database, NoDatabase()), cast(AuditLog, None), cast(Sealer, None), Links(), lambda: ownership, 1.0, 1.0
    )
    writer = Writer()
    cast(Any, intake)._writer = writer
    for cluster_id in ("clu_bad", "clu_good"):
        intake._put(cluster_id, Pending(full=True))
    assert await intake.flush()
    assert writer.written == ["clu_good"] and intake.counts["dropped"] == 1

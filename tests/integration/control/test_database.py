"""The end of a database: nothing begins any more, and nothing stays open, whoever is in the middle of what."""

import pytest
from sqlalchemy import text

from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode


@pytest.mark.parametrize("kind", ["begin", "read"])
async def test_a_connection_in_use_at_the_close_is_closed_when_its_transaction_ends(
    database_url: str, kind: str
) -> None:
    db = Database(database_url)
    async with db.begin() if kind == "begin" else db.read() as tx:
        used = (await (await tx.connection()).get_raw_connection()).driver_connection
        assert used is not None
        await db.close()
        assert await tx.scalar(text("SELECT 1")) == 1
    with pytest.raises(Exception, match=r"is closed|no active connection"):
        await used.execute("SELECT 1")


async def test_a_closed_database_begins_nothing_and_may_be_closed_again(database_url: str) -> None:
    db = Database(database_url)
    await db.close()
    await db.close()
    for transaction in (db.begin(), db.read()):
        with pytest.raises(ApiError, match="the database is closed") as refused:
            async with transaction:
                pass
        assert refused.value.code is ErrorCode.UNAVAILABLE
    assert repr(db).endswith(" closed>")

"""One worker per name: claims of several replicas, and what somebody may still write who lost a lease."""

import asyncio
from pathlib import Path

import pytest
from tests.support.control_app import ControlApp, running_control

from towline.control.certificates import repository
from towline.control.certificates.errors import LeaseLost
from towline.control.certificates.keeping import Keeper
from towline.control.certificates.states import Source, State
from towline.control.db import now
from towline.control.ids import new_id

NAME = "shop.example.test"


async def with_name(app: ControlApp) -> None:
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        values = {"id": new_id("crt"), "name": NAME, "org_id": app.control.default_org, "source": Source.ACME}
        moments = {"next_at": moment, "created_at": moment, "updated_at": moment}
        await repository.insert_missing(tx, [{**values, **moments, "state": State.WAITING, **repository.EMPTY}])


def keeper(app: ControlApp, owner: str, lease: float = 60.0) -> Keeper:
    control = app.control
    return Keeper(control.db, control.sealer, control.audit, control.clock, owner=owner, lease=lease)


async def claim(app: ControlApp, owner: str, lease: float = 60.0) -> object:
    async with app.control.db.begin() as tx:
        return await repository.claim(tx, owner=owner, lease=lease)


async def test_of_ten_that_claim_a_name_at_once_one_has_it(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, start=False) as app:
        await with_name(app)
        found = await asyncio.gather(*(claim(app, f"replica-{number}") for number in range(10)))
        assert len([row for row in found if row is not None]) == 1


async def test_who_lost_a_lease_writes_nothing_more(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, start=False) as app:
        await with_name(app)
        first = await claim(app, "first", lease=-1.0)
        second = await claim(app, "second")
        assert first is not None and second is not None
        with pytest.raises(LeaseLost):
            await keeper(app, "first").save(first, state=State.ISSUED, reason="too late")
        await keeper(app, "second").save(second, state=State.FAILED, reason="mine")
        async with app.control.db.read() as tx:
            row = await repository.by_name(tx, NAME)
        assert row is not None and (row.state, row.reason, row.epoch) == ("failed", "mine", 2)


async def test_the_same_replica_is_fenced_from_its_own_earlier_work(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, start=False) as app:
        await with_name(app)
        first = await claim(app, "one", lease=-1.0)
        assert await claim(app, "one") is not None
        with pytest.raises(LeaseLost):
            await keeper(app, "one").save(first, state=State.ISSUED)


async def test_a_name_that_is_not_due_is_not_claimed(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, start=False) as app:
        await with_name(app)
        row = await claim(app, "one")
        await keeper(app, "one").save(row, next_at=now(3600), owner="", lease_until=None)
        assert await claim(app, "two") is None
        async with app.control.db.read() as tx:
            wait = await repository.next_moment(tx)
        assert wait is not None and 3500 < wait <= 3600

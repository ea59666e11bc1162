"""Tasks are named, owned, and their endings are logged."""

import asyncio

import pytest
from structlog.testing import capture_logs

from towline.aio.tasks import OwnerClosed, TaskOwner


async def test_task_is_named_after_its_owner():
    async with TaskOwner("gate") as owner:
        task = owner.spawn("watch", asyncio.sleep(0))
        assert task.get_name() == "gate/watch"


async def test_close_cancels_and_waits_for_clean_up():
    cleaned = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    owner = TaskOwner("gate")
    owner.spawn("work", work())
    await asyncio.sleep(0)
    await owner.close()
    assert cleaned == [True]
    assert len(owner) == 0


async def test_failure_is_logged_and_told():
    told = []

    async def fail():
        raise ValueError("bad")

    owner = TaskOwner("gate", on_failure=lambda name, error: told.append((name, str(error))))
    with capture_logs() as logs:
        owner.spawn("fail", fail())
        await owner.join()
        await asyncio.sleep(0)
    assert told == [("gate/fail", "bad")]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["task failed"]


async def test_result_is_available_to_whoever_awaits():
    async def seven():
        return 7

    async with TaskOwner("gate") as owner:
        assert await owner.spawn("seven", seven()) == 7


async def test_closed_owner_starts_nothing():
    owner = TaskOwner("gate")
    await owner.close()
    with pytest.raises(OwnerClosed, match="gate is closed"):
        owner.spawn("late", asyncio.sleep(0))


async def test_owner_can_be_closed_from_its_own_task():
    owner = TaskOwner("gate")
    await owner.spawn("closer", owner.close())
    assert owner.closed


async def test_task_that_does_not_stop_is_reported():
    released = asyncio.Event()

    async def stubborn():
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    owner = TaskOwner("gate")
    owner.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await owner.close(timeout=0.01)
    released.set()
    await owner.join()
    assert "task does not stop" in [entry["event"] for entry in logs]

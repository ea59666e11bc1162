"""Runs of many targets: they begin and are cancelled a few at a time, and all of them are."""

from collections.abc import AsyncIterator

import pytest
from tests.support.command_runs import Place, begin, place
from tests.support.control_app import ControlApp

from towline.control.commands import progress, service
from towline.control.jobs.models import Job
from towline.wire import link

NAMES = [f"edge-{number}" for number in range(5)]


@pytest.fixture
async def scene(control_app: ControlApp, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(progress, "TOGETHER", 2)
    monkeypatch.setattr(service, "CANCELLED_TOGETHER", 2)
    async with place(control_app) as made:
        for name in NAMES:
            await made.cluster(name)
        yield made


async def test_a_run_of_many_begins_them_all_without_waiting_for_any(scene: Place) -> None:
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", clusters=NAMES)
    assert run["counts"] == {"active": 2, "pending": 3}

    orders = [await scene.order(name) for name in NAMES]  # all are at work at the same time
    for order in orders:
        await order.answer("ok\n")

    ended = await scene.ended(client, run["id"])
    assert (ended["state"], ended["counts"]) == ("succeeded", {"succeeded": 5})
    assert len(await scene.app.rows(Job)) == len(NAMES)


async def test_a_wave_that_begins_in_parts_is_still_one_wave(scene: Place) -> None:
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", clusters=NAMES, wave=3)
    first = [await scene.order(name) for name in NAMES[:3]]
    for order in first[:2]:
        await order.answer("ok\n")
    assert all(scene.agents[name].received(link.Job) == [] for name in NAMES[3:])

    await first[2].answer("ok\n")
    for name in NAMES[3:]:
        await (await scene.order(name)).answer("ok\n")

    assert (await scene.ended(client, run["id"]))["state"] == "succeeded"


async def test_a_cancelled_run_of_many_stops_each_of_them(scene: Place) -> None:
    client = await scene.operator()
    run = await begin(client, "kubectl", "logs", "-f", "web", clusters=NAMES)
    orders = [await scene.order(name) for name in NAMES]

    answer = await client.post(f"/api/v1/commands/runs/{run['id']}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    for order in orders:
        assert (await order.agent.next(link.JobCancel)).job_id == order.job.job_id
        await order.end(130, "cancelled", outcome="cancelled", code="cancelled")
    assert (await scene.ended(client, run["id"]))["counts"] == {"cancelled": 5}

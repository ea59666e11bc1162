"""Jobs in their order: one project one by one, several at once, cancelled, resumed, always ended with a result."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.support.agent_host import AgentHost, agent_host, deploy_order

from towline.agent.errors import JobFailed, PolicyRefused, StorageError
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.agent.jobs.runner import Runner
from towline.aio.clock import SimulatedClock
from towline.wire import orders


class Work:
    """Stands for what jobs do: each waits until it is let go."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.outcome: Ended | Exception = Ended("succeeded")

    async def __call__(self, context: JobContext) -> Ended:
        self.began.append(context.job_id)
        gate = self.gates.get(context.job_id)
        if gate is not None:
            await gate.wait()
        if context.cancelled.is_set():
            return Ended("cancelled", "cancelled", "cancelled")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def host(tmp_path: Path, work: Work) -> AsyncIterator[AgentHost]:
    async with agent_host(tmp_path) as made:
        made.runner = Runner(made.host, made.owner, lambda _: made.published.set(), execute=work)
        yield made


def stop(project: str) -> orders.Services:
    return orders.Services(project=project)


async def test_jobs_of_one_project_wait_for_each_other_and_others_do_not(host: AgentHost, work: Work) -> None:
    work.gates["job_1"] = asyncio.Event()
    for job_id, project in (("job_1", "shop"), ("job_2", "shop"), ("job_3", "blog")):
        await host.submit("compose.stop", stop(project), job_id=job_id)

    await host.result("job_3")
    assert work.began == ["job_1", "job_3"]

    work.gates["job_1"].set()
    await host.result("job_2")
    assert work.began == ["job_1", "job_3", "job_2"]


async def test_repeated_order_is_done_once(host: AgentHost, work: Work) -> None:
    for _ in range(3):
        await host.submit("compose.stop", stop("shop"), job_id="job_1")
    await host.result("job_1")
    await host.submit("compose.stop", stop("shop"), job_id="job_1")
    await host.result(await host.submit("compose.stop", stop("shop"), job_id="job_2"))

    assert work.began == ["job_1", "job_2"]


async def test_waiting_job_is_cancelled_without_beginning(host: AgentHost, work: Work) -> None:
    work.gates["job_1"] = asyncio.Event()
    for job_id in ("job_1", "job_2"):
        await host.submit("compose.stop", stop("shop"), job_id=job_id)

    host.runner.cancel("job_2")
    host.runner.cancel("job_unknown")
    work.gates["job_1"].set()

    assert (await host.result("job_2")).error == "cancelled before it began"
    assert work.began == ["job_1"]


async def test_running_job_hears_that_it_is_cancelled(host: AgentHost, work: Work) -> None:
    gate = work.gates["job_1"] = asyncio.Event()
    await host.submit("compose.stop", stop("shop"), job_id="job_1")
    while not work.began:
        await asyncio.sleep(0)

    host.runner.cancel("job_1")
    gate.set()

    assert (await host.result("job_1")).outcome == "cancelled"


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (JobFailed("pull_failed", "x"), "failed", "pull_failed"),
        (JobFailed("bad_order", "x"), "refused", "bad_order"),
        (PolicyRefused("x"), "refused", "policy_violation"),
        (StorageError("x"), "failed", "disk_full"),
        (RuntimeError("x"), "failed", "internal"),
    ],
)
async def test_every_failure_becomes_a_result(
    host: AgentHost, work: Work, error: Exception, outcome: str, code: str
) -> None:
    work.outcome = error

    result = await host.do("compose.stop", stop("shop"))

    assert (result.outcome, result.code) == (outcome, code)
    assert "x" in result.error


async def test_later_runner_goes_on_with_what_was_promised(tmp_path: Path) -> None:
    first_work, second_work = Work(), Work()
    first_work.gates["job_1"] = asyncio.Event()
    async with agent_host(tmp_path) as first:
        first.runner = Runner(first.host, first.owner, lambda _: None, execute=first_work)
        await first.submit("compose.stop", stop("shop"), job_id="job_1")
        await first.submit("compose.stop", stop("shop"), job_id="job_2")
        while not first_work.began:
            await asyncio.sleep(0)
        left = first.host.stages / "job_0.docker"
        left.mkdir(parents=True)

    async with agent_host(tmp_path) as second:
        second.runner = Runner(second.host, second.owner, lambda _: second.published.set(), execute=second_work)
        second.runner.resume()
        await second.result("job_2")

        assert second_work.began == ["job_1", "job_2"]
        assert not left.exists()


async def test_order_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    async with agent_host(tmp_path) as host:
        result = await host.do("compose.dance", stop("shop"))

    assert (result.outcome, result.code) == ("refused", "bad_order")
    assert "compose.dance" in result.error


@pytest.mark.parametrize(
    "changes", [{"project": "../etc"}, {"revision_id": "../x"}, {"policy_level": "root"}, {"project": "-rf"}]
)
async def test_order_with_impossible_names_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    order = msgspec.structs.replace(deploy_order("shop", "services: {}"), **changes)
    async with agent_host(tmp_path) as host:
        result = await host.do("compose.deploy", order)

    assert (result.outcome, result.code) == ("refused", "bad_order")


async def test_job_waits_while_the_journal_cannot_be_written(tmp_path: Path, work: Work) -> None:
    clock = SimulatedClock()
    async with agent_host(tmp_path) as host:
        parts = dataclasses.replace(host.host, clock=clock)
        host.runner = Runner(parts, host.owner, lambda _: host.published.set(), execute=work)
        await host.submit("compose.stop", stop("shop"), job_id="job_1")
        await host.submit("compose.stop", stop("shop"), job_id="job_2")
        host.host.journal._db.execute("PRAGMA query_only=ON")  # as a full disk

        await clock.advance(25.0)
        assert work.began == []

        host.host.journal._db.execute("PRAGMA query_only=OFF")
        await clock.advance(10.0)
        assert (await host.result("job_2")).outcome == "succeeded"
        assert work.began == ["job_1", "job_2"]


async def test_what_is_seen_on_the_host_is_told_before_the_result(host: AgentHost, work: Work) -> None:
    results_then: list[object] = []

    async def look() -> None:
        results_then.append(host.host.journal.entry("job_1").result)

    host.runner = Runner(host.host, host.owner, lambda _: host.published.set(), execute=work, before_result=look)
    await host.submit("compose.stop", stop("shop"), job_id="job_1")
    await host.result("job_1")
    assert results_then == [None]

"""A command on 1,000 clusters: judging it, beginning it, and taking in how its targets end.

    python -m benchmarks.commands [--targets 1000]

The control plane in one process, on SQLite, without agents: each target's order is made as it would be sent, and each
target ends in a transaction of its own, as by a result from its agent; the loops that follow hints run beside that. Who
asks is an operator by the last of 20 grants on labels.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import structlog
import uvloop
from benchmarks.common import Row, table
from sqlalchemy import select, update
from tests.support.control_app import ControlApp, running_control

from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.clusters.models import Cluster, ClusterLabel
from towline.control.commands import repository
from towline.control.commands.authority import access_of, decide, place_of
from towline.control.ids import new_id
from towline.control.jobs import repository as job_rows
from towline.control.jobs.models import Job
from towline.control.jobs.states import JobState
from towline.control.jobs.work import JobEnd

GRANTS = 20
KUBERNETES = [{"name": "kubernetes", "ready": True, "version": "1.36.0"}]
COMMAND = {"program": "kubectl", "arguments": ["get", "pods", "-n", "shop"], "selector": "env=prod"}
JUDGE_GOAL = 0.001
"""Seconds for one target: a thousand of them may not hold the loop for more than one."""
BEGIN_GOAL = 2.0
"""Seconds until somebody who asked sees the run: a page that takes longer looks broken."""
END_GOAL = 0.010
"""Seconds for each target that ends: all of 1,000 that answer at once are in within ten."""
WAIT_GOAL = 1.0
"""Seconds that others wait to write: the database gives them up after five."""
REPEATS = 5
LONGEST = 120.0


async def make_clusters(app: ControlApp, count: int) -> None:
    """Insert clusters that serve Kubernetes and whose agents are away."""
    async with app.control.db.begin() as tx:
        now = await tx.now()
        ids = [new_id("clu") for _ in range(count)]
        common: dict[str, Any] = {"created_at": now, "health_since": now, "capabilities": KUBERNETES}
        tx.add_all(
            Cluster(id=one, org_id=app.control.default_org, name=f"site-{place:04}", **common)
            for place, one in enumerate(ids)
        )
        await tx.flush()
        tx.add_all(ClusterLabel(cluster_id=one, key="env", value="prod") for one in ids)


async def operator(app: ControlApp) -> httpx.AsyncClient:
    """Return a client that acts as somebody whose last grant reaches every cluster."""
    labels = [(("team", str(number)),) for number in range(GRANTS - 1)] + [(("env", "prod"),)]
    rights = [Right(Role.OPERATOR, Reach(ScopeKind.SELECTOR, selector=one)) for one in labels]
    return app.client(await app.token("bench", *rights))


async def judging(app: ControlApp, run_id: str) -> float:
    """Return the seconds that the judging of one target takes, reading aside."""
    commands = app.control.commands
    async with app.control.db.read() as tx:
        run = await repository.run(tx, run_id)
        assert run is not None
        access, plan = await access_of(tx, app.control.access, run), commands.contents.plan(run)
        assert access is not None
        places = [place_of(row, {"env": "prod"}) for row in (await tx.scalars(select(Cluster))).all()]
        begun = time.perf_counter()
        decisions = [await decide(tx, access, place, plan) for place in places]
        taken = time.perf_counter() - begun
    assert all(one.allowed for one in decisions)
    return taken / len(places)


async def begin(client: httpx.AsyncClient, **more: Any) -> tuple[float, str]:
    """Begin a run. Returns: seconds until the answer, and its id."""
    begun = time.perf_counter()
    answer = await client.post("/api/v1/commands/runs", json=COMMAND | more)
    assert answer.status_code == 201, answer.text
    return time.perf_counter() - begun, str(answer.json()["id"])


async def jobs_of(app: ControlApp, run_id: str, count: int) -> list[Job]:
    """Return the jobs of a run, once each target has one."""
    async with asyncio.timeout(LONGEST):
        while True:
            jobs = [job for job in await app.rows(Job) if job.payload["run"] == run_id]
            if len(jobs) == count:
                return sorted(jobs, key=lambda job: job.id)
            await asyncio.sleep(0.2)


@asynccontextmanager
async def waiting_writer(app: ControlApp) -> AsyncIterator[list[float]]:
    """Write something small again and again within a block. Gives how long each waited."""
    waits: list[float] = []

    async def write() -> None:
        while True:
            begun = time.perf_counter()
            async with app.control.db.begin() as tx:
                await tx.execute(update(Cluster).where(Cluster.name == "site-0000").values(description="x"))
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)

    writing = asyncio.ensure_future(write())
    try:
        yield waits
    finally:
        writing.cancel()
        await asyncio.wait({writing})


async def orders(app: ControlApp, jobs: Sequence[Job]) -> float:
    """Make every order. Returns: seconds for one."""
    begun = time.perf_counter()
    for job in jobs:
        await app.control.commands.handler.prepare(job)
    return (time.perf_counter() - begun) / len(jobs)


async def has_ended(app: ControlApp, run_id: str) -> bool:
    async with app.control.db.read() as tx:
        run = await repository.run(tx, run_id)
        return run is not None and run.ended_at is not None


async def endings(app: ControlApp, jobs: Sequence[Job], run_id: str) -> tuple[float, float]:
    """End every target, and wait until the run has. Returns: seconds, and those of processor time, for one."""
    async with app.control.db.begin() as tx:
        await tx.execute(update(Job).values(state=JobState.RUNNING))
    end = JobEnd("succeeded", "", detail={"exit_code": 0, "stdout_bytes": 120, "stderr_bytes": 0})
    begun, used = time.perf_counter(), time.process_time()
    for job in jobs:
        async with app.control.db.begin() as tx:
            found = await job_rows.by_id(tx, job.id)
            assert found is not None
            assert await app.control.fleet.jobs.end(tx, found, end)
    async with asyncio.timeout(LONGEST):
        while not await has_ended(app, run_id):
            await asyncio.sleep(0.05)
    return (time.perf_counter() - begun) / len(jobs), (time.process_time() - used) / len(jobs)


async def timed(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> float:
    """Return the seconds of a request that succeeds: the median of some."""
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        answer = await client.request(method, path, **more)
        assert answer.is_success, answer.text
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


async def measure(folder: Path, count: int) -> list[Row]:
    """Return the rows of the table."""
    async with running_control(f"sqlite:///{folder / 'bench.sqlite'}", folder) as app:
        await make_clusters(app, count)
        client = await operator(app)
        previewed = await timed(client, "POST", "/api/v1/commands/preview", json=COMMAND)
        async with waiting_writer(app) as waits:
            started = time.perf_counter()
            begun, run_id = await begin(client)
            jobs = await jobs_of(app, run_id, count)
            all_begun = time.perf_counter() - started
        judged = await judging(app, run_id)
        made = await orders(app, jobs)
        shown = await timed(client, "GET", f"/api/v1/commands/runs/{run_id}")
        ended, used = await endings(app, jobs, run_id)
        _, second = await begin(client)
        await jobs_of(app, second, count)
        async with waiting_writer(app) as cancel_waits:
            started = time.perf_counter()
            answer = await client.post(f"/api/v1/commands/runs/{second}/cancel")
            assert answer.status_code == 202, answer.text
            cancelled = time.perf_counter() - started
    return [
        ("judging of one target", _ms(judged), f"{_ms(JUDGE_GOAL)}", judged < JUDGE_GOAL),
        (f"preview of {count} targets", _ms(previewed), "", None),
        (f"begin a run with {count} targets, until it is answered", _ms(begun), _ms(BEGIN_GOAL), begun < BEGIN_GOAL),
        ("until every target has its job", _ms(all_begun), "", None),
        ("longest that another writer waited meanwhile", _ms(max(waits)), _ms(WAIT_GOAL), max(waits) < WAIT_GOAL),
        ("order of one target, judged once more", _ms(made), "", None),
        (f"show the run with its {count} targets", _ms(shown), "", None),
        ("end of one target, the run moved on", f"{_ms(ended)}, {_ms(used)} of processor", _ms(END_GOAL),
         ended < END_GOAL),
        (f"cancel a run with {count} targets", _ms(cancelled), "", None),
        ("longest that another writer waited meanwhile", _ms(max(cancel_waits)), _ms(WAIT_GOAL),
         max(cancel_waits) < WAIT_GOAL),
    ]  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=1000)
    count = parser.parse_args().targets
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as name, redirect_stdout(sys.stderr):
        rows = uvloop.run(measure(Path(name), count))
    print(table(rows))


if __name__ == "__main__":
    main()

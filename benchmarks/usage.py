"""The history of usage: what a sample of 5,000 pods costs at both ends, and what a day of them takes.

The agent's part decodes what a metrics API would answer (pods of two containers), sums it up and makes messages. The
control plane's takes those messages, and writes and thins a whole day of minutes into SQLite on disk, with its own
retention, as fast as it goes and with one sample a minute; then it reads as pages do. Each pod has a level of its own,
and wanders around it.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from benchmarks.common import Row, table
from sqlalchemy import func, select

from towline.agent.kubernetes import usage_reading
from towline.agent.kubernetes.usage_book import UsageBook
from towline.agent.kubernetes.usage_reading import Reading
from towline.aio.clock import SimulatedClock
from towline.control import schema
from towline.control.bus import Bus
from towline.control.clusters.models import Cluster
from towline.control.db import Database
from towline.control.ids import DEFAULT_ORG
from towline.control.links.registry import Links
from towline.control.usage import history, repository, rollup
from towline.control.usage.history import Chosen
from towline.control.usage.intake import UsageIntake
from towline.control.usage.models import UsageBlock
from towline.kube import objects
from towline.wire import link

PODS, NAMESPACES, NODES = 5000, 50, 100
HOURS = 24
MOST_MESSAGE = 256 * 1024
"""A quarter of what the link takes."""
MOST_SAMPLE = 0.3
"""Seconds of processor for a sample at either end: one per cent of one core, twice a minute."""
MOST_DAY = 100 * 2**20
CLUSTER = "clu_bench"
_pods = msgspec.json.Decoder(objects.List[objects.PodMetrics])


class Load:
    """A cluster whose pods wander."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._levels = [10 ** self._random.uniform(-4, 0) for _ in range(PODS)]
        self._memory = [int(10 ** self._random.uniform(6.5, 9.5)) for _ in range(PODS)]

    def pods(self) -> list[tuple[str, str, float, int]]:
        found = []
        for number in range(PODS):
            if number % 3 == 0:  # a third is idle in its memory
                self._memory[number] = max(2**20, int(self._memory[number] * self._random.uniform(0.99, 1.01)))
            cpu = self._levels[number] * self._random.uniform(0.7, 1.3)
            found.append((f"team-{number % NAMESPACES}", name(number), cpu, self._memory[number]))
        return found

    def answer(self) -> bytes:
        """What the metrics API says of all pods."""
        items = [
            {
                "metadata": {
                    "name": pod, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"app": "some-application", "pod-template-hash": "7d9f8c6b5"},
                },
                "timestamp": "2026-01-01T00:00:00Z", "window": "15.021s",
                "containers": [
                    {"name": "main", "usage": {"cpu": f"{int(cpu * 9e8)}n", "memory": f"{memory // 1024}Ki"}},
                    {"name": "sidecar", "usage": {"cpu": f"{int(cpu * 1e8)}n", "memory": "20480Ki"}},
                ],
            }
            for namespace, pod, cpu, memory in self.pods()
        ]  # fmt: skip
        return json.dumps({"kind": "PodMetricsList", "items": items}).encode()

    def reading(self) -> Reading:
        pods = {(namespace, pod): (cpu, float(memory)) for namespace, pod, cpu, memory in self.pods()}
        nodes = {f"node-{number}": (2.0 + self._random.random(), 2.0**33) for number in range(NODES)}
        return usage_reading.gather("metrics", nodes, pods, allowed=lambda _: True)


def name(number: int) -> str:
    suffix = f"{number * 2654435761 % 2**40:010x}"
    return f"application-{number % 200}-{suffix[:5]}-{suffix[5:]}"


def agent_rows(load: Load) -> list[Row]:
    """Measure the agent's end."""
    answer = load.answer()
    book = UsageBook()
    nodes = load.reading().nodes()

    def sample() -> tuple[float, list[link.KubeUsage]]:
        begun = time.process_time()
        pods = usage_reading.pod_usage(_pods.decode(answer).items or ())
        messages = book.take(usage_reading.gather("metrics", nodes, pods, allowed=lambda _: True))
        encoded = [link.encode(one) for one in messages]
        return time.process_time() - begun, [link.decode(one) for one in encoded]  # type: ignore[misc]

    first, messages = sample()
    full = [len(link.encode(one)) for one in messages]
    answer = load.answer()
    later, messages = sample()
    delta = [len(link.encode(one)) for one in messages]
    return [
        (f"agent: a sample of {PODS} pods ({len(answer) / 2**20:.1f} MiB of JSON)",
         f"{first * 1000:.0f} ms the first, {later * 1000:.0f} ms a later one", f"below {MOST_SAMPLE * 1000:.0f} ms",
         max(first, later) < MOST_SAMPLE),
        ("messages of a full sample", f"{len(full)} of at most {max(full) / 1024:.0f} KiB, {sum(full) / 1024:.0f} KiB",
         f"each below {MOST_MESSAGE // 1024} KiB", max(full) < MOST_MESSAGE),
        ("messages of a later sample", f"{len(delta)}, {sum(delta) / 1024:.0f} KiB", "", None),
    ]  # fmt: skip


class Plane:
    """The part of a control plane that keeps usage, on a clock of its own."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.intake = UsageIntake(db, Links(clock=self.clock), clock=self.clock)
        self.taking: list[float] = []
        self.writing: list[float] = []
        self.sweeping: list[float] = []

    async def begin(self) -> None:
        now = self.clock.now()
        async with self.db.begin() as tx:
            tx.add(Cluster(id=CLUSTER, org_id=DEFAULT_ORG, name="bench", created_at=now, health_since=now))

    async def day(self, load: Load) -> None:
        """Have a day of samples taken, written, thinned and removed."""
        book = UsageBook()
        readings = [load.reading() for _ in range(20)]
        for minute in range(HOURS * 60):
            messages = book.take(readings[minute % len(readings)])
            begun = time.process_time()
            for message in messages:
                assert self.intake.take(CLUSTER, ("agt_bench", 1), message)
            self.taking.append(time.process_time() - begun)
            await self.clock.advance(60)
            begun = time.process_time()
            await self.intake.flush()
            self.writing.append(time.process_time() - begun)
            if minute % 60 == 59:
                await self._sweep()

    async def _sweep(self) -> None:
        begun = time.process_time()
        while True:
            async with self.db.begin() as tx:
                if not await rollup.forget(tx, self.clock.now().timestamp()):
                    break
        self.sweeping.append(time.process_time() - begun)

    async def read(self, kind: Any, step: int, seconds: int, chosen: Chosen, *where: Any) -> tuple[float, int]:
        """Read as an answer does. Returns: seconds, and series."""
        end = int(self.clock.now().timestamp())
        begun = time.perf_counter()
        async with self.db.read() as tx:
            blocks = await repository.read(tx, CLUSTER, kind, step, end - seconds, end, *where)
        names = history.rank(blocks, kind, chosen, "cpu")
        history.put_together(blocks, kind, Chosen(names=frozenset(names[:20])), end - seconds, end, step)
        return time.perf_counter() - begun, len(names)


async def plane_rows(folder: Path, load: Load) -> list[Row]:
    """Measure the control plane's end."""
    path = folder / "usage.sqlite"
    db = Database(f"sqlite:///{path}", bus=Bus())
    try:
        with redirect_stdout(sys.stderr):  # it logs
            await schema.prepare(db, folder, 0)
        plane = Plane(db)
        await plane.begin()
        before = path.stat().st_size
        await plane.day(load)
        async with db.begin() as tx:
            rows = await tx.scalar(select(func.count()).select_from(UsageBlock)) or 0
            data = await tx.scalar(select(func.sum(func.length(UsageBlock.data)))) or 0
        one = f"team-7/{name(7)}"
        pod, _ = await plane.read("pod", 300, 86400, Chosen(one), repository.named(one.encode()))
        chosen = Chosen("", frozenset({"team-7"}))
        space, found = await plane.read("pod", 300, 86400, chosen, repository.within({"team-7"}))
        hour, every = await plane.read("pod", 60, 3600, Chosen())
    finally:
        await db.close()
    size = path.stat().st_size - before
    rolled = sorted(plane.writing)[len(plane.writing) * 9 // 10 :]
    return [
        (f"control plane: a sample of {PODS} pods", f"{_mean(plane.taking):.0f} ms",
         f"below {MOST_SAMPLE * 1000:.0f} ms", _mean(plane.taking) < MOST_SAMPLE * 1000),
        ("to write a minute, and when it makes five minutes one point",
         f"{_median(plane.writing):.0f} ms, {_mean(rolled):.0f} ms", "", None),
        ("to remove an hour that is old", f"{_mean(plane.sweeping):.0f} ms", "", None),
        (f"a day of {PODS} pods", f"{rows} rows, {data / 2**20:.0f} MiB packed, {size / 2**20:.0f} MiB of file",
         f"below {MOST_DAY // 2**20} MiB", size < MOST_DAY),
        ("the same as one row for each pod and point", f"{PODS * (288 + 60)} rows", "", None),
        ("to read a day of one pod", f"{pod * 1000:.0f} ms", "below 300 ms", pod < 0.3),
        (f"to read a day of a namespace of {found} pods", f"{space * 1000:.0f} ms", "", None),
        (f"to read the last hour of {every} pods, and show 20", f"{hour * 1000:.0f} ms", "", None),
    ]  # fmt: skip


def _mean(seconds: list[float]) -> float:
    return 1000 * sum(seconds) / max(1, len(seconds))


def _median(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[len(seconds) // 2]


async def measure() -> list[Row]:
    load = Load()
    with tempfile.TemporaryDirectory() as folder:
        return [*agent_rows(load), *await plane_rows(Path(folder), load)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(table(uvloop.run(measure())))


if __name__ == "__main__":
    main()

"""Watching a project until the health gate says healthy or failed: looks at each event of the engine, and when time
alone may change the verdict. The judge itself is `towline.compose.health`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from towline.agent.docker import containers
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.compose import health
from towline.compose.containers import Container
from towline.compose.health import Gate, Report, Verdict

LONGEST_LOOK = 2.0
"""Seconds between two looks without any event: an event stream that broke must not hide a change for longer."""

CLOCK_SLACK = 1.0
"""Seconds that a container may seem to have started too early: Docker's clock and ours are read one after another."""


class LostEngine(Exception):
    """The engine went away while we watched; the gate may be asked again."""

    def __init__(self, gate: Gate) -> None:
        super().__init__("Docker went away")
        self.gate = gate


@dataclass(frozen=True, slots=True)
class Watched:
    """What the gate said at last, and the containers that it said it about."""

    report: Report
    containers: tuple[Container, ...]


def convert(inspected: containers.Inspected, *, now: float, run_began_at: float = 0.0) -> Container:
    """Turn the engine's answer into what the rules look at. Args: now, run_began_at: seconds since the epoch."""
    shown = containers.describe(inspected)
    state = inspected.state
    return Container(
        id=shown.id,
        service=shown.service,
        state=shown.state,
        health=shown.health,
        exit_code=shown.exit_code,
        restarts=shown.restarts,
        out_of_memory=shown.oom_killed,
        uptime=max(0.0, now - shown.started_at) if state.running and shown.started_at else None,
        error=state.error,
        name=shown.name,
        number=shown.number,
        config_hash=shown.config_hash,
        image=inspected.image,
        is_one_off=shown.one_off,
        started_in_this_run=bool(run_began_at) and shown.started_at >= run_began_at - CLOCK_SLACK,
    )


async def look(
    engine: Engine, project: str, *, run_began_at: float = 0.0, clock: Clock = REAL_CLOCK
) -> tuple[Container, ...]:
    """Look at all containers of a project, those of `compose run` left out. Raises: DockerError."""
    found = await containers.inspect_project(engine, project)
    now = clock.now().timestamp()
    converted = (convert(each, now=now, run_began_at=run_began_at) for each in found)
    return tuple(each for each in converted if not each.is_one_off)


async def watch(
    engine: Engine,
    project: str,
    gate: Gate,
    *,
    on_report: Callable[[Report], None],
    clock: Clock = REAL_CLOCK,
) -> Watched:
    """Watch until the verdict is healthy or failed; the gate's deadline ends it.

    Raises: LostEngine. DockerError.
    """
    async with _changes(engine, project) as changed:
        while True:
            changed.clear()
            try:
                present = await look(engine, project, clock=clock)
            except DockerAway as error:
                raise LostEngine(gate) from error
            gate, report = health.observe(gate, present, clock.monotonic())
            on_report(report)
            if report.verdict is not Verdict.PENDING:
                return Watched(report, present)
            soon = health.next_look(gate, clock.monotonic())
            await _wait(changed, min(LONGEST_LOOK, soon if soon is not None else LONGEST_LOOK))


async def judge(
    engine: Engine, project: str, expectations: Iterable[health.Expectation], *, clock: Clock = REAL_CLOCK
) -> Watched:
    """Say how a project stands at this moment: whatever is not healthy yet counts as failed. Raises: DockerError."""
    present = await look(engine, project, clock=clock)
    now = clock.monotonic()
    _, report = health.observe(Gate(tuple(expectations), deadline=now), present, now)
    return Watched(report, present)


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()


@asynccontextmanager
async def _changes(engine: Engine, project: str) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set at each change of one of the project's containers."""
    changed = asyncio.Event()
    async with TaskOwner(f"gate of {project}") as owner:
        ready = asyncio.Event()
        owner.spawn("events", _listen(engine, project, changed, ready))
        await _wait(ready, LONGEST_LOOK)
        yield changed


async def _listen(engine: Engine, project: str, changed: asyncio.Event, ready: asyncio.Event) -> None:
    filters = {"type": ["container"], **containers.project_filter(project)}
    try:
        async with engine.stream("GET", "/events", filters=filters) as chunks:
            ready.set()
            async for _ in chunks:
                changed.set()
    except DockerError:
        # The looks go on by time alone; they will tell when the engine is away.
        ready.set()
    changed.set()

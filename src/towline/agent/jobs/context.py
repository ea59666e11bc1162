"""What the work of a job may use: the host's parts, and the job's own reporter and deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from towline.agent.bundles import BundleStore
from towline.agent.docker import compose
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError, JobFailed
from towline.agent.identity import Store
from towline.agent.jobs.reporter import Reporter
from towline.agent.jobs.steps import Steps
from towline.agent.journal import Entry, Journal
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.settings import AgentSettings
from towline.aio.clock import REAL_CLOCK, Clock

PING_TIMEOUT = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two attempts to reach an engine that is away."""


@dataclass(frozen=True, slots=True)
class Host:
    """The parts of this host that jobs work with; one for all jobs."""

    settings: AgentSettings
    engine: Engine
    records: Records
    bundles: BundleStore
    steps: Steps
    journal: Journal
    identity: Store
    policy: Callable[[], LocalPolicy]
    """Reads the policy anew for each job: its owner may have changed it."""
    find_compose: Callable[[], Awaitable[compose.ComposeTool | None]]
    kubernetes: Credentials | None = None
    """Of the API server beside this agent; None where jobs know no cluster."""
    clock: Clock = REAL_CLOCK

    @property
    def stages(self) -> Path:
        return self.settings.state_folder / "stages"

    @property
    def protected(self) -> tuple[str, ...]:
        """Folders that no container may mount."""
        return (str(self.settings.state_folder),)

    async def compose(self) -> compose.ComposeTool:
        """Return the host's Compose. Raises: JobFailed: there is none."""
        tool = await self.find_compose()
        if tool is None:
            raise JobFailed(
                "command_failed", "Docker Compose is not installed on this host: install the docker-compose-plugin"
            )
        return tool

    async def is_docker_up(self) -> bool:
        """Ask the engine whether it is there."""
        try:
            await self.engine.call("GET", "/_ping", timeout=PING_TIMEOUT)
        except DockerError:
            return False
        return True


class JobContext:
    """One job at work."""

    def __init__(self, host: Host, entry: Entry, reporter: Reporter) -> None:
        self.host = host
        self.entry = entry
        self.reporter = reporter
        self.cancelled = asyncio.Event()
        if entry.cancelled:
            self.cancelled.set()

    def __repr__(self) -> str:
        return f"<JobContext {self.entry!r}>"

    @property
    def job_id(self) -> str:
        return self.entry.job_id

    def time_left(self) -> float:
        """Seconds until the job's time limit; counted from when it was begun, restarts included."""
        begun = self.entry.begun_at or self.entry.accepted_at
        return max(0.0, begun + self.entry.timeout - self.host.clock.now().timestamp())

    async def wait_for_docker(self, stage: str) -> None:
        """Wait until the engine answers. Raises: JobFailed: it stays away."""
        if await self.host.is_docker_up():
            return
        self.reporter.say(stage, "Docker does not answer; waiting for it", level="warning")
        limit = self.host.settings.docker_wait_seconds
        pause = FIRST_PAUSE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while not await self.host.is_docker_up():
                    await self.host.clock.sleep(pause)
                    pause = min(LONGEST_PAUSE, pause * 2)
                self.reporter.say(stage, "Docker answers again")
                return
        raise JobFailed("docker_away", f"Docker did not come back within {limit:g} s: {await self._why_away()}")

    async def _why_away(self) -> str:
        try:
            await self.host.engine.call("GET", "/_ping", timeout=PING_TIMEOUT)
        except DockerAway as error:
            return str(error)
        return "it answers again now"

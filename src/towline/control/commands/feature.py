"""Commands as a part of the control plane: what belongs together, and the loop that moves runs on.

A hint says that a target of a run has ended, or that more of them can begin; without any, every open run is looked at
each `SWEEP_INTERVAL` and after a start. Rows are the truth: a run goes on where it stands.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import and_, not_
from sqlalchemy.exc import DBAPIError

from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC
from towline.control.commands import repository
from towline.control.commands.content import Contents
from towline.control.commands.figures import Figures
from towline.control.commands.handler import CommandHandler
from towline.control.commands.models import CommandRun
from towline.control.commands.progress import KIND, MORE, Progress
from towline.control.commands.saved import SavedCommands
from towline.control.commands.service import Runs
from towline.control.commands.states import OPEN_RUNS
from towline.control.db import now
from towline.control.errors import ApiError
from towline.control.logging import get_logger
from towline.control.retention import DAY, Rule

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("commands")

SWEEP_INTERVAL = 30.0
"""Seconds between two looks at every open run: what a lost hint costs."""
LONGEST_REASON = 300


class CommandsFeature:
    """Everything about commands."""

    def __init__(self, control: ControlPlane) -> None:
        db, audit, jobs = control.db, control.audit, control.fleet.jobs
        self._control = control
        self._tasks = TaskOwner("commands")
        self._waiting: set[str] = set()
        self._hinted = asyncio.Event()
        self.figures = Figures(control.metrics.registry)
        self.contents = Contents(control.sealer)
        self.progress = Progress(db, audit, jobs, control.access, self.contents, self.figures)
        self.handler = CommandHandler(db, audit, control.access, self.contents, self.progress, self.figures)
        self.runs = Runs(db, audit, jobs, self.contents, self.progress)
        self.saved = SavedCommands(db, audit)
        jobs.register(KIND, self.handler)
        keep = control.settings.keep_job_days
        control.retention.rules.append(
            Rule(
                "command_runs", CommandRun.id,
                lambda: and_(not_(CommandRun.state.in_(OPEN_RUNS)), CommandRun.ended_at < now(-keep * DAY)),
            )
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<CommandsFeature {len(self._waiting)} runs to look at>"

    async def start(self) -> None:
        """Begin to move runs on."""
        self._tasks.spawn("hints", self._take_hints())
        self._tasks.spawn("move", self._move_for_ever())
        self._tasks.spawn("sweep", self._sweep_for_ever())

    async def stop(self) -> None:
        """End the loops; runs go on after the next start."""
        await self._tasks.close()

    async def _take_hints(self) -> None:
        async with self._control.bus.subscribe("command", RESYNC) as hints:
            async for hint in hints:
                if hint.topic == RESYNC:
                    await self._look()
                elif hint.ids.get("change") in ("ended", MORE):
                    self._wake({hint.ids["id"]})

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._look()
            await self._control.clock.sleep(SWEEP_INTERVAL)

    async def _look(self) -> None:
        """Look at every run that has not ended."""
        try:
            async with self._control.db.read() as tx:
                found = await repository.open_runs(tx)
        except (ApiError, DBAPIError) as error:
            _log.warning("runs not looked at", why=str(error)[:LONGEST_REASON])
            return
        self.figures.open.set(len(found))
        self._wake(set(found))

    def _wake(self, run_ids: set[str]) -> None:
        if run_ids:
            self._waiting |= run_ids
            self._hinted.set()

    async def _move_for_ever(self) -> None:
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            waiting, self._waiting = self._waiting, set()
            for run_id in sorted(waiting):
                await self._move(run_id)

    async def _move(self, run_id: str) -> None:
        """Move one run on; what cannot be done now is tried again at the next look at everything."""
        try:
            await self.progress.move(run_id)
        except (ApiError, DBAPIError) as error:
            _log.warning("run not moved on", run=run_id, why=str(error)[:LONGEST_REASON])

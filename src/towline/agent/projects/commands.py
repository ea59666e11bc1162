"""Running one Compose command of a job as a step: once, whatever dies meanwhile.

A command that Docker's own death cut off is run again when Docker is back; one that the agent's death left running is
waited for. Everything that Compose does is safe to repeat but starting a one-shot service again, which the caller
avoids by the argument list it gives for a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from towline.agent.docker import presence
from towline.agent.docker.compose import ComposeTool
from towline.agent.errors import JobFailed
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.steps import Command, Exit, Phase, Run
from towline.compose import argv, names
from towline.compose.text import clean

MAX_RUNS = 6
"""Runs of one step: Docker may be killed now and then, but not at every attempt."""

MAX_ERROR_CHARACTERS = 2_000

# What Compose prints when the engine itself cannot be reached; a registry that refuses connections is another thing.
_DOCKER_GONE = re.compile(
    r"cannot connect to the docker daemon|error during connect|daemon is shutting down|docker\.sock", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a job. `name` is its key in the journal's folder, `stage` the word in progress events."""

    name: str
    stage: str
    code: str
    """Code of the job when it fails."""
    what: str
    """Beginning of the error, e.g. `pulling the images failed`."""


ArgumentsAgain = Callable[[], Awaitable[Sequence[str] | None]]


class Commands:
    """The commands of one job. `current` is the run to stop when the job is cancelled."""

    def __init__(self, context: JobContext, tool: ComposeTool) -> None:
        self._context = context
        self._tool = tool
        self._spent: set[Path] = set()
        self.current: Run | None = None

    def compose(self, folder: Path, files: Sequence[str], env_files: Sequence[str]) -> argv.Compose:
        """Return the argument lists for this job's project."""
        return argv.Compose(
            dialect=self._tool.dialect,
            project=names.project_name(self._context.entry.project),
            folder=str(folder),
            files=tuple(files),
            env_files=tuple(env_files),
        )

    async def run(
        self,
        step: Step,
        arguments: Sequence[str],
        folder: Path,
        *,
        timeout: float,
        docker_config: Path | None = None,
        again: ArgumentsAgain | None = None,
    ) -> Exit:
        """Run a command to its good end.

        Args: again: arguments for a repetition, or None when nothing is left to do.
        Raises: JobFailed: it failed, with Compose's words.
        """
        steps = self._context.host.steps
        run = steps.last(self._context.job_id, step.name)
        if run is not None and run.phase() is Phase.CUT_OFF:
            self._spent.add(run.folder)
        for _ in range(MAX_RUNS):
            if run is None or run.folder in self._spent:
                chosen = arguments if run is None or again is None else await again()
                if chosen is None:
                    return Exit(code=0)
                run = steps.prepare(
                    self._context.job_id,
                    step.name,
                    Command(chosen, folder, self._tool.environment(docker_config), timeout),
                )
            async with presence.watched(self._context.host.engine) as docker:
                ended = await self._finish(step, run)
            self._spent.add(run.folder)
            if ended is not None and (ended.code == 0 or not await self._was_docker_gone(run, ended, docker.lost)):
                return self._judged(step, run, ended)
            await self._context.wait_for_docker(step.stage)
        raise JobFailed(step.code, f"{step.what}: Docker went away {MAX_RUNS} times")

    async def _finish(self, step: Step, run: Run) -> Exit | None:
        reporter = self._context.reporter
        reporter.begin_command()
        self.current = run
        try:
            return await self._context.host.steps.finish(
                run, lambda data: reporter.take_output(step.stage, self._context.entry.project, data)
            )
        finally:
            self.current = None

    async def _was_docker_gone(self, run: Run, ended: Exit, lost: bool) -> bool:
        if ended.cancelled or ended.timed_out:
            return False
        return lost or bool(_DOCKER_GONE.search(run.error_tail())) or not await self._context.host.is_docker_up()

    def _judged(self, step: Step, run: Run, ended: Exit) -> Exit:
        if ended.code == 0 and not ended.timed_out:
            return ended
        if ended.timed_out:
            raise JobFailed("timeout", f"{step.what}: it took longer than the time limit allows")
        raise JobFailed(step.code, f"{step.what}: {self._words(run, ended)}")

    def _words(self, run: Run, ended: Exit) -> str:
        reporter = self._context.reporter
        if reporter.errors:
            return clean("; ".join(_distinct(reporter.errors)), MAX_ERROR_CHARACTERS)
        lines = [line.strip() for line in run.error_tail().splitlines() if line.strip() and not line.startswith("{")]
        text = ended.error or "\n".join(lines[-5:]) or f"it ended with {ended.code}"
        return clean(reporter.redacted(text), MAX_ERROR_CHARACTERS)


def _distinct(texts: Sequence[str]) -> list[str]:
    """Leave out what a longer text says as well: Compose prints the engine's error twice."""
    whole = dict.fromkeys(texts)
    return [text for text in whole if not any(text != other and text in other for other in whole)]

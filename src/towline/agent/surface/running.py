"""Commands of the surface's callers: begun, followed by any number of listeners, cancelled, remembered for a while.

A caller is `towline:local` in the group of his right, as everywhere on the surface. A command goes on when the
connection that began it ends; it is over with its own end, its time limit, a cancel, or the agent. No HTTP here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from typing import Any, Literal

import msgspec
import structlog

from towline.agent.commands.cluster import Cluster
from towline.agent.commands.ending import FAILED, NotAnnounced
from towline.agent.commands.execution import check
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.output import Output
from towline.agent.commands.supervising import detail, ended, until_stopped
from towline.agent.docker.engine import Engine
from towline.agent.errors import PolicyRefused, StorageError
from towline.agent.jobs.outcome import Ended
from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.parts import Parts
from towline.agent.surface.passage import ROLES, identity
from towline.commandline.errors import BadCommand
from towline.commandline.plan import Level, Plan
from towline.commandline.reading import parse
from towline.kube import rules

KEPT = 50
"""Commands that are listed after their end."""
KEPT_OUTPUTS = 10
"""Of those, the newest, whose output can still be read: at most OUTPUT_BYTES each."""
OUTPUT_BYTES = 256 * 1024
"""Output of one command that is kept: 2,500 lines of 100 characters, on a page that shows hundreds."""
USUAL_SECONDS = 600.0
LONGEST_SECONDS = 24 * 3600.0
"""A log may be followed for a day; then somebody asks again."""

_log = structlog.get_logger("towline.agent")
_LEVELS = {Right.READ: (Level.SEE,), Right.OPERATE: (Level.SEE, Level.OPERATE)}


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command as a caller asks for it. `timeout` in seconds."""

    program: Literal["kubectl", "docker", "compose"]
    arguments: tuple[str, ...]
    stdin: str = ""
    namespace: str = "default"
    project: str = ""
    timeout: float = USUAL_SECONDS


class LocalCommand:
    """One command, at work or over. Listeners read `chunks` from where they are, then wait for more."""

    def __init__(self, plan: Plan, right: Right, began_at: float) -> None:
        self.id = f"local_{secrets.token_hex(6)}"
        self.plan = plan
        self.right = right
        self.began_at = began_at
        self.ended_at = 0.0
        self.ended: Ended | None = None
        self.chunks: list[tuple[str, str]] = []
        """Stage and text, in the order of arrival."""
        self.cancelled = asyncio.Event()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<LocalCommand {self.id} {self.plan.verb} {self.ended.outcome if self.ended else 'running'}>"

    def keep(self, stage: str, text: str) -> None:
        self.chunks.append((stage, text))
        self.wake()

    def wake(self) -> None:
        """Tell every listener that there is something new."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def more(self, after: int) -> None:
        """Wait until there is more than so many chunks, or the command is over."""
        while len(self.chunks) <= after and self.ended is None:
            await self._changed.wait()

    def shown(self) -> dict[str, Any]:
        """Return the command for a list; secrets in its arguments are masked."""
        told: dict[str, Any] = {
            "id": self.id,
            "program": self.plan.program,
            "arguments": self.plan.masked,
            "state": self.ended.outcome if self.ended is not None else "running",
            "began_at": self.began_at,
        }
        if self.ended is None:
            return told
        found = msgspec.to_builtins(self.ended.detail) if self.ended.detail is not None else {}
        return {**told, "ended_at": self.ended_at, "code": self.ended.code, "error": self.ended.error, **found}


class LocalCommands:
    """All of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running: dict[str, LocalCommand] = {}
        self._over: deque[LocalCommand] = deque(maxlen=KEPT)
        self.counts: Counter[tuple[str, str]] = Counter()
        """Ended, by program and outcome."""

    def __repr__(self) -> str:
        return f"<LocalCommands {len(self._running)} running>"

    @property
    def running(self) -> int:
        return len(self._running)

    def begin(self, asked: Run, right: Right) -> LocalCommand:
        """Begin a command. Raises: SurfaceError: it may not run, or too many do. PolicyRefused."""
        if self.running >= self._parts.settings.parallel_commands:
            raise SurfaceError("throttled", f"{self.running} commands run already")
        if not 0 < asked.timeout <= LONGEST_SECONDS:
            raise SurfaceError("bad_request", f"timeout is from 0 to {LONGEST_SECONDS:g} seconds")
        try:
            plan = parse(
                asked.program, asked.arguments, stdin=asked.stdin, namespace=asked.namespace, project=asked.project
            )
        except BadCommand as error:
            raise SurfaceError("bad_request", str(error)) from error
        _require(plan, right)
        command = LocalCommand(plan, right, self._parts.clock.now().timestamp())
        output = Output(command.keep, OUTPUT_BYTES, clock=self._parts.clock)
        invocation = self._invocation(plan, output, right)
        check(invocation)
        self._running[command.id] = command
        _log.info("local command", id=command.id, program=plan.program, arguments=plan.masked, right=right.name.lower())
        self._parts.owner.spawn(command.id, self._work(command, invocation, asked.timeout))
        return command

    def find(self, command_id: str, right: Right) -> LocalCommand:
        """Return a command that somebody with this right may see. Raises: SurfaceError."""
        for each in (*self._running.values(), *self._over):
            if each.id == command_id and each.right <= right:
                return each
        raise SurfaceError("not_found", f"there is no command {command_id[:60]!r}")

    def cancel(self, command_id: str, right: Right) -> None:
        """Ask a command to end. Raises: SurfaceError."""
        self.find(command_id, right).cancelled.set()

    def listed(self, right: Right) -> list[dict[str, Any]]:
        """Return those that somebody with this right may see, the newest first."""
        every = (*self._over, *self._running.values())
        return [each.shown() for each in sorted(every, key=lambda one: -one.began_at) if each.right <= right]

    def _invocation(self, plan: Plan, output: Output, right: Right) -> Invocation:
        parts, api = self._parts, None
        if plan.program == "kubectl":
            if parts.kubernetes is None:
                raise unavailable("Kubernetes", "the settings of this agent switch it off")
            api = Cluster(parts.kubernetes.credentials, identity(right), plan, parts.policy, clock=parts.clock)
        elif parts.docker is None:
            raise unavailable("Docker", "the settings of this agent switch it off")
        engine = parts.docker.engine if parts.docker is not None else Engine("")
        protected = (str(parts.settings.state_folder),)
        return Invocation(plan, output, parts.policy, engine, api=api, clock=parts.clock, protected=protected)

    async def _work(self, command: LocalCommand, invocation: Invocation, seconds: float) -> None:
        found = Ended("failed", "internal", "the agent ended")
        try:
            found = await self._ended(command, invocation, seconds)
        finally:
            invocation.output.close()
            if invocation.api is not None:
                invocation.api.close()
            self._finish(command, found)

    async def _ended(self, command: LocalCommand, invocation: Invocation, seconds: float) -> Ended:
        output = invocation.output
        try:
            code = await until_stopped(invocation, command.cancelled, seconds)
            output.close()
            return ended(code, output, may_have_happened=command.plan.writes)
        except (PolicyRefused, NotAnnounced) as error:
            return Ended("refused", "forbidden", str(error), detail(output, FAILED))
        except StorageError as error:
            return Ended("failed", "disk_full", str(error), detail(output, FAILED))

    def _finish(self, command: LocalCommand, found: Ended) -> None:
        command.ended, command.ended_at = found, self._parts.clock.now().timestamp()
        self.counts[command.plan.program, found.outcome] += 1
        _log.info("local command ended", id=command.id, outcome=found.outcome, code=found.code)
        self._running.pop(command.id, None)
        self._over.append(command)
        if len(self._over) > KEPT_OUTPUTS:
            self._over[-KEPT_OUTPUTS - 1].chunks = []
        command.wake()


def _require(plan: Plan, right: Right) -> None:
    """Raises: SurfaceError: a caller with this right may not do it."""
    if plan.program != "kubectl":
        if plan.level not in _LEVELS[right]:
            raise SurfaceError("forbidden", f"{plan.program} {plan.verb} needs the token that operates")
        return
    for each in plan.touches:
        decision = rules.allows(ROLES[right], each)
        if not decision.allowed:
            raise SurfaceError("forbidden", f"{each.verb} {each.kind}: {decision.rule}")

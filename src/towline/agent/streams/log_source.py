"""One container's log, from its past to what it writes now, through restarts of the container and of the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError, DockerNotFound
from towline.agent.streams import log_files
from towline.agent.streams.log_lines import Cutter, FileCutter, FrameCutter, Line, TerminalCutter, frames
from towline.agent.streams.log_sieve import Sieve
from towline.agent.streams.log_times import BadMoment, engine_time, stamp
from towline.aio.backoff import Backoff
from towline.aio.clock import Clock
from towline.wire import streams

FOLLOW_TAIL = 1000
"""Lines that the engine is asked for behind a file that was read: those written meanwhile are among them, nearly
always, and the engine need not search its whole file for them."""

ALL = -1
"""Every line of the past."""

LONGEST_PAUSE = 5.0
"""Seconds between attempts to read the log of a running container from an engine that is away."""

JSON_FILE = "json-file"
RESTARTED, GONE = "started again", "was removed"
GAP = "lines are missing here: the engine has thrown them away"


class Outlet(Protocol):
    """Where the frames of all sources go."""

    async def write(self, chunks: list[bytes]) -> None:
        """Send frames; returns when there is room for more. Raises: StreamError."""

    async def tell(self, source: int, text: str) -> None:
        """Send an event about a source. Raises: StreamError."""


class _Missed(Exception):
    """The engine's tail did not reach back to where the file ended."""


class Source:
    """Sends one container's log.

    Args: follow: go on when the past has been sent. tail: lines of the past; negative: all of them. with_files: the
        past may be read out of the engine's files.
    """

    def __init__(
        self,
        engine: Engine,
        inspected: Inspected,
        outlet: Outlet,
        sieve: Sieve,
        *,
        number: int,
        follow: bool,
        tail: int,
        with_files: bool,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._inspected = inspected
        self._outlet = outlet
        self._sieve = sieve
        self._number = number
        self._follow = follow
        self._tail = tail
        self._with_files = with_files
        self._woken = asyncio.Event()
        self._backoff = Backoff(longest=LONGEST_PAUSE, clock=clock)

    def __repr__(self) -> str:
        return f"<Source {self._number} {self._inspected.name} {self._sieve!r}>"

    def wake(self) -> None:
        """Something happened to the container: it is looked at when its log has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Send everything that is wanted. Raises: StreamError. DockerAway: only when it does not follow."""
        await self._declare()
        try:
            if not self._follow:
                await self._read_past()
                return
            await self._survive(self._read_past_and_present)
            while await self._until_more():
                await self._survive(self._read_present)
        except DockerNotFound:
            await self._outlet.tell(self._number, GONE)
        except DockerAway:
            raise
        except DockerError as error:
            await self._outlet.tell(self._number, f"has no log: {error}")

    async def _declare(self) -> None:
        shown = containers.describe(self._inspected)
        body = streams.LogSource(container=shown.id, name=shown.name, project=shown.project, service=shown.service)
        await self._outlet.write([streams.encode_frame(streams.SOURCE, msgspec.json.encode(body), self._number)])

    async def _survive(self, read: Callable[[], Awaitable[None]]) -> None:
        """Read until the engine's stream ends; an engine that goes away is waited for by `_until_more`."""
        with contextlib.suppress(DockerAway):
            await read()
            self._backoff.reset()
            if self._tail > 0:
                self._tail = ALL  # a log that had no line yet: everything that comes is wanted

    def _next_run_begins(self) -> None:
        """Nothing of the past was wanted, and nothing came: what the runs before this one wrote is past as well."""
        if self._tail == 0 and not self._sieve.has_passed:
            with contextlib.suppress(BadMoment):
                self._sieve.begin_behind(stamp(self._inspected.state.finished_at))
        self._tail = ALL

    async def _until_more(self) -> bool:
        """Wait until there may be more to read; returns False when there never will be. Raises: DockerNotFound."""
        while True:
            self._woken.clear()
            started = self._inspected.state.started_at
            try:
                self._inspected = await containers.inspect(self._engine, self._inspected.id)
            except DockerAway:
                await self._backoff.wait()
                continue
            if self._inspected.state.started_at != started:
                self._next_run_begins()
                await self._outlet.tell(self._number, RESTARTED)
                return True
            if self._inspected.state.running:
                await self._backoff.wait()  # the engine closed a log that goes on
                return True
            await self._woken.wait()

    # reading

    async def _read_past(self) -> None:
        if not await self._read_files():
            await self._read_engine(self._tail)

    async def _read_past_and_present(self) -> None:
        if await self._read_files():
            await self._read_present()
        else:
            await self._read_engine(self._tail)

    async def _read_present(self) -> None:
        """Go on behind the last line that was sent."""
        self._sieve.rewind()
        if self._sieve.is_resumed:
            try:
                await self._read_engine(FOLLOW_TAIL, must_meet=True)
                return
            except _Missed:
                self._sieve.retry()
        await self._read_engine(self._tail)

    async def _read_files(self) -> bool:
        """Send the past out of the engine's files; returns whether they could be read."""
        inspected = self._inspected
        if self._tail >= 0 and not self._sieve.is_resumed:
            return False  # the engine finds the last lines without reading the rest
        is_readable = self._with_files and inspected.host_config.log_config.type == JSON_FILE
        path = inspected.log_path if is_readable else ""
        with log_files.opened(path) as files:
            if files is None:
                return False
            cutter = FileCutter(is_terminal=inspected.config.tty)
            async for data in files.read(self._sieve.begin):
                await self._pass(cutter.feed(data))
            if not self._follow:
                await self._pass(cutter.flush())
        return True

    async def _read_engine(self, tail: int, *, must_meet: bool = False) -> None:
        """Send what the engine gives until it ends.

        Args: tail: lines of the past, when no known line has to be met. must_meet: ask for that many lines without
            looking for the known one; raises _Missed, before anything was sent, when it is not among them.
        """
        cutter: Cutter = TerminalCutter() if self._inspected.config.tty else FrameCutter()
        path = f"/containers/{self._inspected.id}/logs"
        async with self._engine.stream("GET", path, **self._query(tail, must_meet)) as chunks:
            async for chunk in chunks:
                await self._pass(cutter.feed(chunk), must_meet=must_meet)
                while cutter.errors:
                    await self._outlet.tell(self._number, f"the engine says: {cutter.errors.pop(0)}")
        await self._pass(cutter.flush(), must_meet=must_meet)

    async def _pass(self, lines: list[Line], *, must_meet: bool = False) -> None:
        kept = self._sieve.sift(lines)
        if must_meet and self._sieve.is_unsure:
            raise _Missed
        if self._sieve.found_gap():
            await self._outlet.tell(self._number, GAP)
        if kept:
            await self._outlet.write(frames(kept, self._number))

    def _query(self, tail: int, must_meet: bool) -> dict[str, Any]:
        sieve = self._sieve
        by_tail = must_meet or (tail >= 0 and not sieve.is_resumed)
        return {
            "stdout": True,
            "stderr": True,
            "timestamps": True,
            "follow": self._follow,
            "tail": tail if by_tail else "all",
            "since": engine_time(sieve.begin) if sieve.begin and not must_meet else None,
            "until": engine_time(sieve.until) if sieve.until else None,
        }

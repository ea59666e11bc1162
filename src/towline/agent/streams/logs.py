"""Logs of a project or of single containers: every source joined into one stream of frames.

Containers of the project that start later join as they come, when the logs are followed. A slow reader makes the engine
wait: one read of each source is held at most. One container's log is `log_source.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import msgspec
import structlog

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError, DockerNotFound
from towline.agent.policy import LocalPolicy
from towline.agent.streams.log_sieve import Sieve
from towline.agent.streams.log_source import ALL, Source
from towline.agent.streams.log_times import BadMoment, Cursor, stamp
from towline.agent.streams.names import container_name
from towline.agent.streams.refusal import Refused
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import ByteStream, StreamError
from towline.aio.tasks import TaskOwner
from towline.wire import streams

MAX_SOURCES = 200
"""Containers in one stream, each with a connection to the engine: a page that follows more cannot be read."""

MAX_NUMBER = 65_535
"""Sources get two bytes: a project that makes containers for ever ends the stream, and its reader comes back."""

LONGEST_PAUSE = 5.0
"""Seconds between attempts to hear an engine's events again."""

EVENTS_OVERLAP = 2
"""Seconds of events from before the question: the engine answers a moment before it listens for us."""

_events = msgspec.json.Decoder(containers.Event)
_log = structlog.get_logger("towline.agent")


class Incoming(Protocol):
    """Who wants the logs: a stream of the tunnel, or a caller of the agent's own surface."""

    def accept_stream(self) -> ByteStream:
        """Say yes. Returns: what the frames are written to."""


class LogServer:
    """Serves `Logs` targets.

    Args: with_files: read the past out of the engine's files where they can be read.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Callable[[], LocalPolicy],
        clock: Clock = REAL_CLOCK,
        *,
        with_files: bool = True,
    ) -> None:
        self._engine = engine
        self._with_files = with_files
        self._policy = policy
        self._clock = clock

    async def serve(self, incoming: Incoming, target: streams.Logs) -> None:
        """Send logs until they or the stream end. Raises: PolicyRefused, Refused, DockerError."""
        self._policy().require("logs")
        wanted = Wanted(target)
        found = await wanted.find(self._engine)
        if not found and not wanted.follow:
            raise Refused("not_found", f"no container of {target.project} is on this host")
        session = _LogSession(self._engine, wanted, self._clock, with_files=self._with_files)
        await session.run(incoming.accept_stream(), found)


class Wanted:
    """What a target asks for, checked. Raises: Refused: a moment, a cursor or a name cannot be read."""

    def __init__(self, target: streams.Logs) -> None:
        self.target = target
        self.follow = target.follow and not target.until
        if not target.project and not target.containers:
            raise Refused("bad_request", "neither a project nor a container is named")
        for name in target.containers:
            container_name(name)
        try:
            self._since = stamp(target.since) if target.since else b""
            self._until = stamp(target.until) if target.until else b""
            self._cursors = {container: Cursor.parse(text) for container, text in target.cursors.items()}
        except BadMoment as error:
            raise Refused("bad_request", str(error)) from error
        self._newest = max((cursor.stamp for cursor in self._cursors.values()), default=b"")

    async def find(self, engine: Engine) -> list[Inspected]:
        """Return the containers that there are now, oldest first. Raises: DockerError."""
        if self.target.project:
            found = [each for each in await containers.inspect_project(engine, self.target.project) if self.fits(each)]
        else:
            found = [await containers.inspect(engine, name) for name in self.target.containers]
        once = {each.id: each for each in found}
        return sorted(once.values(), key=lambda each: each.created)

    def fits(self, inspected: Inspected) -> bool:
        """Tell whether a container is one of those that were asked for."""
        shown, target = containers.describe(inspected), self.target
        if target.containers:
            return any(shown.name == name or shown.id.startswith(name) for name in target.containers)
        is_of_service = not target.services or shown.service in target.services
        return shown.project == target.project and is_of_service and not shown.one_off

    def sieve(self, inspected: Inspected) -> Sieve:
        """Make the sieve of one container."""
        cursor = self._cursors.get(inspected.id)
        return Sieve(since=self._since, until=self._until, text=self.target.grep.encode(), cursor=cursor)

    def tail(self, inspected: Inspected) -> int:
        """Return how many lines of the past are wanted; all of a container that was made while nobody listened."""
        is_new = bool(self._newest) and inspected.created.encode() > self._newest
        return ALL if is_new else self.target.tail

    def filters(self) -> dict[str, list[str]]:
        """Return the engine's filter for the events that matter."""
        filters = {"type": ["container"], "event": ["start", "die", "destroy"]}
        if self.target.project:
            return filters | containers.project_filter(self.target.project)
        return filters | {"container": list(self.target.containers)}


class _LogSession:
    """One stream of logs; the outlet of its sources."""

    def __init__(self, engine: Engine, wanted: Wanted, clock: Clock, *, with_files: bool) -> None:
        self._engine = engine
        self._with_files = with_files
        self._wanted = wanted
        self._clock = clock
        self._stream: ByteStream
        self._writing = asyncio.Lock()
        self._sources: dict[str, Source] = {}
        self._last_number = 0
        self._running = 0
        self._ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    async def run(self, stream: ByteStream, found: list[Inspected]) -> None:
        """Send until everything is sent or the opener has left."""
        self._stream = stream
        failure: BaseException | None = None
        try:
            async with TaskOwner("logs", on_failure=lambda _, error: self._end(error)) as owner:
                owner.spawn("opener", self._guard(self._until_opener_leaves()))
                if self._wanted.follow:
                    owner.spawn("events", self._guard(self._watch(owner, found)))
                else:
                    await self._add_all(owner, found)
                failure = await self._ended
        finally:
            if failure is not None or not self._ended.done():
                stream.abort("the logs broke off")
        if failure is None:
            await stream.aclose()
        else:
            _log.info("logs broke off", reason=str(failure))

    # what sources use

    async def write(self, chunks: list[bytes]) -> None:
        async with self._writing:
            for chunk in chunks:
                await self._stream.write(chunk)

    async def tell(self, source: int, text: str) -> None:
        body = msgspec.json.encode({"text": text, "at": self._clock.now()})
        await self.write([streams.encode_frame(streams.EVENT, body, source)])

    # sources come and go

    async def _add_all(self, owner: TaskOwner, found: list[Inspected]) -> None:
        for inspected in found:
            await self._add(owner, inspected, self._wanted.tail(inspected))

    async def _add(self, owner: TaskOwner, inspected: Inspected, tail: int) -> None:
        if self._running >= MAX_SOURCES or self._last_number >= MAX_NUMBER:
            name = inspected.name.removeprefix("/")
            await self.tell(0, f"{name} is left out: {MAX_SOURCES} containers are in this log already")
            return
        self._last_number += 1
        self._running += 1
        source = self._sources[inspected.id] = Source(
            self._engine,
            inspected,
            self,
            self._wanted.sieve(inspected),
            number=self._last_number,
            follow=self._wanted.follow,
            tail=tail,
            with_files=self._with_files,
            clock=self._clock,
        )
        owner.spawn(f"source {self._last_number}", self._guard(self._run(source, inspected.id)))

    async def _run(self, source: Source, container: str) -> None:
        await source.run()
        self._running -= 1
        self._sources.pop(container, None)
        only_these = not self._wanted.follow or not self._wanted.target.project
        if not self._running and only_these:
            self._end(None)

    async def _watch(self, owner: TaskOwner, found: list[Inspected]) -> None:
        """Take notice of containers that start, end and vanish, for ever."""
        backoff = Backoff(longest=LONGEST_PAUSE, clock=self._clock)
        await self._add_all(owner, found)
        since = self._clock.now().timestamp() - EVENTS_OVERLAP
        while True:
            with contextlib.suppress(DockerAway):
                filters = self._wanted.filters()
                query = {"filters": filters, "since": int(since)}
                async with self._engine.stream("GET", "/events", **query) as chunks:
                    backoff.reset()
                    await self._catch_up(owner)
                    await self._listen(owner, chunks)
            since = self._clock.now().timestamp() - EVENTS_OVERLAP
            await backoff.wait()

    async def _catch_up(self, owner: TaskOwner) -> None:
        """Find what started while nobody listened."""
        for source in self._sources.values():
            source.wake()
        if self._wanted.target.project:
            for each in await containers.list_ids(self._engine, project=self._wanted.target.project):
                if each.id not in self._sources and each.state == "running":
                    await self._started(owner, each.id)

    async def _listen(self, owner: TaskOwner, chunks: AsyncIterator[bytes]) -> None:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = _events.decode(line)
                source = self._sources.get(event.actor.id)
                if source is not None:
                    source.wake()
                elif event.action == "start":
                    await self._started(owner, event.actor.id)

    async def _started(self, owner: TaskOwner, container: str) -> None:
        with contextlib.suppress(DockerNotFound):
            inspected = await containers.inspect(self._engine, container)
            if self._wanted.fits(inspected) and container not in self._sources:
                await self._add(owner, inspected, ALL)

    # the end

    async def _until_opener_leaves(self) -> None:
        """The opener keeps its direction open for as long as it listens."""
        while await self._stream.read():
            continue
        self._end(None)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """End the stream when one of its parts cannot go on."""
        try:
            await work
        except (StreamError, DockerError) as error:
            self._end(error)

    def _end(self, failure: BaseException | None) -> None:
        if not self._ended.done():
            self._ended.set_result(failure)

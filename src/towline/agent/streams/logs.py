"""Logs of a project or of single containers: every source read from the engine, joined into one stream of frames.

A followed container is read again when it starts again, behind the last line that was sent; new containers of the
project's services join as they come. A slow reader makes the engine wait; at most one batch per source is held.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from towline.agent.docker import containers
from towline.agent.docker.containers import Inspected
from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerAway, DockerError, DockerNotFound
from towline.agent.policy import LocalPolicy
from towline.agent.streams.log_lines import LineCutter, frames, parse_cursor
from towline.agent.streams.refusal import Refused
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import streams

MAX_SOURCES = 200
"""Containers in one stream: a page that follows more cannot be read by anybody."""

EVERY_LINE = 1 << 60
"""Lines of one moment to leave out: all of them, since `since` excludes its moment."""

ENGINE_PAUSE = 2.0
"""Seconds until an engine that went away under a followed log is asked again."""


class LogServer:
    """Serves `Logs` targets."""

    def __init__(self, engine: Engine, policy: Callable[[], LocalPolicy]) -> None:
        self._engine = engine
        self._policy = policy

    async def serve(self, incoming: IncomingStream, target: streams.Logs) -> None:
        """Send logs until they or the stream end. Raises: PolicyRefused, Refused, DockerError."""
        self._policy().require("logs")
        found = await _matching(self._engine, target)
        if not found and not target.follow:
            raise Refused("not_found", f"no such container runs or ran here: {_named(target)}")
        stream = incoming.accept_stream()
        try:
            await _LogStream(self._engine, target, stream).run(found)
        except BaseException:
            stream.abort("the logs were ended")
            raise
        await stream.aclose()


class _LogStream:
    def __init__(self, engine: Engine, target: streams.Logs, stream: TunnelStream) -> None:
        self._engine = engine
        self._target = target
        self._stream = stream
        self._writing = asyncio.Lock()
        self._sources: dict[str, _Source] = {}
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def run(self, found: list[Inspected]) -> None:
        async with TaskOwner("logs") as owner:
            readers = [self._add(owner, each) for each in found[:MAX_SOURCES]]
            hung_up = owner.spawn("hang-up", self._wait_for_hang_up())
            if self._target.follow:
                work = owner.spawn("events", self._follow(owner))
            else:
                work = owner.spawn("sources", _all(readers))
            waited: set[asyncio.Future[Any]] = {work, hung_up, self._failure}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                raise self._failure.result()
            if work.done():
                work.result()

    async def write(self, *chunks: bytes) -> None:
        """Send frames; one writer at a time."""
        async with self._writing:
            for chunk in chunks:
                await self._stream.write(chunk)

    async def tell(self, number: int, text: str) -> None:
        body = msgspec.json.encode({"text": text, "at": datetime.now(UTC).timestamp()})
        await self.write(streams.encode_frame(streams.EVENT, body, number))

    def _add(self, owner: TaskOwner, inspected: Inspected) -> asyncio.Task[None]:
        number = len(self._sources) + 1
        source = self._sources[inspected.id] = _Source(self, self._engine, self._target, inspected, number)
        return owner.spawn(f"source {number}", self._guard(source.read_whole()))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a source's end that is not its own end the whole stream."""
        try:
            await work
        except (StreamError, DockerError) as error:
            if not self._failure.done():
                self._failure.set_result(error)

    async def _wait_for_hang_up(self) -> None:
        with contextlib.suppress(StreamError):
            while await self._stream.read():
                continue

    async def _follow(self, owner: TaskOwner) -> None:
        """Take notice of containers that start, restart and vanish."""
        while True:
            with contextlib.suppress(DockerAway):
                async for event in _events(self._engine, self._target):
                    await self._note(owner, event)
            await asyncio.sleep(ENGINE_PAUSE)
            await self._catch_up(owner)

    async def _catch_up(self, owner: TaskOwner) -> None:
        with contextlib.suppress(DockerAway):
            for inspected in await _matching(self._engine, self._target):
                if inspected.id not in self._sources:
                    self._add(owner, inspected)
                elif inspected.state.running:
                    self._sources[inspected.id].wake()

    async def _note(self, owner: TaskOwner, event: containers.Event) -> None:
        source = self._sources.get(event.actor.id)
        if event.action == "start":
            if source is not None:
                source.wake()
            elif len(self._sources) < MAX_SOURCES:
                with contextlib.suppress(DockerNotFound):
                    inspected = await containers.inspect(self._engine, event.actor.id)
                    if _wanted(self._target, inspected):
                        self._add(owner, inspected)
        elif event.action == "destroy" and source is not None:
            source.vanished = True
            source.wake()


class _Source:
    """One container's log."""

    def __init__(
        self, out: _LogStream, engine: Engine, target: streams.Logs, inspected: Inspected, number: int
    ) -> None:
        self._out = out
        self._engine = engine
        self._target = target
        self._inspected = inspected
        self._number = number
        self._woken = asyncio.Event()
        self.vanished = False
        after, skip = parse_cursor(target.cursors.get(inspected.id, ""))
        self._resumed = bool(after)
        if target.since and not after:
            after, skip = _stamp(target.since), EVERY_LINE
        self._cutter = LineCutter(is_terminal=inspected.config.tty, text=target.grep.encode(), after=after, skip=skip)

    def wake(self) -> None:
        """The container started again, or is gone."""
        self._woken.set()

    async def read_whole(self) -> None:
        """Send everything that is wanted of this container, and, when followed, what comes."""
        await self._out.write(streams.encode_frame(streams.SOURCE, msgspec.json.encode(self._name()), self._number))
        await self._read()
        while self._target.follow:
            await self._woken.wait()
            self._woken.clear()
            if self.vanished:
                await self._out.tell(self._number, "the container was removed")
                return
            await self._out.tell(self._number, "the container started again")
            self._renew()
            await self._read()

    def _name(self) -> streams.LogSource:
        shown = containers.describe(self._inspected)
        return streams.LogSource(container=shown.id, name=shown.name, project=shown.project, service=shown.service)

    def _renew(self) -> None:
        """Go on behind the last line."""
        old = self._cutter
        self._resumed = bool(old.last_stamp)
        self._cutter = LineCutter(
            is_terminal=self._inspected.config.tty,
            text=self._target.grep.encode(),
            after=old.last_stamp,
            skip=old.count,
        )

    async def _read(self) -> None:
        path = f"/containers/{self._inspected.id}/logs"
        try:
            async with self._engine.stream("GET", path, **self._query()) as chunks:
                async for chunk in chunks:
                    lines = self._cutter.feed(chunk)
                    if lines:
                        await self._out.write(*frames(lines, self._number))
        except DockerNotFound:
            self.vanished = True
            self._woken.set()
        except DockerAway:
            if not self._target.follow:
                raise

    def _query(self) -> dict[str, object]:
        after = self._cutter.last_stamp.decode()
        tail = "all" if self._target.tail < 0 or self._resumed else str(self._target.tail)
        return {
            "stdout": True,
            "stderr": True,
            "timestamps": True,
            "follow": self._target.follow,
            "tail": tail,
            "since": _unix(after),
            "until": _unix(self._target.until),
        }


def _moment(stamp: str) -> tuple[int, str]:
    """Read RFC 3339: whole seconds since the epoch, and nine digits of the rest. Raises: Refused."""
    whole, _, rest = stamp.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
    except ValueError as error:
        raise Refused("bad_request", f"{stamp[:40]!r} is not a time") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()), digits[:9].ljust(9, "0")


def _unix(stamp: str) -> str | None:
    """Turn a time into what the engine takes."""
    return ".".join(map(str, _moment(stamp))) if stamp else None


def _stamp(text: str) -> bytes:
    """Turn a time into the form that log lines begin with."""
    seconds, digits = _moment(text)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{digits}Z".encode()


async def _matching(engine: Engine, target: streams.Logs) -> list[Inspected]:
    """Return the containers that a target names. Raises: DockerError."""
    if target.project:
        found = await containers.inspect_project(engine, target.project)
        return [each for each in found if _wanted(target, each)]
    return [await containers.inspect(engine, each) for each in target.containers]


def _wanted(target: streams.Logs, inspected: Inspected) -> bool:
    shown = containers.describe(inspected)
    if target.containers:
        return bool({shown.id, shown.name, shown.id[:12]} & set(target.containers))
    return shown.project == target.project and (not target.services or shown.service in target.services)


async def _events(engine: Engine, target: streams.Logs) -> AsyncIterator[containers.Event]:
    filters: dict[str, list[str]] = {"type": ["container"], "event": ["start", "destroy"]}
    filters |= containers.project_filter(target.project) if target.project else {"container": list(target.containers)}
    rest = b""
    async with engine.stream("GET", "/events", filters=filters) as chunks:
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=containers.Event)


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        await task


def _named(target: streams.Logs) -> str:
    return target.project or ", ".join(target.containers) or "nothing was named"

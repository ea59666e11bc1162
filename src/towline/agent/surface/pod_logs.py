"""The logs of many pods as one: every container of the pods that a selector finds, now and later, each line once.

Each container has a connection to the API server for as long as it lasts. A sink that is slow makes all of them wait,
so that nothing gathers here; a connection that breaks is opened again behind the last line that was had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.kubernetes.api import Answer
from towline.agent.streams.log_lines import CUT_NOTE, Line
from towline.agent.streams.log_sieve import Sieve
from towline.agent.streams.log_times import PREFIX_BYTES, STAMP_BYTES, BadMoment, stamp
from towline.agent.surface import cluster
from towline.agent.surface.cache import ClusterCache
from towline.agent.surface.cluster import Row
from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.lasting import while_allowed
from towline.agent.surface.log_sinks import LogSink
from towline.agent.surface.passage import Ask, Passage
from towline.agent.surface.selectors import EVERYTHING, Selector
from towline.agent.surface.shelf import Shelf, What
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.wire import streams

MOST_SOURCES = 200
"""Containers in one stream, each with a connection to the API server: what follows more cannot be read."""
LONGEST_PAUSE = 5.0
"""Seconds between two attempts to read a container's log; a change of its pod ends the pause."""
LINE_BYTES = 64 * 1024
"""Of one line, as for containers of Docker; the rest of a longer one is left out."""
MOST_WORDS = LINE_BYTES - PREFIX_BYTES - 1
ALL = -1

GONE = "is gone"
GAP = "lines are missing here: they were thrown away before they were read"


@dataclass(frozen=True, slots=True)
class PodsWanted:
    """Which containers, and which of their lines."""

    namespace: str = ""
    selector: Selector = EVERYTHING
    pod: str = ""
    container: str = ""
    tail: int = 10
    """Lines of the past of each container that is there at the beginning; -1: all."""
    grep: str = ""

    def fits(self, row: Row) -> bool:
        """Tell whether a pod is meant."""
        in_place = (not self.namespace or row.namespace == self.namespace) and (not self.pod or row.name == self.pod)
        return in_place and self.selector.matches(row.labels)

    def containers(self, row: Row) -> tuple[str, ...]:
        """Return the names of a pod's containers that are meant."""
        return tuple(name for name in row.containers if not self.container or name == self.container)


class LineCutter:
    """Cuts the bytes of one log into lines with stamps of one width; holds one unfinished line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the lines that are whole."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 2 * LINE_BYTES:
            self._rest = self._rest[:LINE_BYTES]
        return [line for text in whole if (line := _line(text)) is not None]

    def flush(self) -> list[Line]:
        """Return what is left at the end."""
        line, self._rest = _line(self._rest), b""
        return [line] if line is not None else []


def _line(text: bytes) -> Line | None:
    """Return a line whose stamp is in UTC; None for bytes without one. Source: kubelet kuberuntime/logs/logs.go."""
    moment, blank, words = text.partition(b" ")
    if not blank:
        return None
    if len(moment) != STAMP_BYTES or moment[-1:] != b"Z":
        try:
            moment = stamp(moment.decode("ascii", "replace"))
        except BadMoment:
            return None
    if len(words) > MOST_WORDS:
        return streams.STDOUT, moment + b" " + words[: MOST_WORDS - len(CUT_NOTE)] + CUT_NOTE
    return streams.STDOUT, moment + b" " + words + b"\n"


class PodLogs:
    """One stream of logs. `run` once."""

    def __init__(
        self,
        cache: ClusterCache,
        passage: Passage,
        wanted: PodsWanted,
        right: Right,
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._cache = cache
        self._passage = passage
        self._wanted = wanted
        self._sink: LogSink
        self._right = right
        self._clock = clock
        self._writing = asyncio.Lock()
        self._sources: dict[tuple[str, str], asyncio.Event] = {}
        """By pod and container, set when something has happened to the pod."""
        self._owner: TaskOwner
        self._shelf: Shelf
        self._over = asyncio.Event()
        self._told_full = False

    def __repr__(self) -> str:
        return f"<PodLogs {len(self._sources)} sources>"

    async def check(self) -> None:
        """See that this may be read, before an answer begins. Raises: SurfaceError, PolicyRefused, KubernetesError."""
        self._allowed()
        self._shelf = await self._cache.shelf(cluster.PODS)

    async def run(self, sink: LogSink) -> None:
        """Send lines until the client is gone. Call `check` before. Raises: SurfaceError, PolicyRefused."""
        self._sink = sink
        await while_allowed(self._allowed, self._run())

    def _allowed(self) -> None:
        """Judge anew what is read. Raises: SurfaceError, PolicyRefused."""
        read = {pod.partition("/")[0] for pod, _ in self._sources} | {self._wanted.namespace}
        for namespace in read - {""}:
            self._passage.judge(Ask("GET", f"/api/v1/namespaces/{namespace}/pods/any/log", self._right))

    async def _run(self) -> None:
        async with TaskOwner("pod logs") as self._owner:
            end = self._cache.listen(self._changed)
            try:
                for row in list(self._shelf.rows.values()):
                    if self._wanted.fits(row):
                        self._add(row, self._wanted.tail)
                await self._over.wait()
            finally:
                end()

    def _changed(self, what: What, name: str, row: Row) -> None:
        """A pod came, changed or went."""
        if name != cluster.PODS.name or not self._wanted.fits(row):
            return
        for container in self._wanted.containers(row):
            if (woken := self._sources.get((row.key, container))) is not None:
                woken.set()
        if what != "removed":
            self._add(row, ALL)

    def _add(self, row: Row, tail: int) -> None:
        for container in self._wanted.containers(row):
            key = row.key, container
            if key in self._sources or self._owner.closed:
                continue
            if len(self._sources) >= MOST_SOURCES:
                self._tell_full()
                return
            self._sources[key] = asyncio.Event()
            self._owner.spawn("/".join(key), self._read(row, container, tail))

    def _tell_full(self) -> None:
        if not self._told_full:
            self._told_full = True
            words = f"others are left out: {MOST_SOURCES} containers are in this log already"
            self._owner.spawn("full", self._guarded(self._tell("", words)))

    # -- one container ---------------------------------------------------------------------------

    async def _read(self, row: Row, container: str, tail: int) -> None:
        key = row.key, container
        source = _Source(f"{row.key}/{container}", self._wanted.grep, tail)
        try:
            await self._guarded(self._follow(row.key, container, source))
        finally:
            del self._sources[key]

    async def _follow(self, pod: str, container: str, source: _Source) -> None:
        backoff = Backoff(longest=LONGEST_PAUSE, clock=self._clock)
        woken = self._sources[pod, container]
        while True:
            woken.clear()
            row = self._shelf.rows.get(pod)
            had = source.lines
            try:
                if not await self._pass(pod, container, source):
                    return
                is_whole = True
            except KubernetesError:
                is_whole = False
            source.rest(is_whole=is_whole)
            if is_whole and (row is None or row.is_over):
                return
            if source.lines > had:
                backoff.reset()
            await self._pause(woken, backoff.next_delay())

    async def _pause(self, woken: asyncio.Event, seconds: float) -> None:
        timer = self._clock.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    async def _pass(self, pod: str, container: str, source: _Source) -> bool:
        """Send what one answer holds. Returns: whether there may be more. Raises: KubernetesError."""
        namespace, _, name = pod.partition("/")
        asked = {"container": container, "follow": "true", "timestamps": "true", **source.query()}
        ask = Ask(
            "GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log?{urlencode(asked)}", self._right, accept="*/*"
        )
        async with self._passage.ask(ask) as answer:
            if answer.head.status == 200:
                await self._send(answer, source)
                return True
            refusal = await self._passage.read_refusal(answer)
        if refusal.code == "not_found":
            await self._tell(source.name, GONE)
            return False
        if refusal.code == "forbidden":
            await self._tell(source.name, refusal.message)
            return False
        return True  # a container that waits to start answers 400

    async def _send(self, answer: Answer, source: _Source) -> None:
        cutter = LineCutter()
        async for piece in answer.pieces():
            await self._lines(source, cutter.feed(piece))
        await self._lines(source, cutter.flush())

    async def _lines(self, source: _Source, lines: list[Line]) -> None:
        kept = source.sift(lines)
        if source.sieve.found_gap():
            await self._tell(source.name, GAP)
        if kept:
            async with self._writing:
                await self._sink.lines(source.name, [line for _, line in kept])

    async def _tell(self, source: str, text: str) -> None:
        async with self._writing:
            await self._sink.tell(source, text)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """End the stream when its client is gone."""
        try:
            await work
        except (ConnectionError, SurfaceError, PolicyRefused):
            self._over.set()


class _Source:
    """What was had of one container."""

    def __init__(self, name: str, grep: str, tail: int) -> None:
        self.name = name
        self.lines = 0
        self._grep = grep.encode()
        self._tail = tail
        self._last = b""
        self.sieve = Sieve(text=self._grep)

    def query(self) -> dict[str, str]:
        """Return where the next answer has to begin."""
        if self.sieve.begin:
            return {"sinceTime": self.sieve.begin.decode()}
        return {"tailLines": str(self._tail)} if self._tail >= 0 else {}

    def sift(self, lines: list[Line]) -> list[Line]:
        """Return the lines that were not had yet."""
        if lines:
            self._last = max(self._last, lines[-1][1][:STAMP_BYTES])
            self.lines += len(lines)
        return self.sieve.sift(lines)

    def rest(self, *, is_whole: bool) -> None:
        """An answer has ended. One that was cut goes on behind its last line; behind a whole one a new run begins."""
        if not is_whole:
            self.sieve.rewind()
        elif self._last:
            self.sieve = Sieve(text=self._grep, since=self._last)
        if self._last:
            self._tail = ALL

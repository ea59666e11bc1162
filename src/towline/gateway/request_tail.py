"""The last requests to published routes, and whoever watches new ones arrive. Bounded both ways; never waits."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from towline.wire.http1 import RequestHead

KEPT = 2_000
"""Requests remembered, of all routes together."""
MAX_TEXT = 512
"""Of a path or a host: what a line on a screen can show."""
MAX_WATCHERS = 64
MAX_WAITING = 500
"""Lines that a slow watcher may owe; older ones are dropped and counted."""


class Tailed(Protocol):
    """What is read of a request that is over."""

    head: RequestHead
    request_id: str
    route: str
    status: int
    received_bytes: int
    sent_bytes: int

    @property
    def route_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TailLine:
    """One finished request. No query, no header, no body."""

    at: float
    """Seconds since 1970."""
    route_id: str
    route: str
    request_id: str
    address: str
    method: str
    host: str
    path: str
    status: int
    received_bytes: int
    sent_bytes: int
    seconds: float
    outcome: str


class Watcher:
    """Somebody who reads along. Iterate it; `dropped` counts lines that came too fast for it."""

    def __init__(self, wanted: Callable[[TailLine], bool], leave: Callable[["Watcher"], None]) -> None:
        self.dropped = 0
        self._wanted = wanted
        self._leave = leave
        self._lines: deque[TailLine] = deque()
        self._arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Watcher {len(self._lines)} waiting, {self.dropped} dropped>"

    def put(self, line: TailLine) -> None:
        """Take a line, if it is wanted."""
        if not self._wanted(line):
            return
        if len(self._lines) >= MAX_WAITING:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._arrived.set()

    async def next(self, timeout: float) -> list[TailLine]:
        """Return the lines that arrived, or none after the timeout."""
        try:
            async with asyncio.timeout(timeout):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        lines = list(self._lines)
        self._lines.clear()
        return lines

    def close(self) -> None:
        """Read no more."""
        self._leave(self)


class TooManyWatchers(Exception):
    """Everybody who may watch at once already does."""


_Kept = tuple[float, str, str, str, str, bytes, str, bytes, int, int, int, float, str]


class RequestTail:
    """Remembers and tells. Adding costs one tuple; lines are made when somebody asks."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._watchers: set[Watcher] = set()

    def __repr__(self) -> str:
        return f"<RequestTail {len(self._kept)} kept, {len(self._watchers)} watchers>"

    def add(self, done: Tailed, address: str, seconds: float, outcome: str) -> None:
        """Take a request that is over."""
        head = done.head
        kept = (
            time.time(),
            done.route_id,
            done.route,
            done.request_id,
            address,
            head.method,
            head.host,
            head.path[:MAX_TEXT],
            done.status,
            done.received_bytes,
            done.sent_bytes,
            seconds,
            outcome,
        )
        self._kept.append(kept)
        if self._watchers:
            line = _line(kept)
            for watcher in self._watchers:
                watcher.put(line)

    def last(self, wanted: Callable[[TailLine], bool], limit: int) -> list[TailLine]:
        """Return the newest lines that are wanted, oldest first."""
        found: list[TailLine] = []
        for kept in reversed(self._kept):
            line = _line(kept)
            if wanted(line):
                found.append(line)
                if len(found) >= limit:
                    break
        return found[::-1]

    def watch(self, wanted: Callable[[TailLine], bool]) -> Watcher:
        """Begin to watch; `close` the watcher at the end. Raises: TooManyWatchers."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers
        watcher = Watcher(wanted, self._watchers.discard)
        self._watchers.add(watcher)
        return watcher


def _line(kept: _Kept) -> TailLine:
    at, route_id, route, request_id, address, method, host, path, status, received, sent, seconds, outcome = kept
    return TailLine(
        at,
        route_id,
        route,
        request_id,
        address,
        method.decode("ascii"),
        host[:MAX_TEXT],
        path.decode("ascii", "replace"),
        status,
        received,
        sent,
        seconds,
        outcome,
    )

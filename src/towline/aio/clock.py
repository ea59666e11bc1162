"""Time as a parameter: what code that waits may ask for, the real thing, and a simulated one for tests.

Nothing here knows what is being waited for. Code that takes a `Clock` never calls `time`, `asyncio.sleep` or
`loop.call_later` itself.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

_SETTLE_ROUNDS = 20
"""Loop turns that a simulated moment gets: enough for a chain of callbacks that wake each other."""


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Forget the callback; nothing happens when it has run already."""


class Clock(Protocol):
    """The only source of time for code that is tested with a simulated clock."""

    def monotonic(self) -> float:
        """Return seconds that only grow; meaningful as differences alone."""

    def now(self) -> datetime:
        """Return the wall clock, aware and in UTC; it may jump."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero and less yield once."""

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Run a callback once, on the event loop, after some seconds."""


class RealClock:
    """The clock of the machine and of the running event loop."""

    __slots__ = ()

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


REAL_CLOCK = RealClock()
"""Shared, since it has no state."""


class _SimulatedTimer:
    __slots__ = ("args", "callback", "cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class SimulatedClock:
    """A clock that moves only when told to, for tests.

    `sleeps` lists every wait that was asked for, so that a test can assert on exact delays.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.sleeps: list[float] = []
        self._elapsed = 0.0
        self._wall = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._timers: list[tuple[float, int, _SimulatedTimer]] = []
        self._order = itertools.count()

    def __repr__(self) -> str:
        return f"<SimulatedClock +{self._elapsed:g}s, {self.pending} pending>"

    @property
    def pending(self) -> int:
        """Timers that are due some time."""
        return sum(1 for _, _, timer in self._timers if not timer.cancelled)

    def monotonic(self) -> float:
        return self._elapsed

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=self._elapsed)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator or NTP does."""
        self._wall += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = _SimulatedTimer(callback, args)
        heapq.heappush(self._timers, (self._elapsed + max(0.0, seconds), next(self._order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Let time pass: every due timer runs in order, and what it woke runs before the next one."""
        end = self._elapsed + seconds
        await settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            if not timer.cancelled:
                timer.callback(*timer.args)
                await settle()
        self._elapsed = end
        await settle()


async def settle(rounds: int = _SETTLE_ROUNDS) -> None:
    """Let everything that is ready on the event loop run, for tests."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

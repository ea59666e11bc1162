"""Waiting times between attempts: exponential, capped, with full jitter. The waiting itself is the clock's.

Source: design.md, "Numbers": back-off 0.5 to 60 s with jitter.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from towline.aio.clock import REAL_CLOCK, Clock

FIRST_DELAY = 0.5
"""Seconds: short enough that a restarted server finds its agents back at once."""

LONGEST_DELAY = 60.0
"""Seconds: a server that was away for a day is found again within a minute."""

SHORTEST_DELAY = 0.05
"""Seconds: full jitter may draw zero, and a loop that never waits would eat a core."""

STEADY_AFTER = 10.0
"""Seconds that what an attempt brought up must have lasted to start the sequence anew."""


class Backoff:
    """One sequence of attempts.

    `wait()` before each new attempt; `reset()` when one succeeded; or `note_lasted()` when success is only known
    by how long it held, so that a link that breaks right after each handshake is not hammered.
    """

    __slots__ = ("_clock", "_first", "_longest", "_random", "_waited", "attempts")

    def __init__(
        self,
        *,
        first: float = FIRST_DELAY,
        longest: float = LONGEST_DELAY,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._longest = longest
        self._clock = clock
        self._random = draw
        self._waited = 0.0
        self.attempts = 0

    def __repr__(self) -> str:
        return f"<Backoff attempts={self.attempts} ceiling={self.ceiling:g}s>"

    @property
    def ceiling(self) -> float:
        """The longest that the next delay can be."""
        doubled = self._first * 2 ** min(self.attempts, 32)
        # No longer than was waited already: small draws would else use up the attempts within seconds, and a server
        # that was away for five would be missed for a minute.
        return float(min(self._longest, doubled, self._first + self._waited))

    def next_delay(self) -> float:
        """Draw the next delay in seconds, and count the attempt."""
        delay = max(SHORTEST_DELAY, self.ceiling * self._random())
        self.attempts += 1
        self._waited += delay
        return delay

    async def wait(self) -> float:
        """Sleep for the next delay; returns it."""
        delay = self.next_delay()
        await self._clock.sleep(delay)
        return delay

    def reset(self) -> None:
        """Begin anew: the attempt succeeded."""
        self.attempts = 0
        self._waited = 0.0

    def note_lasted(self, seconds: float) -> None:
        """Begin anew when what the attempt brought up held for long enough; the longer it held, the sooner else."""
        if seconds >= STEADY_AFTER:
            self.reset()
        else:
            self._waited = min(self._waited, STEADY_AFTER - seconds)

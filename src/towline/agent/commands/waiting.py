"""Looking again until something is true, or the time is up."""

from __future__ import annotations

from towline.aio.clock import Clock

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds between two looks: an object is read anew, which costs the API server half a millisecond."""


class Waiting:
    """Counts the time of one wait. `timeout`: seconds; 0 for no limit of its own."""

    def __init__(self, clock: Clock, timeout: float = 0.0) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + timeout if timeout > 0 else None
        self._pause = FIRST_PAUSE

    async def pause(self, seconds: float = 0.0) -> bool:
        """Wait until the next look, or for some seconds. Returns: False when the time is up."""
        pause, self._pause = self._pause, min(LONGEST_PAUSE, self._pause * 1.5)
        pause = seconds or pause
        if self._deadline is not None:
            left = self._deadline - self._clock.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        await self._clock.sleep(pause)
        return True

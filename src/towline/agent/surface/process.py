"""Numbers about the agent's own process: memory, processor, files, tasks, garbage, and how late its loop runs."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from towline.aio.clock import REAL_CLOCK, Clock

_SELF = Path("/proc/self")
_PAGE = os.sysconf("SC_PAGE_SIZE")

LAG_INTERVAL = 1.0
"""Seconds between two looks at how late the loop is."""
LAG_SAMPLES = 60
"""Looks that are kept: what `most` means is the worst of the last minute."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one moment."""

    resident_bytes: int
    virtual_bytes: int
    cpu_user_seconds: float
    cpu_system_seconds: float
    open_files: int
    threads: int
    tasks: int
    collections: int
    """Of Python's garbage collector, all generations, since the process began."""
    collected: int
    """Objects that it freed."""


def measure() -> Numbers:
    """Measure now. Costs a fraction of a millisecond."""
    virtual, resident = (_SELF / "statm").read_text().split()[:2]
    times, garbage = os.times(), gc.get_stats()
    return Numbers(
        resident_bytes=int(resident) * _PAGE,
        virtual_bytes=int(virtual) * _PAGE,
        cpu_user_seconds=times.user,
        cpu_system_seconds=times.system,
        open_files=sum(1 for _ in (_SELF / "fd").iterdir()),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
        collections=sum(generation["collections"] for generation in garbage),
        collected=sum(generation["collected"] for generation in garbage),
    )


class LoopLag:
    """How much later than asked the event loop wakes a sleeper: what makes everything else late, too."""

    def __init__(self, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._samples: deque[float] = deque(maxlen=LAG_SAMPLES)

    def __repr__(self) -> str:
        return f"<LoopLag {self.last * 1000:.1f} ms, at most {self.most * 1000:.1f} ms>"

    @property
    def last(self) -> float:
        """Seconds, the last time; 0 before the first."""
        return self._samples[-1] if self._samples else 0.0

    @property
    def most(self) -> float:
        """Seconds, at worst in the last minute."""
        return max(self._samples, default=0.0)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(LAG_INTERVAL)
            self._samples.append(max(0.0, self._clock.monotonic() - began - LAG_INTERVAL))

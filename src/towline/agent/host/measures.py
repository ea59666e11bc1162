"""Numbers of the moment, from /proc: load, processor, memory, disk, and the agent itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measured:
    """See `wire.link.Heartbeat` for the units."""

    uptime: float
    load: float
    cpu_percent: float
    memory_used_bytes: int
    disk_free_bytes: int
    agent_memory_bytes: int


class Meter:
    """Measures; the processor's use is that since the last time."""

    def __init__(self, disk: Path, proc: Path = _PROC) -> None:
        self._disk = disk
        self._proc = proc
        self._busy, self._total = _processor_ticks(proc)
        self._began = time.monotonic()

    def measure(self) -> Measured:
        """Measure now."""
        busy, total = _processor_ticks(self._proc)
        passed = total - self._total
        percent = 100.0 * (busy - self._busy) / passed if passed > 0 else 0.0
        self._busy, self._total = busy, total
        memory = memory_info(self._proc)
        return Measured(
            uptime=time.monotonic() - self._began,
            load=os.getloadavg()[0],
            cpu_percent=round(percent, 1),
            memory_used_bytes=memory.get("MemTotal", 0) - memory.get("MemAvailable", 0),
            disk_free_bytes=_free(self._disk),
            agent_memory_bytes=_own_memory(self._proc),
        )


def memory_info(proc: Path = _PROC) -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    found = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def _processor_ticks(proc: Path) -> tuple[int, int]:
    numbers = [int(text) for text in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    total = sum(numbers)
    return total - numbers[3] - numbers[4], total


def _free(path: Path) -> int:
    try:
        status = os.statvfs(path)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _own_memory(proc: Path) -> int:
    return int((proc / "self" / "statm").read_text().split()[1]) * _PAGE

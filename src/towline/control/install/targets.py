"""What kinds of hosts the installer knows: Python, machine and C library, and the platforms whose wheels fit. Pure."""

import platform
import sys
from dataclasses import dataclass

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
"""The newest minor release for which wheels of every dependency are known to exist."""
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
LIBCS = ("glibc", "musl")
_PLATFORMS = {
    "glibc": ("manylinux_2_34", "manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014"),
    "musl": ("musllinux_1_2", "musllinux_1_1"),
}


@dataclass(frozen=True, slots=True)
class HostKind:
    """One kind of host: wheels that fit one of a kind fit all."""

    python: tuple[int, int]
    machine: str
    libc: str

    def __str__(self) -> str:
        return f"cp{self.python[0]}{self.python[1]}-{self.machine}-{self.libc}"

    @property
    def tag(self) -> str:
        return f"cp{self.python[0]}{self.python[1]}"

    @property
    def platforms(self) -> list[str]:
        """Platform tags of fitting wheels, best first."""
        return [f"{prefix}_{self.machine}" for prefix in _PLATFORMS[self.libc]]


class UnknownKind(ValueError):
    """No wheels for such a host; the message says what would do."""


def kind_of(python: str, machine: str, libc: str) -> HostKind:
    """Read what a host says of itself. Raises: UnknownKind."""
    parts = python.split(".")[:2]
    version = (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else (0, 0)
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        oldest, newest = (f"{major}.{minor}" for major, minor in (OLDEST_PYTHON, NEWEST_PYTHON))
        raise UnknownKind(f"Python {oldest} to {newest} works, not {python[:16]}")
    if machine not in MACHINES:
        raise UnknownKind(f"x86_64 and aarch64 work, not {machine[:16]}")
    if libc not in LIBCS:
        raise UnknownKind(f"glibc and musl work, not {libc[:16]}")
    return HostKind(version, MACHINES[machine], libc)


def own_kind() -> HostKind:
    """Return the kind of this machine; its own installed packages fit it."""
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    machine = MACHINES.get(platform.machine().lower(), platform.machine().lower())
    return HostKind(sys.version_info[:2], machine, libc)

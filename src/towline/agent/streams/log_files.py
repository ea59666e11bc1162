"""The past of a log read from the files of the engine's `json-file` driver, where the agent may read them.

The engine gives some 15 to 20 MB/s of short lines for one of its cores; the same lines out of its file cost a tenth.
Only what is over is read here: what comes next, other drivers, packed files and files out of reach are the engine's.
Source: moby daemon/logger/loggerutils/logfile.go, for the names of rotated files.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec

from towline.agent.streams.log_times import full_stamp

READ_BYTES = 256 * 1024
"""One read: some 2,000 short lines, which keep the event loop for a millisecond."""

MAX_ENTRY_BYTES = 1024 * 1024
"""A longer line of the file is no entry: the engine's hold 16 KiB of text, six times as much when all is escaped."""

MAX_FILES = 1000


class _Time(msgspec.Struct):
    time: str = ""


_time = msgspec.json.Decoder(_Time)


class LogFiles:
    """The files of one container's log, oldest first, held open so that a rotation takes nothing away."""

    def __init__(self, files: list[IO[bytes]]) -> None:
        self._files = files

    async def read(self, begin: bytes = b"") -> AsyncIterator[bytes]:
        """Yield whole lines of the files, from a stamp on or from a little before it."""
        files = self._files
        if begin:
            files = await asyncio.to_thread(_skip, files, begin)
        for file in files:
            rest = b""
            while data := await asyncio.to_thread(file.read, READ_BYTES):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield rest + data[:cut]
                    rest = data[cut:]
                elif len(rest) + len(data) <= MAX_ENTRY_BYTES:
                    rest += data


@contextmanager
def opened(path: str) -> Iterator[LogFiles | None]:
    """Open a log's files; None when they cannot all be read here."""
    with ExitStack() as stack:
        try:
            files = LogFiles(_open_all(Path(path), stack)) if path else None
        except OSError:
            files = None
        yield files


def _open_all(path: Path, stack: ExitStack) -> list[IO[bytes]]:
    """Open the newest file first: one that is rotated meanwhile is met again under its next name, and left out."""
    files: list[IO[bytes]] = []
    seen: set[tuple[int, int]] = set()
    for number in range(MAX_FILES):
        name = path if not number else path.with_name(f"{path.name}.{number}")
        try:
            file = stack.enter_context(name.open("rb", buffering=0))
        except FileNotFoundError:
            if not number or name.with_name(f"{name.name}.gz").exists():
                raise
            break
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            files.append(file)
    return files[::-1]


def _skip(files: list[IO[bytes]], begin: bytes) -> list[IO[bytes]]:
    """Leave out files, and the part of the first one left, that hold only older lines."""
    firsts = [_stamp_behind(file, 0)[1] for file in files]
    kept = next((index for index in range(len(files) - 1, 0, -1) if firsts[index] and firsts[index] <= begin), 0)
    _seek(files[kept], begin)
    return files[kept:]


def _seek(file: IO[bytes], begin: bytes) -> None:
    """Put a file's position at the last line known to be older than a stamp, by bisection."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > READ_BYTES:
        middle = (low + high) // 2
        at, stamp = _stamp_behind(file, middle)
        if stamp and stamp < begin:
            low = at
        else:
            high = middle
    file.seek(low)


def _stamp_behind(file: IO[bytes], offset: int) -> tuple[int, bytes]:
    """Return where the first whole line at or behind an offset begins, and its stamp; empty when there is none."""
    data = os.pread(file.fileno(), READ_BYTES, offset)
    start = 0 if not offset else data.find(b"\n") + 1
    end = data.find(b"\n", start)
    if end < 0 or (offset and not start):
        return offset, b""
    try:
        return offset + start, full_stamp(_time.decode(data[start:end]).time).encode()
    except msgspec.DecodeError:
        return offset, b""

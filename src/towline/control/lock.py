"""One server process per data folder: two on one SQLite file would each believe to be the only one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from towline.control.errors import StartupError

FILE = "server.lock"


class ProcessLock:
    """An exclusive lock on a file, given back by the system when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file = -1

    def __repr__(self) -> str:
        return f"<ProcessLock {self._path} {'held' if self._file >= 0 else 'free'}>"

    def acquire(self) -> None:
        """Take the lock. Raises: StartupError: another process holds it, or the folder cannot be written."""
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(f"the data folder {self._path.parent} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            other = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            os.close(self._file)
            self._file = -1
            raise StartupError(f"another server (process {other}) uses the data folder {self._path.parent}") from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

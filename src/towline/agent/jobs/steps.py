"""Steps: commands that run under a shim of their own, so that they outlive the agent and never run twice.

Each run of a step has a folder `runs/JOB/STEP.N`; what is in it is described in `agent/shim.py`. A later agent
process finds there whether the step was begun, still runs, has ended, or was cut off (the host lost power).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from towline.agent import files, shim
from towline.agent.errors import StorageError

POLL_INTERVAL = 0.1
"""Seconds between two looks at a step's output: what a person takes for at once."""

READ_BYTES = 256 * 1024
"""Output read per look; a build that prints faster is shown a little later."""

STDERR_TAIL_BYTES = 16 * 1024
"""End of a failed command's output that its error is made of."""


class Phase(StrEnum):
    """What is known of a run of a step."""

    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class Command:
    """What a step runs. `timeout`: seconds, 0 for none."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    timeout: float = 0.0


class Exit(msgspec.Struct, frozen=True):
    """How a command ended, as the shim wrote it."""

    code: int
    signal: int = 0
    cancelled: bool = False
    timed_out: bool = False
    error: str = ""
    at: float = 0.0


class _Started(msgspec.Struct, frozen=True):
    pid: int = 0
    command: int = 0


class Run:
    """One run of one step."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self._offsets = {"stdout": 0, "stderr": 0}

    def __repr__(self) -> str:
        return f"<Run {self.folder.name} {self.phase()}>"

    def phase(self) -> Phase:
        """Look at the folder."""
        if (self.folder / "exit").exists():
            return Phase.ENDED
        if self._is_held():
            return Phase.RUNNING
        # The exit may have been written between the two looks.
        if (self.folder / "exit").exists():
            return Phase.ENDED
        return Phase.CUT_OFF if (self.folder / "started").exists() else Phase.NEW

    def exit(self) -> Exit:
        """Return how it ended. Raises: StorageError: it has not, or the file is damaged."""
        try:
            return msgspec.json.decode((self.folder / "exit").read_bytes(), type=Exit)
        except (OSError, msgspec.DecodeError) as error:
            raise StorageError(f"{self.folder}/exit: {error}") from error

    def stop(self) -> None:
        """Ask the command to end. The shim sees to it that it does; without a shim the command is told itself."""
        started = self._started()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._is_ours(started.pid):
                os.kill(started.pid, signal.SIGTERM)
            elif self._is_ours(started.command):
                os.killpg(started.command, signal.SIGTERM)

    def new_output(self) -> bytes:
        """Return what the command has printed since the last call, both outputs, whole lines or the end."""
        return b"".join(self._read_new(name) for name in self._offsets)

    def output(self) -> bytes:
        """Return the standard output of a command that has ended."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "stdout").read_bytes()
        return b""

    def all_output(self) -> bytes:
        """Return everything that a command that has ended printed."""
        found = b""
        for name in self._offsets:
            with contextlib.suppress(FileNotFoundError):
                found += (self.folder / name).read_bytes()
        return found

    def error_tail(self) -> str:
        """Return the end of what a command printed on its standard error."""
        with contextlib.suppress(FileNotFoundError), (self.folder / "stderr").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - STDERR_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
        return ""

    def _read_new(self, name: str) -> bytes:
        with contextlib.suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
            file.seek(self._offsets[name])
            data = file.read(READ_BYTES)
            whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == READ_BYTES else b"")
            self._offsets[name] += len(whole)
            return whole
        return b""

    def _started(self) -> _Started:
        try:
            return msgspec.json.decode((self.folder / "started").read_bytes(), type=_Started)
        except (OSError, msgspec.DecodeError):
            return _Started()

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process holds our lock: its number alone may belong to another by now."""
        lock = (self.folder / "lock").stat()
        descriptors = Path(f"/proc/{pid}/fd")
        with contextlib.suppress(OSError):
            for each in descriptors.iterdir():
                with contextlib.suppress(OSError):  # closed since it was listed
                    found = each.stat()
                    if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
                        return True
        return False

    def _is_held(self) -> bool:
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


class Steps:
    """The runs of all jobs, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = files.private_folder(folder)

    def __repr__(self) -> str:
        return f"<Steps {self._folder}>"

    def last(self, job_id: str, name: str) -> Run | None:
        """Return the newest run of a step."""
        number = 0
        while (self._path(job_id, name, number + 1) / "order.json").exists():
            number += 1
        return Run(self._path(job_id, name, number), number) if number else None

    def prepare(self, job_id: str, name: str, command: Command) -> Run:
        """Write down a further run of a step. Nothing runs yet. Raises: StorageError."""
        last = self.last(job_id, name)
        run = Run(self._path(job_id, name, last.number + 1 if last else 1), last.number + 1 if last else 1)
        files.private_folder(run.folder)
        order = {
            "argv": list(command.argv),
            "cwd": str(command.folder),
            "environment": dict(command.environment),
            "timeout": command.timeout,
        }
        files.write_durably(run.folder / "order.json", msgspec.json.encode(order))
        return run

    async def finish(self, run: Run, on_output: Callable[[bytes], None]) -> Exit | None:
        """Start a run unless it was, and wait for its end. A cancelled caller leaves it running.

        Returns: how it ended; None when it was cut off: the machine or somebody killed it without a trace.
        """
        process = await self._launch(run) if run.phase() is Phase.NEW else None
        while True:
            ended = await _pause(process)
            phase = run.phase()
            on_output(run.new_output())
            if phase is Phase.ENDED:
                while rest := run.new_output():
                    on_output(rest)
                return run.exit()
            if phase is Phase.CUT_OFF or (ended and phase is Phase.NEW):
                return None
            if ended:  # the shim was killed, and its command lives on: from here on we look now and then
                process = None

    def forget(self, job_id: str) -> None:
        """Remove everything about a job."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)

    def known(self) -> tuple[str, ...]:
        """Return the jobs that have runs."""
        return tuple(sorted(path.name for path in self._folder.iterdir() if path.is_dir()))

    def _path(self, job_id: str, name: str, number: int) -> Path:
        return self._folder / job_id / f"{name}.{number}"

    async def _launch(self, run: Run) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            shim.__file__,
            str(run.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )


async def _pause(process: asyncio.subprocess.Process | None) -> bool:
    """Wait for the next look; returns True at once when the shim that we started has ended."""
    if process is None:
        await asyncio.sleep(POLL_INTERVAL)
        return False
    try:
        async with asyncio.timeout(POLL_INTERVAL):
            await process.wait()
    except TimeoutError:
        return False
    return True

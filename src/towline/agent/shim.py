"""Runs one step of a job outside the agent, so that the agent's death neither ends the step nor repeats it.

Started as `python -I -S shim.py FOLDER`; imports the standard library alone and nothing of this package. FOLDER holds

    order.json   argv, cwd, environment, timeout: written by the agent before
    lock         held (flock) by the shim and by the command as long as either lives
    started      JSON {pid, command, at}: made once, exclusively, before the command begins
    stdout, stderr
    exit         JSON {code, signal, cancelled, timed_out, at}: renamed into place when the command has ended

A second shim for the same folder ends without doing anything. SIGTERM ends the command: first kindly, then not.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

KILL_AFTER = 10
"""Seconds between SIGTERM and SIGKILL: Compose finishes the container that it is at."""

LOCK_TRIES, LOCK_PAUSE = 200, 0.01
"""Together two seconds: a look takes some microseconds, on a host that swaps perhaps a hundred milliseconds."""

ALREADY_STARTED = 3
"""Exit status of a shim that found the step begun."""


def main(folder: str) -> int:
    os.chdir(folder)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _take(lock):
        return ALREADY_STARTED
    try:
        started = os.open("started", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return ALREADY_STARTED
    with open("order.json", "rb") as file:  # noqa: PTH123 - pathlib costs a third of the start
        order = json.load(file)
    return _Step(order, lock, started).run()


def _take(lock: int) -> bool:
    """Take the lock. An agent that looks whether it is held holds it for a moment itself: that is no other shim."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if os.path.exists("started"):  # noqa: PTH110 - pathlib costs a third of the start
                return False
            time.sleep(LOCK_PAUSE)
        else:
            return True
    return False


class _Step:
    def __init__(self, order: dict[str, Any], lock: int, started: int) -> None:
        self.order = order
        self.lock = lock
        self.started = started
        self.command: subprocess.Popen[bytes] | None = None
        self.cancelled = False
        self.timed_out = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The name must be on disk before the command begins: after a power cut nothing may run twice unseen.
        _sync_folder()
        try:
            self.command = self._begin()
        except OSError as error:
            return self._finish(127, f"{self.order['argv'][0]}: {error.strerror}")
        _write_all(self.started, {"pid": os.getpid(), "command": self.command.pid, "at": time.time()})
        if self.cancelled:
            self._end_command(signal.SIGTERM)
        elif self.order.get("timeout"):
            signal.alarm(max(1, int(self.order["timeout"])))
        return self._finish(self._wait(), "")

    def _begin(self) -> "subprocess.Popen[bytes]":
        with open("stdout", "ab") as out, open("stderr", "ab") as err:  # noqa: PTH123
            return subprocess.Popen(  # noqa: S603 - an argument list, written by the agent itself
                self.order["argv"],
                cwd=self.order["cwd"],
                env=self.order["environment"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=(self.lock,),
            )

    def _wait(self) -> int:
        assert self.command is not None
        return self.command.wait()

    def _on_terminate(self, *_: object) -> None:
        self.cancelled = True
        self._end_command(signal.SIGTERM)

    def _on_alarm(self, *_: object) -> None:
        if self.cancelled or self.timed_out:
            self._end_command(signal.SIGKILL)
            return
        self.timed_out = True
        self._end_command(signal.SIGTERM)

    def _end_command(self, number: int) -> None:
        if self.command is None:
            return
        try:
            os.killpg(self.command.pid, number)
        except ProcessLookupError:
            return
        if number == signal.SIGTERM:
            signal.alarm(KILL_AFTER)

    def _finish(self, code: int, error: str) -> int:
        signal.alarm(0)
        outcome = {
            "code": code if code >= 0 else 128 - code,
            "signal": -code if code < 0 else 0,
            "cancelled": self.cancelled,
            "timed_out": self.timed_out,
            "error": error,
            "at": time.time(),
        }
        aside = os.open("exit.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        _write_all(aside, outcome)
        os.rename("exit.new", "exit")  # noqa: PTH104
        _sync_folder()
        return 0


def _write_all(descriptor: int, value: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(value).encode())
    os.fsync(descriptor)
    os.close(descriptor)


def _sync_folder() -> None:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

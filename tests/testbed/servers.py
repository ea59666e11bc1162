"""A server process that one test starts with a configuration of its own, in a temporary folder on a free port."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed import processes
from tests.testbed.requirement import Missing

READY_TIMEOUT = 20.0
# Debian keeps daemons where a plain user's search path does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])


def program(part: str, command: str, package: str) -> str:
    """Path of an installed program. Raises: Missing."""
    found = shutil.which(command, path=SEARCH_PATH)
    if found is None:
        raise Missing(part, f"there is no {command}", f"apt-get install {package}")
    return found


@dataclass(slots=True)
class Server:
    """One server. `start` it, and end it with `stop`; in between tests may kill, freeze or restart it."""

    name: str
    argv: Sequence[object]
    folder: Path
    port: int
    host: str = "127.0.0.1"
    user: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __repr__(self) -> str:
        state = f"pid {self.process.pid}" if self.process and self.is_alive else "stopped"
        return f"<{self.name} on {self.host}:{self.port}, {state}>"

    @property
    def address(self) -> str:
        """Host and port as they stand in a URL."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """What the process wrote to its standard streams."""
        return self.folder / f"{self.name}.log"

    @property
    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, ready: Callable[[], bool] | None = None) -> "Server":
        """Start and wait until the port accepts. Raises: DidNotStart, with the end of the log."""
        if self.user:
            processes.open_path_to(self.folder)  # each run of pytest closes the folder above those of all runs
        self.process = processes.spawn(self.argv, self.log, cwd=self.folder, user=self.user)
        try:
            processes.wait_until(
                ready or (lambda: processes.accepts(self.port, self.host)),
                self.name,
                timeout=READY_TIMEOUT,
                log=self.log,
                alive=lambda: self.is_alive,
            )
        except processes.DidNotStart:
            self.stop()
            raise
        return self

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """End the process and everything it forked; harmless when it ended before."""
        if self.process is None:
            return
        processes.end(self.process.pid, first=first)
        self.process.wait()
        self._signal_group(signal.SIGKILL)
        self.process = None

    def kill(self) -> None:
        """SIGKILL: connections break without a word."""
        self._signal_group(signal.SIGKILL)
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, then start on the same port and folder."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing moves, like a network that went silent."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return  # all of them ended already

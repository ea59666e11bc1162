"""Starting, finding and ending processes. Knows pids, logs and ports; nothing of what the processes are for."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

# Below the range from which Linux takes ports for outgoing connections, so that nobody grabs one in between.
PORT_RANGE = range(20_000, 30_000)
FIXED_PORTS = frozenset([*range(22_379, 22_400), *range(26_443, 26_460)])
"""Of the clusters of the test bed: their etcd, their API servers, the metrics server."""
WORKERS = 4
"""Test processes side by side that choose out of different ports; more of them share."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = PORT_RANGE[_WORKER % WORKERS :: WORKERS]
_given: set[int] = set()
PORT_ATTEMPTS = 200
POLL_INTERVAL = 0.05
STOP_TIMEOUT = 15.0
LOG_TAIL_CHARACTERS = 2_000


class DidNotStart(RuntimeError):
    """A process ended, or was not ready in time; the message carries the end of its log."""


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that nobody listens on, none twice: who asks for several listens on them later.

    Tests that run side by side choose out of different ports. Strangers may still take one first.
    """
    for _ in range(PORT_ATTEMPTS):
        port = random.choice(_PORTS)
        if port in _given or port in FIXED_PORTS:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise DidNotStart(f"no free port on {host} after {PORT_ATTEMPTS} attempts")


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts TCP connections on the port."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def spawn(
    argv: Sequence[object],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with nothing inherited but its log file.

    Args: env: added to the environment. user: run as this user; needs root.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            user=user,
            group=user,
            extra_groups=[] if user else None,
            start_new_session=True,
        )


def detach(process: subprocess.Popen[bytes]) -> int:
    """Let a process outlive us: without this, Python complains that nobody waited for it. Returns: its pid."""
    process.returncode = 0
    return process.pid


def wait_until(ready: Callable[[], bool], what: str, *, timeout: float, log: Path, alive: Callable[[], bool]) -> None:
    """Poll until ready. Raises: DidNotStart: the process ended first, or the time is over."""
    deadline = time.monotonic() + timeout
    while not ready():
        if not alive():
            raise DidNotStart(f"{what} ended at once; the end of its log:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise DidNotStart(f"{what} was not ready after {timeout:.0f} s; the end of its log:\n{tail(log)}")
        time.sleep(POLL_INTERVAL)


def tail(log: Path) -> str:
    """The last part of a log, or nothing when there is none."""
    return log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if log.exists() else ""


def start_moment(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None when it is gone or a zombie.

    With its pid this names a process for good: pids come again, moments do not. One whose first thread alone is
    a zombie still holds its ports: killed threads end one after the other.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, threads, moment = fields[0], int(fields[17]), fields[19]
    return None if state == "Z" and threads <= 1 else moment


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Every process with its arguments, kernel threads and zombies left out."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if words := line.split("\0")[:-1]:
            yield int(folder.name), words


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def remember(pid_file: Path, pid: int) -> None:
    """Write down a process so that a later run finds it."""
    pid_file.write_text(f"{pid} {start_moment(pid)}\n")


def recall(pid_file: Path) -> int | None:
    """The pid of a remembered process if that very process still runs."""
    try:
        pid, moment = pid_file.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if start_moment(int(pid)) == moment else None


def end(pid: int, *, timeout: float = STOP_TIMEOUT, first: signal.Signals = signal.SIGTERM) -> None:
    """End one process: politely, then by SIGKILL when the time is over."""
    moment = start_moment(pid)
    for step in (first, signal.SIGKILL):
        if moment is None or start_moment(pid) != moment:
            return
        os.kill(pid, step)
        deadline = time.monotonic() + timeout
        while start_moment(pid) == moment and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)


def is_root() -> bool:
    """Tell whether we may do everything."""
    return os.geteuid() == 0


def open_path_to(folder: Path) -> None:
    """Let other users enter the folders above a temporary folder, so that a server of theirs can reach it."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith(("/tmp/", "/var/tmp/")):
            parent.chmod(parent.stat().st_mode | 0o011)

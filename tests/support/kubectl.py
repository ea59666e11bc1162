"""kubectl and helm as people run them: one kubeconfig, one home, one cache for each client.

client.succeed("get", "ns"); with client.going("get", "pods", "-w") as watch: watch.line("web")
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.testbed.kubectl import Clients

PATIENCE = 30.0


@dataclass(frozen=True)
class Client:
    """One kubectl with a home of its own."""

    clients: Clients
    version: str
    home: Path

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of this machine's own configuration, and no cache of another client."""
        return {
            "PATH": f"{self.clients.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "KUBECONFIG": str(self.config),
            "KUBECACHEDIR": str(self.home / "cache"),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }

    def command(self, *words: str) -> list[str]:
        return [str(self.clients.kubectl(self.version)), *words]

    def run(
        self, *words: str, stdin: str | bytes | None = None, timeout: float = PATIENCE, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end."""
        return self.program(*self.command(*words), stdin=stdin, timeout=timeout, **more)

    def program(
        self, *argv: str, stdin: str | bytes | None = None, timeout: float = PATIENCE, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run any program with this client's environment."""
        fed = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            argv, input=fed, stdin=subprocess.DEVNULL if fed is None else None, capture_output=True,
            env=self.environment | (env or {}), cwd=self.home, timeout=timeout,
        )  # fmt: skip
        texts = (done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        return subprocess.CompletedProcess(argv, done.returncode, *texts)

    def raw(self, *words: str, stdin: bytes | None = None, timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        """Run kubectl on bytes. Returns: exit code, standard output, standard error."""
        done = subprocess.run(
            self.command(*words), input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True, env=self.environment, cwd=self.home, timeout=timeout,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def succeed(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which must exit with 0."""
        done = self.run(*words, **options)
        assert done.returncode == 0, f"$ kubectl {' '.join(words)}\n{done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def fail(self, *words: str, says: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which must not exit with 0, and must say something."""
        done = self.run(*words, **options)
        assert done.returncode != 0, f"$ kubectl {' '.join(words)}\n{done.stdout}{done.stderr}"
        assert says in done.stderr, f"$ kubectl {' '.join(words)}\n{done.stderr}"
        return done

    def helm(self, *words: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run helm, which must exit with 0."""
        done = self.program(str(self.clients.helm), *words, timeout=timeout)
        assert done.returncode == 0, f"$ helm {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done

    def going(self, *words: str) -> Going:
        """Start kubectl and let it go on."""
        return Going(self.command(*words), self.environment, self.home)


class Going:
    """A program that goes on: each line of what it prints comes with the moment it came."""

    def __init__(self, argv: list[str], environment: dict[str, str], folder: Path) -> None:
        self.argv = argv
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=folder
        )
        self._lines: queue.Queue[tuple[float, str]] = queue.Queue()
        self.printed: list[str] = []
        self.complained: list[str] = []
        self.ended_at = 0.0
        """When its output ended."""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read_out, self._read_err)]
        for thread in self._threads:
            thread.start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put((time.monotonic(), line.decode(errors="replace").rstrip("\n")))
        self.ended_at = time.monotonic()

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.complained.append(line.decode(errors="replace"))

    @property
    def stderr(self) -> str:
        return "".join(self.complained)

    def line(self, word: str = "", *, timeout: float = PATIENCE) -> tuple[float, str]:
        """Wait for a line that holds a word. Returns: when it came, and the line."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                moment, line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                told = "\n".join(self.printed[-20:])
                raise AssertionError(f"no line with {word!r}; it printed:\n{told}\nand said:\n{self.stderr}") from None
            self.printed.append(line)
            if word in line:
                return moment, line

    def says(self, word: str, *, timeout: float = PATIENCE) -> str:
        """Wait until standard error holds a word."""
        deadline = time.monotonic() + timeout
        while word not in self.stderr:
            assert time.monotonic() < deadline, f"no {word!r} in:\n{self.stderr}"
            time.sleep(0.02)
        return self.stderr

    def rest(self) -> list[str]:
        """Every line not yet taken, after the end."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get()[1])
        return found

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def interrupt(self) -> int:
        """Ctrl-C. Returns: the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self, timeout: float = PATIENCE) -> int:
        code = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

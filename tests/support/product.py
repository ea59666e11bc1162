"""The product as people start it: `towline up` in a process of its own, with a user who signed in.

with Product(folder) as product:
    product.set_up("ada", PASSWORD)
    product.run("towline clusters")
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

PASSWORD = "correct horse battery staple"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
POLL = 0.05
LAST_WORDS = "Ctrl-C stops it."
LOCAL = re.compile(r"http://127\.0\.0\.1:(\d+)")
TOKEN = re.compile(r"twx_[0-9A-Za-z]+")


class Product:
    """One `towline up`, its folder, and what it printed."""

    def __init__(self, folder: Path, *, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "TOWLINE_CONFIG_DIR": str(folder / "config"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
            **(environment or {}),
        }
        self.printed: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, port: int = 0) -> None:
        """Start it and wait until it has printed where it runs."""
        command = ["towline", "up", "--folder", str(self.folder / "up"), "--listen", f"127.0.0.1:{port}"]
        self.printed.clear()
        self._process = subprocess.Popen(
            command, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_for(lambda: LAST_WORDS in self.text, "towline up to print its address", START_TIMEOUT, self)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.printed.append(line)

    def stop(self) -> int:
        """Ctrl-C. Returns: the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            self._reader.join()
            assert process.stderr is not None
            process.stderr.close()

    @property
    def text(self) -> str:
        return "".join(self.printed)

    @property
    def url(self) -> str:
        found = LOCAL.search(self.text)
        assert found, self.text
        return f"http://127.0.0.1:{found[1]}"

    @property
    def setup_token(self) -> str:
        found = TOKEN.search(self.text)
        assert found, f"no setup token was printed:\n{self.text}"
        return found[0]

    def set_up(self, username: str, password: str = PASSWORD) -> None:
        """Make the first user, by the API."""
        body = {"token": self.setup_token, "username": username, "password": password}
        answer = httpx.post(f"{self.url}/api/v1/setup", json=body, timeout=30)
        assert answer.status_code == 201, answer.text

    def run(self, command: str, *, cwd: Path | None = None, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a shell line as a user at a terminal's side would, without one."""
        return subprocess.run(
            ["bash", "-c", command], env=self.environment, cwd=cwd or self.folder, timeout=timeout,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 60.0, product: Product | None = None) -> Any:
    """Wait for a condition of another process; it may raise AssertionError or a transport error until then."""
    deadline = time.monotonic() + timeout
    last: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (AssertionError, httpx.TransportError) as error:
            last = error
        time.sleep(POLL)
    printed = f"\nit printed:\n{product.text}" if product else ""
    raise AssertionError(f"gave up after {timeout:.0f} s waiting for {what}; last: {last}{printed}")

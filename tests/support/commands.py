"""Commands as people run them beside a `Product`: a shell of words, programs that go on, and a terminal."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from tests.support.product import Product

DONE, FAILED, USAGE, NOT_ALLOWED, NOT_FOUND, AWAY = range(6)
PATIENCE = 60.0


def succeed(product: Product, command: str, **options: Any) -> str:
    """Run a command that must work. Returns: its standard output."""
    done = product.run(command, **options)
    assert done.returncode == DONE, f"$ {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def answer(product: Product, command: str) -> Any:
    """Run a command with `-o json` and return what it printed."""
    return json.loads(succeed(product, f"{command} -o json"))


def fail(product: Product, command: str, code: int, *words: str) -> str:
    """Run a command that must end with an exit code, and say some words. Returns: its standard error."""
    done = product.run(command)
    assert done.returncode == code, f"$ {command}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr


class Going:
    """A program that goes on: its standard error is collected, signals reach it."""

    def __init__(self, product: Product, *argv: str) -> None:
        self.said: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            argv, env=product.environment, cwd=product.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.said.append(line)
                self._changed.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.said)

    def says(self, word: str) -> str:
        """Wait until it says something. Returns: everything said so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: word in self.text, PATIENCE), f"no {word!r} in:\n{self.text}"
            return self.text

    def interrupt(self) -> int:
        """Ctrl-C. Returns: the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Terminal:
    """A program on a terminal of its own; its environment names another size, as that of many shells does."""

    def __init__(self, product: Product, *argv: str, columns: int = 100, rows: int = 30) -> None:
        self.seen = b""
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.first_modes = self.modes()
        """Before the program began."""
        environment = product.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self._process = subprocess.Popen(
            argv, env=environment, cwd=product.folder, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[Any]:
        """How the terminal treats what passes; a program that made it raw has to undo that."""
        return termios.tcgetattr(self._ours)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def shows(self, text: str) -> None:
        """Wait until something is on the screen that was not there at the last call."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._ours], [], [], max(left, 0))
            assert ready, f"no {text!r} in:\n{self.seen.decode(errors='replace')}"
            self.seen += os.read(self._ours, 65536)
        self.seen = self.seen.partition(text.encode())[2]

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def terminal(product: Product, *argv: str, columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
    """Run a program on a terminal; end it at last."""
    shown = Terminal(product, *argv, columns=columns, rows=rows)
    try:
        yield shown
    finally:
        shown.close()

"""A terminal that was made raw is as before, however the program ends. The program is a process of its own."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest

HELD = """
import asyncio, signal, sys
from towline.cli.terminal import raw_terminal

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored below nohup

async def main():
    with raw_terminal():
        print("raw", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read, 1)
        raise SystemExit(3)

asyncio.run(main())
"""


class Screen:
    """A terminal, and a program that waits on it for a key."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        self.first_modes = self.modes()
        words = [sys.executable, "-c", HELD]
        self.program = subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True)
        os.close(theirs)
        assert self.program.stdout is not None
        assert self.program.stdout.readline() == b"raw\n"
        assert self.modes() != self.first_modes

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.ours)

    def close(self) -> None:
        self.program.kill()
        self.program.communicate()
        os.close(self.ours)


@pytest.fixture
def screen() -> Iterator[Screen]:
    with contextlib.closing(Screen()) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_ends_the_program_leaves_the_terminal_as_before(screen: Screen, number: signal.Signals) -> None:
    screen.program.send_signal(number)
    assert screen.program.wait(20) == -number
    assert screen.modes() == screen.first_modes


def test_error_within_leaves_the_terminal_as_before(screen: Screen) -> None:
    os.write(screen.ours, b"x")
    assert screen.program.wait(20) == 3
    assert screen.modes() == screen.first_modes

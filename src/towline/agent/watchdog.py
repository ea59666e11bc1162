"""Ends the process when its event loop stands still, and tells systemd that it does not.

A thread of its own looks at a moment that the loop moves on; when it stays, nothing inside the loop could help.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from towline.aio.clock import REAL_CLOCK, Clock, Timer

TICK = 5.0
"""Seconds between two signs of life."""

EXIT_STUCK = 70
"""Exit status: the supervisor starts the agent again."""


class Watchdog:
    """Watches the running event loop. `limit`: seconds that it may stand still."""

    def __init__(
        self,
        limit: float,
        *,
        sign: Path | None = None,
        clock: Clock = REAL_CLOCK,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`sign` is a file that the running loop writes, with what it runs, for a probe that looks from outside."""
        self._sign = sign
        self._limit = limit
        self._clock = clock
        self._notify = Notifier(os.environ if environment is None else environment)
        self._alive_at = time.monotonic()
        self._timer: Timer | None = None
        self._stopped = threading.Event()

    def start(self, end: Callable[[], None] | None = None) -> None:
        """Begin. Args: end: instead of ending the process, for tests."""
        self._tick()
        self._notify.send("READY=1")
        threading.Thread(target=self._watch, args=(end or _end_process,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._notify.send("STOPPING=1")
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._alive_at = time.monotonic()
        self._notify.send("WATCHDOG=1")
        if self._sign is not None:
            with contextlib.suppress(OSError):  # a full disk is no reason to be called dead by this process itself
                self._sign.write_text(f"{len(asyncio.all_tasks())} tasks\n")
        self._timer = self._clock.call_later(TICK, self._tick)

    def _watch(self, end: Callable[[], None]) -> None:
        while not self._stopped.wait(min(TICK, self._limit / 2)):
            # A machine that slept moves no clock of ours: CLOCK_MONOTONIC stands still with it.
            if time.monotonic() - self._alive_at > self._limit:
                end()
                return


class Notifier:
    """systemd's notification socket; silent without one. Source: sd_notify(3)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def send(self, text: str) -> None:
        """Say something; nobody waits for an answer."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return  # the manager is gone; it will notice by itself


def _end_process() -> None:
    print("the agent's event loop stands still; ending the process", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(EXIT_STUCK)

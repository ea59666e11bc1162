"""The watchdog: it ends a process whose loop stands still, and leaves a living one alone."""

import asyncio
import threading
import time

from towline.agent.watchdog import Notifier, Watchdog


async def test_loop_that_stands_still_is_ended() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.2, environment={})
    watchdog.start(ended.set)

    deadline = time.monotonic() + 30
    while not ended.is_set() and time.monotonic() < deadline:
        ended.wait(0.05)  # on the loop's own thread: nothing else can run

    watchdog.stop()
    assert ended.is_set()


async def test_living_loop_is_left_alone() -> None:
    ended = threading.Event()
    watchdog = Watchdog(60.0, environment={})
    watchdog.start(ended.set)
    await asyncio.sleep(0)
    watchdog.stop()

    assert not ended.is_set()


def test_nobody_is_told_without_a_supervisor() -> None:
    Notifier({}).send("READY=1")
    Notifier({"NOTIFY_SOCKET": "/nothing/here"}).send("READY=1")

"""A session that is recorded never waits; what is lost is marked, or ends it."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.control.recordings.files import Reader, Writer
from towline.control.recordings.policy import Mode, OnLoss, Policy, Session
from towline.control.recordings.recorder import Limits, Recorder
from towline.control.sealing.ring import KeyRing
from towline.control.sealing.service import CannotOpen, Sealer

SESSION = Session("kubernetes", "clu_1", "prod", namespace="shop", target="web", argv=["sh"], tty=True)
LIMITS = Limits(shown_bytes=10_000, seconds=60.0, queue_bytes=2000)


class SlowWriter(Writer):
    """A disk that takes nothing until it is told to, or fails."""

    def __init__(self, path: Path, sealer: Sealer) -> None:
        super().__init__(path, sealer, "org_1", "rec_1")
        self.busy, self.free = threading.Event(), threading.Event()
        self.free.set()
        self.error: OSError | None = None

    def append(self, lines: bytes) -> None:
        self.busy.set()
        assert self.free.wait(10)
        if self.error is not None:
            raise self.error
        super().append(lines)


class Taken:
    """A recorder that runs, with everything around it."""

    def __init__(self, folder: Path, policy: Policy, executor: ThreadPoolExecutor, owner: TaskOwner) -> None:
        self.clock = SimulatedClock()
        self.sealer = Sealer(KeyRing({"k": os.urandom(32)}))
        self.path = folder / "rec_1"
        self.recorder = Recorder("rec_1", SESSION, policy, LIMITS, clock=self.clock, executor=executor)
        self.recorder.writer = self.writer = SlowWriter(self.path, self.sealer)
        self.cut: list[str] = []
        self.ended = asyncio.Event()
        self.recorder.begin(self.cut.append)
        owner.spawn("run", self.recorder.run(self._ended))

    async def _ended(self, recorder: Recorder) -> None:
        self.ended.set()

    async def finished(self) -> list[list[object]]:
        self.recorder.end()
        async with asyncio.timeout(10):
            await self.ended.wait()
        return self.lines()

    def lines(self) -> list[list[object]]:
        reader = Reader(self.path, self.sealer, "org_1", "rec_1")
        return [json.loads(one) for one in b"".join(reader.chunks()).splitlines()]

    async def stuck(self) -> None:
        """Have the disk hang on something."""
        self.writer.free.clear()
        self.recorder.output(b"x")
        self.recorder._much.set()
        await asyncio.to_thread(self.writer.busy.wait, 10)


Take = Callable[..., Taken]


@pytest_asyncio.fixture
async def take(tmp_path: Path) -> AsyncIterator[Take]:
    async with TaskOwner("test") as owner:
        with ThreadPoolExecutor(1) as executor:
            yield lambda **rules: Taken(tmp_path, Policy(Mode.ALL, **rules), executor, owner)


async def test_what_was_shown_comes_back_with_its_times(take: Take) -> None:
    taken = take()
    taken.recorder.resized(120, 40)
    taken.recorder.output(b"$ ")
    await taken.clock.advance(1.5)
    taken.recorder.input(b"secret")
    taken.recorder.resized(90, 20)
    taken.recorder.output("grün".encode())
    assert await taken.finished() == [[0.0, "o", "$ "], [1.5, "r", "90x20"], [1.5, "o", "grün"]]
    assert (taken.recorder.columns, taken.recorder.rows, taken.recorder.state) == (120, 40, "whole")
    assert taken.recorder.seconds == 1.5
    assert taken.path.stat().st_mode & 0o777 == 0o600


async def test_keys_are_kept_only_when_the_policy_says_so(take: Take) -> None:
    taken = take(keys=True)
    taken.recorder.input(b"ls\r")
    assert await taken.finished() == [[0.0, "i", "ls\r"]]
    assert b"typed" in taken.recorder.note


async def test_a_disk_that_hangs_drops_with_a_mark_and_nobody_waits(take: Take) -> None:
    taken = take()
    await taken.stuck()
    for _ in range(5):
        taken.recorder.output(b"y" * 900)
    assert taken.recorder.dropped_bytes == 2700
    assert taken.cut == []
    taken.writer.free.set()
    lines = await taken.finished()
    assert lines[-1] == [0.0, "m", "2700 bytes are missing: the disk was too slow"]
    assert taken.recorder.state == "partial"


async def test_a_disk_that_hangs_ends_a_session_that_may_not_go_unrecorded(take: Take) -> None:
    taken = take(on_loss=OnLoss.END)
    await taken.stuck()
    for _ in range(5):
        taken.recorder.output(b"y" * 900)
    assert taken.cut == ["the disk takes recordings too slowly, and this cluster allows nothing unrecorded"]
    taken.writer.free.set()
    await taken.finished()
    assert taken.recorder.state == "partial"


@pytest.mark.parametrize(("on_loss", "cuts"), [(OnLoss.CONTINUE, 0), (OnLoss.END, 1)])
async def test_limits_of_time_and_size_are_losses(take: Take, on_loss: OnLoss, cuts: int) -> None:
    taken = take(on_loss=on_loss)
    taken.recorder.output(b"before")
    await taken.clock.advance(61)
    taken.recorder.output(b"after")
    assert len(taken.cut) == cuts
    lines = await taken.finished()
    assert [one[1:] for one in lines] == [
        ["o", "before"], ["m", "recording stopped: the time limit of recordings was reached"],
    ]  # fmt: skip
    assert taken.recorder.state == "partial"


async def test_the_size_limit_counts_everything(take: Take) -> None:
    taken = take()
    for _ in range(20):
        taken.recorder.output(b"z" * 900)
        async with asyncio.timeout(10):
            while taken.recorder._queued:
                taken.recorder._much.set()
                await asyncio.sleep(0)
    await taken.finished()
    assert taken.recorder.shown_bytes == 9900
    assert "size limit" in taken.recorder.reason


@pytest.mark.parametrize(("on_loss", "cuts"), [(OnLoss.CONTINUE, 0), (OnLoss.END, 1)])
async def test_a_full_disk_breaks_the_recording(take: Take, on_loss: OnLoss, cuts: int) -> None:
    taken = take(on_loss=on_loss)
    taken.writer.error = OSError(28, "No space left on device")
    taken.recorder.output(b"x")
    taken.recorder._much.set()
    await asyncio.to_thread(taken.writer.busy.wait, 10)
    async with asyncio.timeout(10):
        while taken.recorder.is_recording:
            await asyncio.sleep(0)
    assert len(taken.cut) == cuts
    await taken.finished()
    assert (taken.recorder.state, "No space left" in taken.recorder.reason) == ("broken", True)


async def test_a_changed_moved_or_cut_file_is_seen(take: Take, tmp_path: Path) -> None:
    taken = take()
    taken.recorder.output(b"one")
    await taken.finished()
    data = taken.path.read_bytes()
    whole = Reader(taken.path, taken.sealer, "org_1", "rec_1")
    assert list(whole.chunks()) == [b'[0.0,"o","one"]\n']
    assert whole.is_whole
    with pytest.raises(CannotOpen):
        list(Reader(taken.path, taken.sealer, "org_1", "rec_2").chunks())
    taken.path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(CannotOpen):
        list(Reader(taken.path, taken.sealer, "org_1", "rec_1").chunks())
    taken.path.write_bytes(data[:-3])
    cut = Reader(taken.path, taken.sealer, "org_1", "rec_1")
    assert list(cut.chunks()) == [b'[0.0,"o","one"]\n']
    assert not cut.is_whole
    assert b"one" not in data


def test_policies_say_what_they_want() -> None:
    quiet = Session("kubernetes", "c", "prod", namespace="shop", takes_input=False)
    assert not Policy().wants(SESSION)
    assert Policy(Mode.INTERACTIVE).wants(SESSION)
    assert not Policy(Mode.INTERACTIVE).wants(quiet)
    assert Policy(Mode.ALL).wants(quiet)
    assert not Policy(Mode.ALL, namespaces=("bank",)).wants(quiet)
    assert Policy(Mode.ALL, namespaces=("bank",)).wants(Session("docker", "c", "host"))
    changed = Policy().with_rules({"mode": "all", "namespaces": ["a"], "keep_days": 3, "keys": None})
    assert changed == Policy(Mode.ALL, ("a",), keep_days=3)

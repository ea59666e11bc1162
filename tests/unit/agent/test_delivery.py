"""Delivery of progress and results: in order, again after each connect, and no more once stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from towline.agent.journal import Journal
from towline.agent.uplink.delivery import Delivery
from towline.aio.clock import settle
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import TunnelClosed
from towline.wire import link


class Line:
    """The sending half of a session."""

    def __init__(self) -> None:
        self.sent: list[link.Message] = []
        self.is_cut = False

    async def send(self, message: link.Message) -> None:
        if self.is_cut:
            raise TunnelClosed("cut")
        self.sent.append(message)

    def shown(self) -> list[Any]:
        words: list[Any] = []
        for message in self.sent:
            match message:
                case link.JobsHeld():
                    words.append(("held", message.running, message.finished))
                case link.JobAccepted():
                    words.append(("accepted", message.job_id))
                case link.JobProgress():
                    words.append(("progress", [event.seq for event in message.events]))
                case link.JobResult():
                    words.append(("result", message.outcome))
        return words


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


@pytest.fixture
async def delivery(journal: Journal) -> AsyncIterator[Delivery]:
    async with TaskOwner("test") as owner:
        yield Delivery(journal, owner)
    journal.close()


def accept(journal: Journal, job_id: str) -> None:
    job = link.Job(job_id=job_id, kind="k", fence=1, attempt=1, timeout=1, payload=msgspec.Raw(b"{}"))
    journal.accept(job, "shop", 1.0)


def say(journal: Journal, job_id: str, count: int = 1) -> None:
    journal.add_events(job_id, [link.JobEvent(seq=0, at=1.0, stage="s", text="t")] * count)


def finish(journal: Journal, job_id: str) -> None:
    journal.finish(link.JobResult(job_id=job_id, fence=1, outcome="succeeded", finished_at=1.0))


async def connect(delivery: Delivery) -> Line:
    line = Line()
    await delivery.connected(line)
    await settle()
    return line


async def test_progress_comes_before_the_result_and_each_event_once(delivery: Delivery, journal: Journal) -> None:
    line = await connect(delivery)
    accept(journal, "a")
    await delivery.accepted("a")
    say(journal, "a", 2)
    delivery.publish("a")
    await settle()
    say(journal, "a")
    finish(journal, "a")
    delivery.publish("a")
    await settle()

    assert line.shown() == [
        ("held", (), ()), ("accepted", "a"), ("progress", [1, 2]), ("progress", [3]), ("result", "succeeded"),
    ]  # fmt: skip


async def test_new_link_is_told_everything_that_is_not_stored(delivery: Delivery, journal: Journal) -> None:
    accept(journal, "done")
    say(journal, "done")
    finish(journal, "done")
    accept(journal, "going")
    say(journal, "going")

    for _ in range(2):
        line = await connect(delivery)
        assert line.shown() == [
            ("held", ("going",), ("done",)), ("progress", [1]), ("progress", [1]), ("result", "succeeded"),
        ]  # fmt: skip

    journal.mark_stored("done", 2.0)
    delivery.stored("done")
    line = await connect(delivery)
    assert line.shown() == [("held", ("going",), ()), ("progress", [1])]


async def test_repeated_order_is_answered_with_its_result(delivery: Delivery, journal: Journal) -> None:
    accept(journal, "a")
    finish(journal, "a")
    line = await connect(delivery)
    line.sent.clear()

    await delivery.accepted("a")
    await settle()

    assert line.shown() == [("accepted", "a"), ("result", "succeeded")]


async def test_cut_line_loses_nothing(delivery: Delivery, journal: Journal) -> None:
    line = await connect(delivery)
    accept(journal, "a")
    line.is_cut = True
    say(journal, "a", 3)
    delivery.publish("a")
    await settle()
    delivery.disconnected()
    delivery.publish("a")

    line = await connect(delivery)

    assert line.shown() == [("held", ("a",), ()), ("progress", [1, 2, 3])]

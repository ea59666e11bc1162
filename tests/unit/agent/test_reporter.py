"""Progress of a job: gathered, numbered, redacted, bounded."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from towline.agent.jobs.reporter import GATHER_INTERVAL, MAX_EVENTS, RETRY_INTERVAL, TRANSFER_INTERVAL, Reporter
from towline.agent.journal import Journal
from towline.aio.clock import SimulatedClock
from towline.wire import link


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    payload = msgspec.Raw(b"{}")
    made.accept(link.Job(job_id="j", kind="k", fence=1, attempt=1, timeout=1, payload=payload), "shop", 1.0)
    yield made
    made.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def published() -> list[str]:
    return []


@pytest.fixture
def reporter(journal: Journal, clock: SimulatedClock, published: list[str]) -> Reporter:
    return Reporter("j", journal, published.append, clock=clock)


async def test_events_wait_a_moment_and_are_published_together(
    reporter: Reporter, journal: Journal, clock: SimulatedClock, published: list[str]
) -> None:
    reporter.say("pulling", "a")
    reporter.say("pulling", "b")
    assert journal.events("j") == ()

    await clock.advance(GATHER_INTERVAL)

    assert [event.text for event in journal.events("j")] == ["a", "b"]
    assert published == ["j"]


async def test_secrets_are_replaced_by_their_names(reporter: Reporter, journal: Journal) -> None:
    reporter.hide({"TOKEN": "s3cret-value", "SHORT": "ab"})

    reporter.say("starting", "failed with s3cret-value in ab")
    reporter.close()

    assert journal.events("j")[0].text == "failed with ‹TOKEN› in ab"


async def test_output_of_compose_becomes_events_of_its_services(reporter: Reporter, journal: Journal) -> None:
    lines = (
        b'{"id":"Container shop-web-1","status":"Created"}\n'
        b'{"level":"warning","msg":"the attribute version is obsolete"}\n'
        b'{"error":true,"message":"no such image"}\n'
        b"plain words\n\n"
    )

    for at in range(0, len(lines), 7):
        reporter.take_output("starting", "shop", lines[at : at + 7])
    reporter.close()

    events = journal.events("j")
    assert [(event.text, event.service, event.level) for event in events] == [
        ("shop-web-1 Created", "web", "info"),
        ("the attribute version is obsolete", "", "warning"),
        ("no such image", "", "error"),
        ("plain words", "", "info"),
    ]
    assert reporter.errors == ["no such image"]
    reporter.begin_command()
    assert reporter.errors == []


async def test_transfers_are_told_once_a_second(reporter: Reporter, journal: Journal, clock: SimulatedClock) -> None:
    await clock.advance(10)
    line = b'{"id":"%s","parent_id":"web","text":"Downloading","current":%d,"total":100}\n'
    for step in range(10):
        reporter.take_output("pulling", "shop", line % (b"one", step) + line % (b"two", step))
    await clock.advance(TRANSFER_INTERVAL)
    reporter.take_output("pulling", "shop", line % (b"one", 90))
    reporter.close()

    told = [(event.current, event.total) for event in journal.events("j")]
    assert told == [(0, 100), (99, 200)]


async def test_flood_keeps_only_what_matters(reporter: Reporter, journal: Journal) -> None:
    for number in range(MAX_EVENTS + 50):
        reporter.say("building", str(number))
    reporter.say("building", "it failed", level="error")
    reporter.close()

    assert journal.entry("j") is not None
    events = journal.events("j", after=MAX_EVENTS - 1, limit=10)
    assert [event.text for event in events] == [str(MAX_EVENTS - 1), "it failed"]


async def test_events_that_the_disk_does_not_take_are_written_later(
    reporter: Reporter, journal: Journal, clock: SimulatedClock
) -> None:
    journal._db.execute("PRAGMA query_only=ON")
    reporter.say("pulling", "a")
    await clock.advance(1.0)
    reporter.say("pulling", "b")

    journal._db.execute("PRAGMA query_only=OFF")
    await clock.advance(RETRY_INTERVAL)

    assert [(event.seq, event.text) for event in journal.events("j")] == [(1, "a"), (2, "b")]

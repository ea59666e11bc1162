"""The journal: promises, numbers without gaps, first results, and that a later process reads the same."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from towline.agent.errors import StorageError
from towline.agent.journal import Journal
from towline.wire import link


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def order(job_id: str = "job_1", fence: int = 1) -> link.Job:
    payload = msgspec.Raw(b'{"project":"shop"}')
    return link.Job(job_id=job_id, kind="compose.stop", fence=fence, attempt=1, timeout=60, payload=payload)


def event(text: str) -> link.JobEvent:
    return link.JobEvent(seq=0, at=1.0, stage="pulling", text=text)


def result(job_id: str = "job_1", outcome: str = "succeeded") -> link.JobResult:
    return msgspec.convert({"job_id": job_id, "fence": 1, "outcome": outcome, "finished_at": 5.0}, link.JobResult)


def test_job_is_promised_once_and_takes_the_newer_fence(journal: Journal) -> None:
    assert journal.accept(order(fence=1), "shop", 1.0)
    assert not journal.accept(order(fence=4), "shop", 2.0)
    assert not journal.accept(order(fence=2), "shop", 3.0)

    entry = journal.entry("job_1")
    assert entry is not None
    assert (entry.fence, entry.state, entry.accepted_at) == (4, "accepted", 1.0)


def test_events_are_numbered_without_gaps_over_restarts(journal: Journal, tmp_path: Path) -> None:
    journal.accept(order(), "shop", 1.0)
    journal.add_events("job_1", [event("a"), event("b")])

    later = Journal(tmp_path / "journal.sqlite")
    later.add_events("job_1", [event("c")])

    assert [(each.seq, each.text) for each in later.events("job_1")] == [(1, "a"), (2, "b"), (3, "c")]
    assert [each.seq for each in later.events("job_1", after=1, limit=1)] == [2]
    later.close()


def test_first_result_counts_and_the_payload_is_gone(journal: Journal) -> None:
    journal.accept(order(), "shop", 1.0)
    journal.begin("job_1", 2.0)
    journal.keep_plan("job_1", b"plan")

    journal.finish(result(outcome="failed"))
    journal.finish(result(outcome="succeeded"))

    entry = journal.entry("job_1")
    assert entry is not None
    assert entry.result is not None
    assert (entry.result.outcome, entry.payload, entry.plan) == ("failed", b"", None)
    assert not journal.cancel("job_1")


def test_work_is_found_again_by_its_state(journal: Journal) -> None:
    for job_id in ("job_1", "job_2", "job_3"):
        journal.accept(order(job_id), "shop", 1.0)
    journal.begin("job_2", 2.0)
    journal.finish(result("job_3"))

    assert [entry.job_id for entry in journal.unfinished()] == ["job_1", "job_2"]
    assert [entry.job_id for entry in journal.unstored()] == ["job_3"]

    journal.mark_stored("job_3", 10.0)
    journal.mark_stored("job_1", 10.0)  # has no result, so it cannot be stored

    assert journal.unstored() == ()
    assert journal.forget_before(11.0) == ("job_3",)
    assert journal.entry("job_3") is None
    assert [entry.job_id for entry in journal.unfinished()] == ["job_1", "job_2"]


def test_time_limit_counts_from_the_first_beginning(journal: Journal) -> None:
    journal.accept(order(), "shop", 1.0)
    journal.begin("job_1", 2.0)
    journal.begin("job_1", 9.0)

    entry = journal.entry("job_1")
    assert entry is not None
    assert entry.begun_at == 2.0


def test_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database, and it is long enough to be looked at" * 20)

    with pytest.raises(StorageError, match="journal"):
        Journal(tmp_path / "journal.sqlite")


def test_recent_jobs_are_those_to_be_done_and_then_those_that_ended_last(journal: Journal) -> None:
    for at, name in enumerate(("job_1", "job_2", "job_3", "job_4")):
        journal.accept(order(name), "shop", float(at))
    for name in ("job_3", "job_1"):
        journal.finish(msgspec.structs.replace(result(name), finished_at=10.0 if name == "job_1" else 9.0))
    journal.begin("job_2", 5.0)
    journal.add_events("job_2", [event("first"), event("last")])

    found = journal.recent(10)

    assert [each.job_id for each in found] == ["job_4", "job_2", "job_1", "job_3"]
    assert found[1].last is not None
    assert (found[1].begun_at, found[1].last.text) == (5.0, "last")
    assert [each.job_id for each in journal.recent(2)] == ["job_4", "job_2"]


def test_number_of_changes_is_another_one_after_each_change(journal: Journal) -> None:
    before = journal.changes
    journal.accept(order(), "shop", 1.0)

    assert journal.changes != before
    after = journal.changes
    journal.recent(10)
    assert journal.changes == after

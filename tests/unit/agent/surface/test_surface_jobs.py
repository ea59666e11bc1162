"""Jobs at a glance: how they stand, and nothing of what they were ordered with or what they printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from towline.agent.journal import Journal
from towline.agent.surface import jobs
from towline.wire import link, orders


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


def accept(journal: Journal, job_id: str) -> None:
    payload = msgspec.Raw(b'{"project":"shop","environment":"COLOUR=hush"}')
    order = link.Job(job_id=job_id, kind="compose.deploy", fence=1, attempt=1, timeout=60, payload=payload)
    journal.accept(order, "shop", 1.0)


def say(journal: Journal, job_id: str, stage: str, text: str) -> None:
    journal.add_events(job_id, [link.JobEvent(seq=0, at=1.0, stage=stage, text=text)])


def test_job_is_told_with_what_it_said_last_and_without_its_payload(journal: Journal) -> None:
    accept(journal, "job_1")
    journal.begin("job_1", 2.0)
    say(journal, "job_1", "pulling", "image shop:2")

    (job,) = jobs.glances(journal)

    assert (job["kind"], job["project"], job["outcome"], job["last"]) == (
        "compose.deploy", "shop", None, "image shop:2",
    )  # fmt: skip
    assert "hush" not in repr(job)


def test_what_a_command_printed_is_not_told(journal: Journal) -> None:
    accept(journal, "job_1")
    say(journal, "job_1", "stdout", "password=hush")

    (job,) = jobs.glances(journal)

    assert (job["stage"], job["last"]) == ("stdout", "")


def test_a_command_tells_its_words_with_secrets_masked_and_who_asked(journal: Journal) -> None:
    order = orders.Command(
        project="", program="kubectl", arguments=("get", "pods", "--token=hush"), user="towline:ann", stdin="hush"
    )
    payload = msgspec.Raw(orders.encode(order))
    job = link.Job(job_id="job_1", kind="command.run", fence=1, attempt=1, timeout=60, payload=payload)
    journal.accept(job, "", 1.0)

    (told,) = jobs.glances(journal)

    assert (told["program"], told["arguments"], told["user"]) == (
        "kubectl", ("get", "pods", "--token=***"), "towline:ann",
    )  # fmt: skip
    assert "hush" not in repr(told)


def test_ended_job_tells_why(journal: Journal) -> None:
    accept(journal, "job_1")
    journal.finish(
        link.JobResult(job_id="job_1", fence=1, outcome="failed", code="pull_failed", error="x" * 1000, finished_at=9.0)
    )

    (job,) = jobs.glances(journal)

    assert (job["outcome"], job["code"], job["finished_at"]) == ("failed", "pull_failed", 9.0)
    assert len(job["error"]) == jobs.TEXT_CHARACTERS


def test_so_many_are_told_and_no_more(journal: Journal) -> None:
    for number in range(jobs.MOST_JOBS + 10):
        accept(journal, f"job_{number}")

    assert len(jobs.glances(journal)) == jobs.MOST_JOBS

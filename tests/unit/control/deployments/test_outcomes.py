"""The end of a job decides about the revision, once and for every way to end."""

import pytest

from towline.control.deployments.outcomes import Outcome, conclude_deploy, previous_good
from towline.control.jobs.work import JobEnd


def test_a_good_deploy_records_the_images_it_runs() -> None:
    end = conclude_deploy(
        JobEnd("succeeded", detail={"images": {"web": "shop/web@sha256:ab"}}),
        revision_id="rev_2",
        before=Outcome.PENDING,
    )
    assert (end.outcome, end.running_id, end.error) == (Outcome.GOOD, "rev_2", "")
    assert end.images == {"web": "shop/web@sha256:ab"}


def test_an_unhealthy_deploy_says_what_failed_and_what_runs_again() -> None:
    detail = {
        "rolled_back_to": 1,
        "running_revision_id": "rev_1",
        "failing": [{"service": "web", "reason": "exited with 1", "log_tail": ["no database"]}],
    }
    end = conclude_deploy(
        JobEnd("failed", "web: exited with 1", "unhealthy", detail), revision_id="rev_2", before=Outcome.PENDING
    )
    assert (end.outcome, end.running_id, end.rolled_back_to) == (Outcome.FAILED, "rev_1", 1)
    assert list(end.failing[0]["log_tail"]) == ["no database"]


def test_a_failed_pull_changes_nothing_that_runs() -> None:
    end = conclude_deploy(
        JobEnd("failed", "cannot pull", "pull_failed", {"seconds": {"pull": 1}}),
        revision_id="rev_2",
        before=Outcome.PENDING,
    )
    assert (end.outcome, end.running_id) == (Outcome.FAILED, None)


def test_a_failed_first_deploy_that_was_taken_down_leaves_nothing_running() -> None:
    end = conclude_deploy(
        JobEnd("failed", "x", "unhealthy", {"revision": 1}), revision_id="rev_1", before=Outcome.PENDING
    )
    assert end.running_id == ""


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("superseded", Outcome.SUPERSEDED),
        ("cancelled", Outcome.CANCELLED),
        ("expired", Outcome.FAILED),
        ("failed", Outcome.FAILED),
    ],
)
def test_an_end_without_the_agent_leaves_what_runs_as_it_is(state: str, outcome: Outcome) -> None:
    end = conclude_deploy(JobEnd(state), revision_id="rev_2", before=Outcome.PENDING)
    assert (end.outcome, end.running_id, end.error) == (outcome, None, state)


@pytest.mark.parametrize("before", [Outcome.GOOD, Outcome.ADOPTED])
def test_a_revision_that_was_good_once_stays_good(before: Outcome) -> None:
    end = conclude_deploy(JobEnd("failed", "x", "unhealthy", {}), revision_id="rev_1", before=before)
    assert end.outcome is None


def test_a_detail_that_cannot_be_read_counts_as_absent() -> None:
    end = conclude_deploy(
        JobEnd("failed", "x", "unhealthy", {"images": 7}), revision_id="rev_1", before=Outcome.PENDING
    )
    assert (end.outcome, end.images) == (Outcome.FAILED, {})


def test_rollback_returns_to_the_last_good_one_before_the_running_one() -> None:
    assert previous_good([1, 2, 4], running=4) == 2
    assert previous_good([1, 2, 4], running=5) == 4
    assert previous_good([1, 2, 4], running=0) == 4
    assert previous_good([4], running=4) is None

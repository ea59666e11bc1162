"""The transition table of jobs."""

import pytest

from towline.control.jobs.states import ACTIVE, ENDED, NEXT, PENDING, JobState, before, may_become, outcome_state


def test_every_state_is_pending_active_or_ended() -> None:
    assert set(JobState) == PENDING | ACTIVE | ENDED
    assert not PENDING & ACTIVE and not ACTIVE & ENDED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_nothing_follows_an_end(state: JobState) -> None:
    assert not any(may_become(state, following) for following in JobState)


def test_what_is_on_a_host_is_never_superseded_or_expired() -> None:
    for state in ACTIVE:
        assert not may_become(state, JobState.SUPERSEDED)
        assert not may_become(state, JobState.EXPIRED)


def test_a_running_job_is_never_sent_again() -> None:
    assert not NEXT[JobState.RUNNING] & (PENDING | {JobState.SENT})


def test_every_end_can_be_reached_from_a_queue() -> None:
    reached, todo = set(), [JobState.QUEUED]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += NEXT.get(state, ())
    assert reached == set(JobState)


def test_before_is_the_inverse_of_next() -> None:
    assert before(JobState.RUNNING) == {JobState.SENT}
    assert before(JobState.EXPIRED) == PENDING


def test_a_refusal_counts_as_a_failure() -> None:
    assert outcome_state("refused") is JobState.FAILED
    assert outcome_state("succeeded") is JobState.SUCCEEDED

"""How a run goes on, from where its targets stand."""

from dataclasses import dataclass

import pytest

from towline.control.commands.states import RunState, Step, TargetState, next_step, tally, waves

S = TargetState


@dataclass(frozen=True)
class One:
    position: int
    wave: int
    state: str


def targets(*states: TargetState, size: int = 0) -> list[One]:
    numbers = waves(len(states), size)
    return [One(place, numbers[place], state) for place, state in enumerate(states)]


def step(*states: TargetState, size: int = 0, stop: bool = False, run: RunState = RunState.RUNNING) -> Step:
    return next_step(run, targets(*states, size=size), stop_on_failure=stop)


def test_all_targets_begin_at_once_without_waves() -> None:
    assert step(S.PENDING, S.PENDING, S.PENDING) == Step(begin=(0, 1, 2))


def test_a_wave_begins_when_the_one_before_has_ended() -> None:
    assert step(S.ACTIVE, S.SUCCEEDED, S.PENDING, size=2) == Step()
    assert step(S.SUCCEEDED, S.SUCCEEDED, S.PENDING, size=2) == Step(begin=(2,))


def test_the_rest_of_a_wave_begins_beside_those_at_work() -> None:
    assert step(S.ACTIVE, S.PENDING, S.PENDING) == Step(begin=(1, 2))
    assert step(S.SUCCEEDED, S.ACTIVE, S.SUCCEEDED, S.PENDING, S.PENDING, size=2) == Step()
    assert step(S.SUCCEEDED, S.SUCCEEDED, S.ACTIVE, S.PENDING, S.PENDING, size=2) == Step(begin=(3,))
    assert step(S.FAILED, S.ACTIVE, S.PENDING, stop=True) == Step(leave_out=(2,))


def test_a_failure_does_not_stop_the_others_unless_asked_to() -> None:
    assert step(S.FAILED, S.PENDING, size=1) == Step(begin=(1,))
    assert step(S.FAILED, S.PENDING, size=1, stop=True) == Step(leave_out=(1,), end=RunState.FAILED)


def test_a_run_that_stops_waits_for_those_at_work() -> None:
    assert step(S.FAILED, S.ACTIVE, S.PENDING, size=2, stop=True) == Step(leave_out=(2,))


def test_a_target_that_is_not_allowed_stops_nothing_and_is_no_success() -> None:
    assert step(S.REFUSED, S.PENDING, size=1, stop=True) == Step(begin=(1,))
    assert step(S.REFUSED, S.SUCCEEDED) == Step(end=RunState.FAILED)


def test_a_cancelled_run_begins_nothing_and_ends_with_its_last_target() -> None:
    assert step(S.ACTIVE, S.PENDING, run=RunState.CANCELLING) == Step(leave_out=(1,))
    assert step(S.SUCCEEDED, S.CANCELLED, run=RunState.CANCELLING) == Step(end=RunState.CANCELLED)


@pytest.mark.parametrize("state", [S.FAILED, S.EXPIRED, S.CANCELLED, S.SKIPPED])
def test_only_success_everywhere_is_success(state: TargetState) -> None:
    assert step(S.SUCCEEDED, S.SUCCEEDED).end is RunState.SUCCEEDED
    assert step(S.SUCCEEDED, state).end is RunState.FAILED


def test_waves_are_of_one_size_and_the_last_has_the_rest() -> None:
    assert waves(5, 2) == [0, 0, 1, 1, 2]
    assert waves(3, 0) == [0, 0, 0]


def test_targets_are_counted_by_state() -> None:
    assert tally(targets(S.ACTIVE, S.ACTIVE, S.FAILED)).counts == {S.ACTIVE: 2, S.FAILED: 1}

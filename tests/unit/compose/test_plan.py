"""The table of a deploy."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.compose.plan import Deploy, Effect, Event, EventKind, Outcome, Step, next_step, start

BEFORE = [Step.STAGE, Step.VALIDATE, Step.POLICY, Step.PULL, Step.BUILD]


def _run(*, builds: bool = False, has_fallback: bool = True, fail: Step | None = None) -> tuple[list[Step], Deploy]:
    """Perform every step, fail one of them (and nothing else), and tell which steps were taken."""
    state, effect = start(builds=builds, has_fallback=has_fallback)
    steps: list[Step] = []
    while not state.is_finished:
        assert effect is not None
        steps.append(effect.step)
        kind = EventKind.FAILED if effect.step is fail else EventKind.DONE
        state, effect = next_step(state, Event(kind, state.step, f"{state.step} broke"))
    return steps, state


def test_all_goes_well() -> None:
    steps, state = _run()
    assert steps == [
        Step.STAGE, Step.VALIDATE, Step.POLICY, Step.PULL, Step.APPLY, Step.UP, Step.WATCH, Step.KEEP,
    ]  # fmt: skip
    assert (state.outcome, state.sentence()) == (Outcome.SUCCEEDED, "healthy")


def test_images_are_built_before_anything_changes() -> None:
    steps, _ = _run(builds=True)
    assert steps[3:6] == [Step.PULL, Step.BUILD, Step.APPLY]


@pytest.mark.parametrize("step", BEFORE)
def test_a_failure_before_apply_touches_no_container(step: Step) -> None:
    steps, state = _run(builds=True, fail=step)
    assert not {Step.APPLY, Step.UP, Step.PUT_BACK, Step.UP_AGAIN} & set(steps)
    assert steps[-2:] == [step, Step.CLEAN]
    assert (state.outcome, state.sentence()) == (Outcome.FAILED, f"{step} broke")


@pytest.mark.parametrize("step", [Step.APPLY, Step.UP, Step.WATCH])
def test_a_failure_from_apply_on_puts_the_last_good_revision_back(step: Step) -> None:
    steps, state = _run(fail=step)
    assert steps[-4:] == [Step.LOGS, Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN]
    assert state.outcome is Outcome.ROLLED_BACK
    assert state.sentence() == f"{step} broke; the last good revision runs again"


def test_without_a_last_good_revision_what_came_up_is_left() -> None:
    steps, state = _run(has_fallback=False, fail=Step.WATCH)
    assert steps[-2:] == [Step.WATCH, Step.LOGS]
    assert state.outcome is Outcome.FAILED


@pytest.mark.parametrize("step", [Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN])
def test_failing_to_put_back_is_broken_and_tells_both_reasons(step: Step) -> None:
    state = Deploy(step, builds=False, has_fallback=True, reason="web: exited with 1")
    state, _ = next_step(state, Event(EventKind.FAILED, step, "disk full"))
    assert state.outcome is Outcome.BROKEN
    assert state.sentence() == ("web: exited with 1; putting the last good revision back failed too: disk full")


def test_failing_to_fetch_logs_or_to_clean_changes_nothing() -> None:
    for step, after in ((Step.LOGS, Step.PUT_BACK), (Step.CLEAN, Step.FINISH)):
        state = Deploy(step, builds=False, has_fallback=True, reason="why")
        state, effect = next_step(state, Event(EventKind.FAILED, step, "no"))
        assert (effect, state.reason) == (Effect(after), "why")


@pytest.mark.parametrize("step", BEFORE)
def test_cancel_before_apply_stops_the_step_and_cleans(step: Step) -> None:
    state, effect = next_step(Deploy(step, True, True), Event(EventKind.CANCEL))
    assert effect == Effect(Step.CLEAN, cancel_running=True)
    state, _ = next_step(state, Event(EventKind.DONE, Step.CLEAN))
    assert (state.outcome, state.sentence()) == (Outcome.CANCELLED, "cancelled")


@pytest.mark.parametrize("step", [Step.APPLY, Step.UP, Step.WATCH])
def test_cancel_after_apply_puts_the_last_good_revision_back(step: Step) -> None:
    state, effect = next_step(Deploy(step, False, True), Event(EventKind.CANCEL))
    assert effect == Effect(Step.PUT_BACK, cancel_running=True)
    for done in (Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN):
        state, _ = next_step(state, Event(EventKind.DONE, done))
    assert state.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("step", [Step.KEEP, Step.LOGS, Step.PUT_BACK, Step.UP_AGAIN, Step.WATCH_AGAIN, Step.CLEAN])
def test_cancel_comes_too_late_once_the_end_is_decided(step: Step) -> None:
    state = Deploy(step, False, True)
    assert next_step(state, Event(EventKind.CANCEL)) == (state, None)


def test_a_second_cancel_changes_nothing() -> None:
    state, _ = next_step(Deploy(Step.UP, False, True), Event(EventKind.CANCEL))
    assert next_step(state, Event(EventKind.CANCEL)) == (state, None)


def test_a_late_event_of_another_step_is_ignored() -> None:
    state = Deploy(Step.UP, False, True)
    assert next_step(state, Event(EventKind.DONE, Step.PULL)) == (state, None)
    assert next_step(state, Event(EventKind.FAILED, None, "x")) == (state, None)


@pytest.mark.parametrize("step", BEFORE)
def test_an_interruption_before_apply_begins_again(step: Step) -> None:
    _, effect = next_step(Deploy(step, True, True), Event(EventKind.RESUME))
    assert effect == Effect(Step.STAGE, resumed=True)


@pytest.mark.parametrize("step", [Step.APPLY, Step.UP, Step.WATCH, Step.KEEP, Step.PUT_BACK, Step.UP_AGAIN, Step.CLEAN])
def test_an_interruption_from_apply_on_goes_on_where_it_was(step: Step) -> None:
    state, effect = next_step(Deploy(step, True, True), Event(EventKind.RESUME))
    assert effect == Effect(step, resumed=True)
    assert state.resumed == 1


def test_a_cancelled_deploy_stays_cancelled_over_an_interruption() -> None:
    state, _ = next_step(Deploy(Step.PULL, False, True), Event(EventKind.CANCEL))
    state, effect = next_step(state, Event(EventKind.RESUME))
    assert effect == Effect(Step.CLEAN, resumed=True)


def test_a_finished_deploy_hears_nothing_more() -> None:
    _, state = _run()
    for kind in EventKind:
        assert next_step(state, Event(kind, state.step)) == (state, None)


def test_a_reason_is_escaped_and_cut() -> None:
    state, _ = next_step(Deploy(Step.PULL, False, True), Event(EventKind.FAILED, Step.PULL, "\x1b[31m" + "x" * 10_000))
    assert state.reason.startswith("\\x1b[31m")
    assert len(state.reason) < 4_001


def test_the_state_survives_a_journal() -> None:
    state = Deploy(Step.UP, builds=True, has_fallback=True, reason="x", resumed=2, outcome=None)
    assert msgspec.json.decode(msgspec.json.encode(state), type=Deploy) == state


_EVENTS = st.lists(st.tuples(st.sampled_from(EventKind), st.booleans()), max_size=60)


@given(_EVENTS, st.booleans(), st.booleans())
def test_whatever_happens_the_running_containers_are_safe(
    events: list[tuple[EventKind, bool]], builds: bool, has_fallback: bool
) -> None:
    """Nothing is started before everything was checked and fetched, and every end has an outcome."""
    state, effect = start(builds=builds, has_fallback=has_fallback)
    succeeded: set[Step] = set()
    for kind, is_late in events:
        if kind is EventKind.DONE and not is_late and not state.is_finished:
            succeeded.add(state.step)
        step = Step.FINISH if is_late else state.step
        state, effect = next_step(state, Event(kind, step, "why"))
        if effect is not None and effect.step is Step.APPLY and not effect.resumed:
            assert {Step.STAGE, Step.VALIDATE, Step.POLICY, Step.PULL} <= succeeded
        if effect is not None and effect.step in (Step.PUT_BACK, Step.UP_AGAIN):
            assert has_fallback
    assert (state.outcome is not None) == state.is_finished or state.outcome is Outcome.BROKEN

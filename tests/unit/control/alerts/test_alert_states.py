"""What becomes of an alert that is seen, or not, as time goes by."""

from datetime import UTC, datetime, timedelta

from towline.control.alerts.states import Held, State, Step, Timing, step

START = datetime(2026, 1, 1, tzinfo=UTC)
TIMING = Timing(after_seconds=60, clear_seconds=30)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def run(*seen_at: tuple[float, bool], timing: Timing = TIMING, held: Held | None = None) -> list[Step]:
    steps = []
    for seconds, seen in seen_at:
        steps.append(step(held, seen=seen, now=at(seconds), timing=timing))
        held = steps[-1].held
    return steps


def states(steps: list[Step]) -> list[str]:
    return [str(one.held.state) if one.held else "none" for one in steps]


def test_what_lasts_long_enough_fires_once() -> None:
    steps = run((0, True), (59, True), (60, True), (90, True))
    assert states(steps) == ["pending", "pending", "firing", "firing"]
    assert [one.fires for one in steps] == [False, False, True, False]


def test_pending_knows_when_time_alone_makes_it_fire() -> None:
    (first,) = run((0, True))
    assert first.held is not None and first.held.due_at == at(60)


def test_what_goes_before_it_fired_is_forgotten_without_a_word() -> None:
    steps = run((0, True), (10, False), (39, False), (40, False))
    assert states(steps) == ["pending", "pending", "pending", "none"]
    assert not any(one.fires or one.ends for one in steps)


def test_what_fires_ends_once_when_it_was_gone_for_long_enough() -> None:
    steps = run((0, True), (60, True), (70, False), (99, False), (100, False), (110, False))
    assert states(steps)[2:] == ["firing", "firing", "resolved", "resolved"]
    assert [one.ends for one in steps] == [False, False, False, False, True, False]


def test_what_comes_and_goes_within_the_time_to_clear_goes_on_firing() -> None:
    steps = run((0, True), (60, True), (70, False), (80, True), (99, False), (128, False))
    assert set(states(steps)[1:]) == {"firing"}


def test_what_comes_and_goes_while_pending_fires_by_its_first_moment() -> None:
    steps = run((0, True), (20, False), (40, True), (60, True))
    assert states(steps) == ["pending", "pending", "pending", "firing"]


def test_it_does_not_fire_while_it_is_not_seen() -> None:
    assert states(run((0, True), (50, False), (65, False))) == ["pending", "pending", "pending"]


def test_without_a_time_to_wait_it_fires_at_once_and_ends_at_once() -> None:
    steps = run((0, True), (1, False), timing=Timing(0, 0))
    assert states(steps) == ["firing", "resolved"] and steps[0].fires and steps[1].ends


def test_what_is_seen_again_waits_again_and_remembers_when_it_fired() -> None:
    steps = run((0, True), (60, True), (70, False), (100, False), (200, True), (260, True))
    assert states(steps)[3:] == ["resolved", "pending", "firing"]
    assert steps[4].held is not None and steps[4].held.fired_at == at(60) and steps[5].fires


def test_what_is_pending_again_and_goes_is_as_it_was() -> None:
    steps = run((0, True), (60, True), (70, False), (100, False), (200, True), (210, False), (240, False))
    assert states(steps)[-1] == "resolved" and not steps[-1].ends
    assert steps[-1].held is not None and steps[-1].held.resolved_at == at(100)


def test_nothing_fires_before_the_moment_that_the_server_needs() -> None:
    timing = Timing(60, 0, not_before=at(1000))
    old = Held(State.PENDING, at(-5000))
    steps = run((0, True), (999, True), (1000, True), timing=timing, held=old)
    assert states(steps) == ["pending", "pending", "firing"]
    assert steps[0].held is not None and steps[0].held.due_at == at(1000)

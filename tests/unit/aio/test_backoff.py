"""Delays grow to the cap, are jittered in full, and begin anew after a success."""

from towline.aio.backoff import LONGEST_DELAY, SHORTEST_DELAY, Backoff
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner


def test_ceiling_doubles_from_half_a_second_to_a_minute():
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next_delay() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_covers_everything_below_the_ceiling():
    assert Backoff(draw=lambda: 0.0).next_delay() == SHORTEST_DELAY
    assert Backoff(draw=lambda: 0.5).next_delay() == 0.25


def test_ceiling_stays_finite_after_a_year_of_attempts():
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next_delay() for _ in range(10_000)][-1] == LONGEST_DELAY


def test_nobody_waits_longer_than_the_trouble_has_lasted():
    draws = iter([0.0] * 10 + [1.0])
    backoff = Backoff(draw=lambda: next(draws))
    waited = sum(backoff.next_delay() for _ in range(10))
    assert backoff.next_delay() == 0.5 + waited


async def test_wait_sleeps_exactly_what_it_returns():
    clock = SimulatedClock()
    backoff = Backoff(clock=clock, draw=lambda: 0.5)
    async with TaskOwner("test") as owner:
        waiting = owner.spawn("wait", backoff.wait())
        await clock.advance(0.25)
        assert await waiting == 0.25
    assert clock.sleeps == [0.25]


def test_reset_begins_anew():
    backoff = Backoff(draw=lambda: 1.0)
    backoff.next_delay()
    backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == 0.5


def test_short_success_does_not_begin_anew():
    backoff = Backoff(draw=lambda: 1.0)
    backoff.next_delay()
    backoff.note_lasted(1.0)
    assert backoff.next_delay() == 1
    backoff.note_lasted(11.0)
    assert backoff.next_delay() == 0.5


def test_what_held_for_a_while_is_tried_again_soon_however_long_the_trouble_before_was():
    backoff = Backoff(draw=lambda: 1.0)
    for _ in range(9):
        backoff.next_delay()
    backoff.note_lasted(6.0)
    assert backoff.next_delay() == 0.5 + 4.0

"""The simulated clock runs timers in order and only when told to."""

from towline.aio.clock import REAL_CLOCK, SimulatedClock
from towline.aio.tasks import TaskOwner


async def test_simulated_timers_run_in_order_of_their_moment():
    clock, seen = SimulatedClock(), []
    clock.call_later(2, seen.append, "late")
    clock.call_later(1, seen.append, "early")
    await clock.advance(1.5)
    assert seen == ["early"]
    await clock.advance(1)
    assert seen == ["early", "late"]


async def test_simulated_cancelled_timer_never_runs():
    clock, seen = SimulatedClock(), []
    clock.call_later(1, seen.append, "x").cancel()
    await clock.advance(5)
    assert seen == []
    assert clock.pending == 0


async def test_simulated_sleep_records_its_length_and_wakes_at_its_moment():
    clock, woken = SimulatedClock(), []

    async def sleeper():
        await clock.sleep(3)
        woken.append(clock.monotonic())

    async with TaskOwner("test") as owner:
        owner.spawn("sleeper", sleeper())
        await clock.advance(10)
    assert woken == [3.0]
    assert clock.sleeps == [3]


async def test_simulated_wall_clock_can_jump_without_the_monotonic_one():
    clock = SimulatedClock()
    before = clock.now()
    clock.jump(-3600)
    assert (clock.now() - before).total_seconds() == -3600
    assert clock.monotonic() == 0


async def test_real_clock_is_aware_and_grows():
    assert REAL_CLOCK.now().tzinfo is not None
    assert REAL_CLOCK.monotonic() <= REAL_CLOCK.monotonic()

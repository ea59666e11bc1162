"""The agent's own process, measured."""

from towline.agent.surface import process
from towline.agent.surface.process import LoopLag
from towline.agent.surface.statistics import BUCKETS, Statistics
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner


async def test_numbers_are_those_of_this_process() -> None:
    found = process.measure()

    assert 10**6 < found.resident_bytes < found.virtual_bytes
    assert found.tasks >= 1
    assert found.threads >= 1
    assert found.open_files >= 3


class LateClock(SimulatedClock):
    """Wakes sleepers late."""

    late = 0.25

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + self.late)


async def test_lag_is_how_late_the_loop_wakes_a_sleeper() -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    async with TaskOwner("test") as owner:
        owner.spawn("lag", lag.run())
        await clock.advance(1.25)
        clock.late = 0.0
        await clock.advance(1.25)  # the sleep that was begun late
        await clock.advance(1.0)

    assert (lag.last, lag.most) == (0.0, 0.25)


def test_requests_are_counted_by_what_was_declared() -> None:
    seen = Statistics()
    with seen.request("GET", "/api/k8s/logs/{namespace}/{pod}") as one:
        one.status = 200
    with seen.request("BREW", ""):
        pass

    assert seen.requests == {("GET", "/api/k8s/logs/{namespace}/{pod}", 200): 1, ("other", "none", 0): 1}
    assert (seen.total, seen.failed, seen.running) == (2, 1, 0)
    assert sum(seen.buckets) == 2
    assert len(seen.buckets) == len(BUCKETS) + 1


def test_what_is_held_open_is_counted_while_it_is() -> None:
    seen = Statistics()
    with seen.holding("events"):
        assert seen.live["events"] == 1

    assert (seen.live["events"], seen.began["events"]) == (0, 1)

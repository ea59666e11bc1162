"""How often somebody may try: exact moments on a simulated clock."""

import pytest

from towline.aio.clock import SimulatedClock
from towline.control.access import throttle
from towline.control.access.throttle import Throttle, per_minute
from towline.control.errors import ApiError


async def test_a_burst_passes_and_the_next_one_waits() -> None:
    clock = SimulatedClock()
    limit = Throttle(clock, rate=20, burst=60)
    assert [limit.wait("a") for _ in range(60)] == [0.0] * 60
    assert limit.wait("a") == pytest.approx(0.05)


async def test_refused_attempts_do_not_prolong_the_wait() -> None:
    clock = SimulatedClock()
    limit = per_minute(clock, 5)
    for _ in range(5):
        limit.check("a", "attempts")
    for _ in range(100):
        limit.wait("a")
    await clock.advance(12.01)
    assert limit.wait("a") == 0.0


async def test_keys_do_not_share_a_limit() -> None:
    limit = per_minute(SimulatedClock(), 1)
    assert limit.wait("a") == 0.0
    assert limit.wait("b") == 0.0
    assert limit.wait("a") > 0


async def test_the_error_says_when_to_come_back() -> None:
    limit = per_minute(SimulatedClock(), 1)
    limit.check("a", "attempts")
    with pytest.raises(ApiError) as raised:
        limit.check("a", "attempts")
    assert raised.value.status == 429
    assert raised.value.detail["retry_after"] == 60.0


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "KEYS_KEPT", 10)
    limit = per_minute(SimulatedClock(), 1)
    for number in range(1000):
        limit.wait(str(number))
    assert "10 keys" in repr(limit)

"""Token buckets per client address."""

from towline.gateway import rate_limit
from towline.gateway.rate_limit import RateLimiter


def test_burst_passes_and_then_the_rate_decides() -> None:
    limiter = RateLimiter(2.0, 3)
    assert [limiter.wait("192.0.2.1", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limiter.wait("192.0.2.1", 0.5) == 0.0
    assert limiter.wait("192.0.2.1", 0.5) > 0


def test_addresses_do_not_pay_for_each_other_but_one_customer_of_ipv6_is_one() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.wait("2001:db8::1", 0.0) == 0.0
    assert limiter.wait("2001:db8:0:1::1", 0.0) == 0.0
    assert limiter.wait("2001:db8::ffff", 0.0) > 0.0


def test_slow_rates_let_one_through_at_a_time() -> None:
    limiter = RateLimiter(0.1)
    assert limiter.wait("192.0.2.1", 0.0) == 0.0
    assert 9.9 < limiter.wait("192.0.2.1", 0.0) <= 10.0


def test_table_stays_bounded() -> None:
    limiter = RateLimiter(1.0)
    for number in range(rate_limit.MAX_CLIENTS + 50):
        limiter.wait(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert f"clients={rate_limit.MAX_CLIENTS}>" in repr(limiter)

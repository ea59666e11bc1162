"""Which of several targets is asked."""

from tests.support.edge_memory import MemoryTarget

from towline.gateway.balancing import FAIL_TIMEOUT, Balanced, Member


class Away(MemoryTarget):
    is_ready = False


def members(count: int) -> list[Member]:
    return [Member(f"m{number}", MemoryTarget()) for number in range(count)]


def names(balanced: Balanced, count: int, now: float = 0.0) -> list[str]:
    found = [balanced.choose(now) for _ in range(count)]
    return [member.name for member in found if member is not None]


def test_turns_are_taken() -> None:
    assert sorted(names(Balanced(members(3)), 6)) == ["m0", "m0", "m1", "m1", "m2", "m2"]


def test_fewest_requests_win() -> None:
    three = members(3)
    three[0].open, three[1].open, three[2].open = 2, 1, 2
    assert names(Balanced(three, "least_connections"), 2) == ["m1", "m1"]


def test_what_failed_is_avoided_for_a_while_and_then_tried_again() -> None:
    two = members(2)
    balanced = Balanced(two)
    two[0].failed(10.0)
    assert names(balanced, 3, 10.1) == ["m1"] * 3
    assert set(names(balanced, 4, 10.1 + FAIL_TIMEOUT)) == {"m0", "m1"}
    two[1].failed(20.0)
    two[1].answered()
    assert set(names(balanced, 4, 20.1)) == {"m0", "m1"}


def test_unhealthy_ones_are_asked_only_when_nothing_else_is_left() -> None:
    two = members(2)
    balanced = Balanced(two)
    two[0].is_healthy = False
    assert names(balanced, 3) == ["m1"] * 3
    assert balanced.choose(0.0, [two[1]]) is two[0]


def test_cluster_without_an_agent_is_never_asked() -> None:
    away = Member("away", Away())
    balanced = Balanced([away, *members(1)])
    assert names(balanced, 3) == ["m0"] * 3
    assert balanced.is_ready
    assert Balanced([away]).choose(0.0) is None
    assert not Balanced([away]).is_ready

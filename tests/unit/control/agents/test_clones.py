"""Which generation may connect, and which takeovers are a duel."""

import pytest

from towline.control.agents.clones import (
    MOST_AHEAD,
    Accepted,
    Generations,
    Stale,
    Takeover,
    is_duel,
    judge_generation,
    recent,
)


def test_the_current_generation_moves_on_by_one() -> None:
    assert judge_generation(Generations(7, 7), 7) == Accepted(8)


def test_the_previous_generation_is_accepted_while_the_newest_is_unconfirmed() -> None:
    assert judge_generation(Generations(8, 7), 7) == Accepted(8)


def test_a_line_that_breaks_in_every_handshake_is_no_clone() -> None:
    known = Generations(7, 7)
    for _ in range(50):
        verdict = judge_generation(known, 7)
        assert isinstance(verdict, Accepted)
        known = Generations(verdict.issue, 7)


def test_an_agent_that_wrote_the_unconfirmed_generation_is_accepted() -> None:
    assert judge_generation(Generations(8, 7), 8) == Accepted(9)


@pytest.mark.parametrize("presented", [-5, -1, 0, 5, 6, 7 + MOST_AHEAD + 1, 1007])
def test_old_and_absurd_generations_are_stale(presented: int) -> None:
    assert isinstance(judge_generation(Generations(7, 7), presented), Stale)


def test_the_previous_generation_is_stale_once_the_newest_was_confirmed() -> None:
    assert isinstance(judge_generation(Generations(7, 7), 6), Stale)


def test_an_agent_ahead_of_a_restored_database_is_accepted_upwards() -> None:
    assert judge_generation(Generations(7, 7), 12) == Accepted(13, ahead=True)


def test_after_readmission_any_generation_counts() -> None:
    assert judge_generation(Generations(40, 40, resync=True), 3) == Accepted(41)
    assert judge_generation(Generations(40, 40, resync=True), 5000) == Accepted(5001)


def _takeovers(ids: str, gap: float = 1.0) -> list[Takeover]:
    return [Takeover(at * gap, one) for at, one in enumerate(ids)]


def test_two_instances_that_push_each_other_aside_are_a_duel() -> None:
    assert is_duel(_takeovers("abab"), now=5)


def test_three_takeovers_may_be_a_bad_line() -> None:
    assert not is_duel(_takeovers("aba"), now=5)


def test_an_agent_that_crashes_again_and_again_is_no_clone() -> None:
    assert not is_duel(_takeovers("abcdefgh"), now=10)


def test_one_instance_that_reconnects_over_its_own_dead_socket_is_no_clone() -> None:
    assert not is_duel(_takeovers("aaaaaaaa"), now=10)


def test_takeovers_are_forgotten_after_the_window() -> None:
    takeovers = _takeovers("abab", gap=100)
    assert not is_duel(takeovers, now=400)
    assert len(recent(takeovers, now=400)) == 2

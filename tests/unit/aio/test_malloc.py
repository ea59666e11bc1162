"""glibc takes the thresholds; other C libraries are left alone."""

import platform

from towline.aio.malloc import WORTH_GIVING_BACK, Ebb, keep_large_blocks


def test_thresholds_are_set_where_there_is_glibc() -> None:
    assert keep_large_blocks() is (platform.libc_ver()[0] == "glibc")


def test_memory_is_given_back_when_as_much_has_gone_as_is_left() -> None:
    ebb = Ebb()
    looks = [(10_000, 0), (6_000, 4_000), (5_000, 5_000), (5_000, 5_000), (20, 9_980), (20, 9_980)]
    assert [ebb.note(held, removed) for held, removed in looks] == [False, False, True, False, True, False]


def test_flood_between_two_looks_is_noticed() -> None:
    assert Ebb().note(0, 10_000)


def test_little_that_goes_is_not_worth_it() -> None:
    ebb = Ebb()
    assert not ebb.note(0, WORTH_GIVING_BACK - 1)
    assert ebb.note(0, WORTH_GIVING_BACK)


def test_count_that_begins_anew_is_understood() -> None:
    ebb = Ebb()
    assert ebb.note(0, 10_000)
    assert not ebb.note(0, 10)
    assert ebb.note(0, WORTH_GIVING_BACK)

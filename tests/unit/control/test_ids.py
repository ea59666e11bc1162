"""Ids: their shape, their order, and telling them from names."""

import time

from towline.control.ids import ULID_CHARACTERS, encode, is_id, new_id


def test_an_id_is_a_prefix_and_a_lower_case_ulid() -> None:
    kind, _, rest = new_id("clu").partition("_")
    assert kind == "clu"
    assert len(rest) == ULID_CHARACTERS and rest == rest.lower()
    assert not set("ilou") & set(rest)


def test_ids_sort_by_time_of_birth() -> None:
    now = int(time.time() * 1000)
    assert encode(now << 80, 26) < encode((now + 1) << 80, 26)


def test_a_name_is_no_id() -> None:
    assert is_id(new_id("clu"), "clu")
    assert not is_id(new_id("agt"), "clu")
    assert not is_id("clu_shop", "clu")
    assert not is_id("shop", "clu")


def test_ids_are_not_repeated() -> None:
    assert len({new_id("job") for _ in range(10_000)}) == 10_000

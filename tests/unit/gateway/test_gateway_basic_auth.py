"""Passwords in front of routes: verified rarely, remembered by a keyed hash, and never for long."""

import base64
from collections.abc import Callable

import pytest
from argon2 import PasswordHasher

from towline.gateway import basic_auth
from towline.gateway.basic_auth import BasicAuth, Busy, Verifying, parse_basic

STORED = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("open sesame")


def field(name: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{name}:{password}".encode())


def auth(now: Callable[[], float] = lambda: 0.0) -> BasicAuth:
    return BasicAuth([f"ann:{STORED}"], Verifying(), now)


async def test_right_pair_is_verified_once_and_then_remembered_for_a_while() -> None:
    moment = [0.0]
    users = auth(lambda: moment[0])
    assert users.remembered(field("ann", "open sesame")) is None
    assert await users.verify(field("ann", "open sesame"), "192.0.2.1") == "ann"
    assert users.remembered(field("ann", "open sesame")) == "ann"
    assert users.remembered(field("ann", "open sesam")) is None
    moment[0] = basic_auth.REMEMBERED_FOR + 1
    assert users.remembered(field("ann", "open sesame")) is None


@pytest.mark.parametrize(
    "value",
    [field("ann", "wrong"), field("bob", "open sesame"), b"Bearer x", b"Basic !!!", b"Basic " + b"A" * 4000, None],
)
async def test_wrong_pairs_are_nobody(value: bytes | None) -> None:
    users = auth()
    assert await users.verify(value, "192.0.2.1") is None
    assert users.remembered(value) is None


async def test_guessing_is_slowed_down_for_its_address_alone() -> None:
    users = auth()
    for _ in range(basic_auth.TRY_BURST):
        await users.verify(field("ann", "wrong"), "192.0.2.1")
    with pytest.raises(Busy) as busy:
        await users.verify(field("ann", "open sesame"), "192.0.2.1")
    assert busy.value.retry_after > 0
    assert await users.verify(field("ann", "open sesame"), "192.0.2.2") == "ann"


def test_fields_are_parsed_strictly() -> None:
    assert parse_basic(b"basic " + base64.b64encode(b"a:b:c")) == ("a", "b:c")
    assert parse_basic(b"Basic " + base64.b64encode(b"\xff:x")) is None
    assert parse_basic(b"Basic " + base64.b64encode(b"nocolon")) is None


def test_nothing_secret_is_represented() -> None:
    assert "argon2" not in repr(auth())

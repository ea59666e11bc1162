"""Passwords: the rules, and that a wrong one is wrong."""

import pytest

from towline.control.access.passwords import Passwords, check_rules
from towline.control.errors import ApiError


@pytest.mark.parametrize("password", ["", "tiny", "x" * 11, "x" * 1_000_000, "correct horse\0battery", "a\ud800" * 10])
def test_a_password_that_breaks_a_rule_is_refused(password: str) -> None:
    with pytest.raises(ApiError) as raised:
        check_rules(password)
    assert raised.value.status == 422
    assert not password or password not in raised.value.message


async def test_the_right_password_verifies_and_twins_of_its_letters_do_too() -> None:
    passwords = Passwords()
    stored = await passwords.hash("caf\u00e9 caf\u00e9 caf\u00e9")
    assert await passwords.verify(stored, "cafe\u0301 cafe\u0301 cafe\u0301")
    assert not await passwords.verify(stored, "cafe cafe cafe")


async def test_nobody_verifies_without_a_stored_password() -> None:
    passwords = Passwords()
    assert not await passwords.verify("", "nobody has this password")
    assert not await passwords.verify("", "x" * 1_000_000)

"""Tokens: their check digits, and what is stored of them."""

import pytest

from towline.control.access import secrets


def test_a_minted_token_is_well_formed_for_its_prefix_alone() -> None:
    token = secrets.mint("twl")
    assert secrets.is_well_formed(token, ("twl", "tws"))
    assert not secrets.is_well_formed(token, ("twj",))


@pytest.mark.parametrize("place", range(4, 46))
def test_one_wrong_character_is_seen_by_the_check_digits(place: int) -> None:
    token = secrets.mint("twj")
    wrong = token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 :]
    assert not secrets.is_well_formed(wrong, ("twj",))


@pytest.mark.parametrize(
    "text", ["", "twl_", "twl_" + "a" * 41, " " + "x" * 45, "twl_" + "é" * 42, "twl_" + "a" * 1_000_000]
)
def test_other_text_is_no_token(text: str) -> None:
    assert not secrets.is_well_formed(text, ("twl",))


def test_a_token_with_a_newline_is_no_token() -> None:
    assert not secrets.is_well_formed(secrets.mint("twl") + "\n", ("twl",))


def test_the_form_token_differs_by_session_and_does_not_hold_its_secret() -> None:
    secret = secrets.session_secret()
    assert secrets.form_token(secret) == secrets.form_token(secret)
    assert secrets.form_token(secret) != secrets.form_token(secrets.session_secret())
    assert secret not in secrets.form_token(secret)

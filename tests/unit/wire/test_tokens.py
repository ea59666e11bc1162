"""The shape of secret tokens."""

import pytest

from towline.wire import tokens


def test_a_minted_token_is_well_formed() -> None:
    token = tokens.mint(tokens.JOIN)
    assert token.startswith("twj_")
    assert len(token) == 4 + 36 + 6
    assert tokens.is_well_formed(token, tokens.JOIN)


def test_every_changed_character_is_noticed() -> None:
    token = tokens.mint(tokens.JOIN)
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        assert not tokens.is_well_formed(token[:at] + other + token[at + 1 :], tokens.JOIN)


@pytest.mark.parametrize(
    "bad", ["", "twj_", "twl_" + "0" * 42, "twj_" + "0" * 42, " ", "\n", "twj_" + "é" * 42, "x" * 1_000_000]
)
def test_other_text_is_refused(bad: str) -> None:
    assert not tokens.is_well_formed(bad, tokens.JOIN)


def test_white_space_around_a_token_is_refused() -> None:
    token = tokens.mint(tokens.JOIN)
    assert not tokens.is_well_formed(token + "\n", tokens.JOIN)
    assert not tokens.is_well_formed(" " + token, tokens.JOIN)


def test_the_prefix_is_part_of_the_check() -> None:
    assert not tokens.is_well_formed(tokens.mint("twl"), tokens.JOIN)


def test_the_public_id_does_not_hold_the_secret() -> None:
    token = tokens.mint(tokens.JOIN)
    assert len(tokens.public_id(token)) == 12
    assert tokens.public_id(token) not in tokens.digest(token)

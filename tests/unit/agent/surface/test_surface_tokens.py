"""Local tokens: made once, read by nobody else, renewed by another file, and never told."""

from pathlib import Path

import msgspec
import pytest

from towline.agent.errors import SettingsError
from towline.agent.settings import AgentSettings
from towline.agent.surface import tokens
from towline.agent.surface.endpoints import Right
from towline.agent.surface.tokens import LocalTokens

LONG_ENOUGH = "k7Rw2pQx9Zt4Vb6Nm8Lc3Hf5"
OTHER = "another-token-of-24-letters"


def settings(folder: Path, **more: object) -> AgentSettings:
    return msgspec.structs.replace(AgentSettings(state_folder=folder), **more)


def test_first_start_makes_both_in_files_of_the_agents_user_alone(tmp_path: Path) -> None:
    made = LocalTokens(settings(tmp_path), {})

    texts = {}
    for name, right in ((tokens.READ_FILE, Right.READ), (tokens.OPERATE_FILE, Right.OPERATE)):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        texts[name] = (tmp_path / name).read_text().strip()
        assert made.right_of(texts[name]) is right
    assert len(set(texts.values())) == 2


def test_next_start_keeps_them(tmp_path: Path) -> None:
    LocalTokens(settings(tmp_path), {})
    before = (tmp_path / tokens.READ_FILE).read_text()

    LocalTokens(settings(tmp_path), {})

    assert (tmp_path / tokens.READ_FILE).read_text() == before


@pytest.mark.parametrize("text", ["", "x", "twl_" + "0" * 42, "é" * 30, "\udcff" * 30, "a" * 100_000])
def test_other_texts_have_no_right(tmp_path: Path, text: str) -> None:
    assert LocalTokens(settings(tmp_path), {}).right_of(text) is Right.OPEN


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    LocalTokens(settings(tmp_path), {})
    (tmp_path / tokens.OPERATE_FILE).chmod(0o644)

    with pytest.raises(SettingsError, match="may be read by other users"):
        LocalTokens(settings(tmp_path), {})


def test_another_file_is_believed_at_the_next_question(tmp_path: Path) -> None:
    mounted = tmp_path / "secret"
    mounted.write_text(LONG_ENOUGH + "\n")
    made = LocalTokens(settings(tmp_path, read_token_file=mounted), {})
    assert made.right_of(LONG_ENOUGH) is Right.READ

    (tmp_path / "next").write_text(OTHER)
    (tmp_path / "next").replace(mounted)

    assert made.right_of(LONG_ENOUGH) is Right.OPEN
    assert made.right_of(OTHER) is Right.READ


def test_file_that_went_away_lets_nobody_in(tmp_path: Path) -> None:
    made = LocalTokens(settings(tmp_path), {})
    token = (tmp_path / tokens.READ_FILE).read_text().strip()
    (tmp_path / tokens.READ_FILE).unlink()

    assert made.right_of(token) is Right.OPEN
    assert made.right_of("") is Right.OPEN


def test_environment_gives_tokens_of_a_secret(tmp_path: Path) -> None:
    made = LocalTokens(settings(tmp_path), {tokens.READ_VARIABLE: LONG_ENOUGH, tokens.OPERATE_VARIABLE: OTHER})

    assert (made.right_of(LONG_ENOUGH), made.right_of(OTHER)) == (Right.READ, Right.OPERATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("token", ["short", "with a space in it, and long", "x" * 300])
def test_weak_token_is_refused_without_being_told(tmp_path: Path, token: str) -> None:
    with pytest.raises(SettingsError, match="printable characters") as caught:
        LocalTokens(settings(tmp_path), {tokens.READ_VARIABLE: token})

    assert token not in str(caught.value)


def test_same_token_for_both_rights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="are the same"):
        LocalTokens(settings(tmp_path), {tokens.READ_VARIABLE: OTHER, tokens.OPERATE_VARIABLE: OTHER})


def test_repr_tells_nothing(tmp_path: Path) -> None:
    made = LocalTokens(settings(tmp_path), {tokens.READ_VARIABLE: OTHER})

    assert OTHER not in repr(made) + repr(vars(made))


def test_token_is_shown_to_who_may_read_its_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="it is made when the agent first runs with --listen"):
        tokens.shown(settings(tmp_path), operate=False)

    made = LocalTokens(settings(tmp_path), {})

    assert made.right_of(tokens.shown(settings(tmp_path), operate=False)) is Right.READ
    assert made.right_of(tokens.shown(settings(tmp_path), operate=True)) is Right.OPERATE

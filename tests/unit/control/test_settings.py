"""Settings: file and environment, and a clear word about each mistake."""

from pathlib import Path

import pytest

from towline.control.errors import StartupError
from towline.control.settings import Settings, check, load


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('listen = "127.0.0.1:1"\nlog_level = "debug"\nhostnames = ["a.example", "b.example"]\n')
    settings = load({"TOWLINE_SERVER_LISTEN": "[::1]:2"}, file)
    assert (settings.listen_host, settings.listen_port) == ("::1", 2)
    assert settings.log_level == "debug"
    assert settings.hostnames == ["a.example", "b.example"]


def test_lists_and_tables_from_the_environment_are_words_between_commas() -> None:
    settings = load(
        {"TOWLINE_SERVER_HOSTNAMES": "a.example, b.example", "TOWLINE_SERVER_PUBLISHED": "app.example=c/h:80"}
    )
    assert settings.hostnames == ["a.example", "b.example"]
    assert settings.published == {"app.example": "c/h:80"}


def test_the_file_is_found_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("backups_kept = 9\n")
    assert load({"TOWLINE_SERVER_DATA_FOLDER": str(tmp_path)}).backups_kept == 9


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TOWLINE_SERVER_LISTN": "x"}, ["TOWLINE_SERVER_LISTN is no setting", "did you mean TOWLINE_SERVER_LISTEN?"]),
        ({"TOWLINE_SERVER_LISTEN": "8443"}, ["TOWLINE_SERVER_LISTEN", "ADDRESS:PORT"]),
        ({"TOWLINE_SERVER_API_RATE": "-1"}, ["TOWLINE_SERVER_API_RATE", "greater than 0"]),
        ({"TOWLINE_SERVER_LOG_LEVEL": "loud"}, ["TOWLINE_SERVER_LOG_LEVEL", "'debug'"]),
        ({"TOWLINE_SERVER_KEEP_AUDIT_DAYS": "1"}, ["TOWLINE_SERVER_KEEP_AUDIT_DAYS", "30"]),
        ({"TOWLINE_SERVER_TLS_KEY_FILE": "/x"}, ["belong together"]),
        ({"TOWLINE_SERVER_DATABASE_URL": "sqlite:///x", "TOWLINE_SERVER_DATABASE_URL_FILE": "/x"}, ["contradict"]),
        ({"TOWLINE_SERVER_SESSION_IDLE": "1e9"}, ["longer than session_lifetime"]),
        ({"TOWLINE_SERVER_OFFLINE_AFTER": "31"}, ["shorter than two heartbeats"]),
        ({"TOWLINE_SERVER_PUBLIC_URL": "towline.example"}, ["https://"]),
    ],
)
def test_each_mistake_is_explained(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(StartupError) as raised:
        load(environment)
    assert all(word in str(raised.value) for word in words)


def test_every_mistake_is_told_at_once() -> None:
    problems = check({"TOWLINE_SERVER_LISTN": "x", "TOWLINE_SERVER_API_RATE": "x", "TOWLINE_SERVER_API_BURST": "y"})
    assert len(problems) == 3


def test_an_unknown_key_of_the_file_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("hostname = 'x'\n")
    assert check({}, file) == [f"{file}: hostname is no setting; did you mean hostnames?"]


@pytest.mark.parametrize("content", ["listen = ", "\x00", "= 1"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(content)
    assert "is no TOML" in check({}, file)[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in check({"TOWLINE_SERVER_CONFIG_FILE": str(tmp_path / "none")})[0]


def test_a_wrong_value_is_never_quoted_because_it_may_be_a_secret() -> None:
    assert "hunter2" not in str(check({"TOWLINE_SERVER_API_RATE": "hunter2"}))


def test_the_database_url_is_in_no_repr() -> None:
    assert "hunter2" not in repr(load({"TOWLINE_SERVER_DATABASE_URL": "postgresql://u:hunter2@h/d"}))


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_other_variables_are_left_alone() -> None:
    assert check({"TOWLINE_URL": "x", "TOWLINE_AGENT_X": "y", "PATH": "z"}) == []

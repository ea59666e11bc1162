"""Settings of the agent: where they come from, and what is told about wrong ones."""

from pathlib import Path

import pytest

from towline.agent.errors import SettingsError
from towline.agent.settings import AgentSettings, load


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('log_level = "debug"\nparallel_jobs = 2\n')

    settings = load(file, {"TOWLINE_AGENT_LOG_LEVEL": "error"})

    assert (settings.log_level, settings.parallel_jobs) == ("error", 2)


def test_file_is_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("parallel_jobs = 7\n")

    assert load(environment={"TOWLINE_AGENT_CONFIG": str(file)}).parallel_jobs == 7


def test_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("paralel_jobs = 2\n")

    with pytest.raises(SettingsError, match=r"agent\.toml: .*'paralel_jobs'; did you mean 'parallel_jobs'"):
        load(file, {})
    with pytest.raises(SettingsError, match="variable TOWLINE_AGENT_NOTHING"):
        load(None, {"TOWLINE_AGENT_NOTHING": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("PARALLEL_JOBS", "0"), ("PARALLEL_JOBS", "1.5"), ("STREAMS_LIMIT", "many"), ("WATCHDOG_SECONDS", "inf")],
)
def test_unusable_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"TOWLINE_AGENT_{name}: .* must be"):
        load(None, {f"TOWLINE_AGENT_{name}": value})


def test_join_token_is_no_setting() -> None:
    load(None, {"TOWLINE_AGENT_TOKEN": "x", "TOWLINE_AGENT_TOKEN_FILE": "y", "PATH": "z"})


def test_broken_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("log_level = \n")

    with pytest.raises(SettingsError, match="is not TOML"):
        load(file, {})
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "nothing.toml", {})


def test_projects_lie_in_the_state_folder_unless_told_otherwise() -> None:
    state = Path("/var/lib/x")

    assert AgentSettings(state_folder=state).projects == state / "projects"
    assert AgentSettings(state_folder=state, projects_folder=Path("/srv")).projects == Path("/srv")

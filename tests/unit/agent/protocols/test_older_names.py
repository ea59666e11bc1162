"""Settings of the older agents under their own names, beside ours."""

from pathlib import Path

import pytest

from towline.agent.errors import SettingsError
from towline.agent.protocols import names
from towline.agent.protocols.ids import BadId, foreign_id, job_id
from towline.agent.protocols.place import endpoint
from towline.agent.settings import load

YAML = """
pipeops:
  api_url: https://pipeops.example/base
  token: from-the-file
  tls: {enabled: true, ca_file: /etc/pipeops/ca.pem}
agent:
  id: agent-7
  cluster_name: shop
  port: 9000
  labels: {env: test, size: 3}
logging: {level: warn}
tunnels: {enabled: true}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(YAML)
    return path


def test_the_names_of_instadeploy_are_read() -> None:
    older = names.read("instadeploy", {"SERVER_URL": "ws://a:8000/ws", "AGENT_TOKEN": "one"})
    assert (older.server, older.token) == ("ws://a:8000/ws", "one")
    assert names.read("instadeploy", {"AGENT_TOKEN": "one", "AGENT_SECRET_TOKEN": "two"}).token == "two"


def test_the_environment_wins_over_the_yaml_file(file: Path) -> None:
    from_file = names.read("pipeops-ws", {}, file)
    assert (from_file.server, from_file.token) == ("https://pipeops.example/base", "from-the-file")
    assert (from_file.agent_id, from_file.cluster_name, from_file.listen) == ("agent-7", "shop", "9000")
    assert (from_file.labels, from_file.log_level) == ({"env": "test", "size": "3"}, "warning")
    both = names.read("pipeops-ws", {"PIPEOPS_TOKEN": "t", "PIPEOPS_API_URL": "http://b", "AGENT_ID": "x"}, file)
    assert (both.token, both.server, both.agent_id) == ("t", "http://b", "x")


def test_names_of_ours_win_and_those_of_theirs_count_with_their_protocol_alone(file: Path) -> None:
    theirs = {"PIPEOPS_API_URL": "http://b", "PIPEOPS_LOG_LEVEL": "debug", "AGENT_PORT": "9"}
    assert load(None, theirs).server == ""
    older = {**theirs, "TOWLINE_AGENT_PROTOCOL": "pipeops-rest", "TOWLINE_AGENT_PROTOCOL_FILE": str(file)}
    settings = load(None, older)
    assert (settings.server, settings.log_level, settings.listen) == ("http://b", "debug", "9")
    assert settings.ca_file == Path("/etc/pipeops/ca.pem")
    assert load(None, {**older, "TOWLINE_AGENT_SERVER": "http://c"}).server == "http://c"


def test_unknown_names_of_ours_stay_errors() -> None:
    with pytest.raises(SettingsError, match="nothing"):
        load(None, {"TOWLINE_AGENT_PROTOCOL": "instadeploy", "TOWLINE_AGENT_NOTHING": "1"})
    with pytest.raises(SettingsError, match="must be one of"):
        load(None, {"TOWLINE_AGENT_PROTOCOL": "pipeops"})
    with pytest.raises(SettingsError, match="must be one of"):
        load(None, {}, protocol="x")


@pytest.mark.parametrize(
    "text", ["pipeops: [", "- a", "pipeops: {token: tok-1\n", "\x00", "pipeops: {tls: {insecure_skip_verify: true}}"]
)
def test_a_file_that_cannot_be_used_is_told_without_its_tokens(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as found:
        names.read("pipeops-ws", {}, path)
    assert "tok-1" not in str(found.value)


def test_no_repr_shows_a_token(file: Path) -> None:
    assert "from-the-file" not in repr(names.read("pipeops-ws", {}, file))


@pytest.mark.parametrize("name", ["AGENT_PORT", "PIPEOPS_LOG_LEVEL"])
def test_a_value_that_cannot_be_is_an_error(name: str) -> None:
    with pytest.raises(SettingsError):
        names.read("pipeops-rest", {name: "many", "HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("url", "path", "found"),
    [
        ("ws://a:8000/ws", "/ws", "http://a:8000 /ws"), ("ws://a", "/ws", "http://a /ws"),
        ("wss://a/x/", "/ws", "https://a /x"), ("https://[::1]:9", "/ws", "https://[::1]:9 /ws"),
        ("https://a?z=1", "/ws", "https://a /ws?z=1"),
    ],
)  # fmt: skip
def test_addresses_are_read_as_the_original_reads_them(url: str, path: str, found: str) -> None:
    made = endpoint(url, path, default_path=True)
    assert f"{made} {made.path}" == found


@pytest.mark.parametrize("url", ["", "a:8000", "ftp://a", "http://user:secret@a", "http://a:99999", "http://"])
def test_other_addresses_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as found:
        endpoint(url, "/ws")
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    "foreign", ["j1", "0d7c5f6e-1111-2222-3333-444444444444", "../../x", "a b", "x_y", "ä" * 60, "-x"]
)
def test_ids_come_back_and_name_no_other_folder(foreign: str) -> None:
    made = job_id("pipeops", foreign)
    assert foreign_id("pipeops", made) == foreign
    assert "/" not in made and "." not in made and len(made) <= 240


@pytest.mark.parametrize("foreign", ["", "x" * 129])
def test_an_id_that_cannot_be_kept_is_refused(foreign: str) -> None:
    with pytest.raises(BadId):
        job_id("pipeops", foreign)

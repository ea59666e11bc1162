"""Where the surface listens."""

from pathlib import Path

import msgspec
import pytest

from towline.agent.errors import SettingsError
from towline.agent.settings import AgentSettings, load
from towline.agent.surface import addresses


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("8080", "127.0.0.1:8080", True),
        (":8080", "127.0.0.1:8080", True),
        ("localhost:0", "127.0.0.1:0", True),
        ("127.0.0.2:80", "127.0.0.2:80", True),
        ("[::1]:8080", "[::1]:8080", True),
        ("0.0.0.0:8080", "0.0.0.0:8080", False),
        ("[::]:8080", "[::]:8080", False),
        ("10.1.2.3:8080", "10.1.2.3:8080", False),
    ],
)
def test_address_is_read(text: str, shown: str, loopback: bool) -> None:
    address = addresses.parse(text)

    assert (str(address), address.is_loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text", ["", "x", "host.example:8080", "127.0.0.1", "127.0.0.1:", "1:2:3", ":99999", ":-1", "٣"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="listen must be PORT or ADDRESS:PORT"):
        addresses.parse(text)


def test_agent_listens_nowhere_unless_told(tmp_path: Path) -> None:
    assert addresses.wanted(AgentSettings(state_folder=tmp_path)) is None


def test_standalone_agent_listens_on_loopback_by_itself(tmp_path: Path) -> None:
    settings = AgentSettings(state_folder=tmp_path, standalone=True)

    assert str(addresses.wanted(settings)) == "127.0.0.1:8080"
    assert str(addresses.wanted(msgspec.structs.replace(settings, listen="9000"))) == "127.0.0.1:9000"


def test_port_of_the_pipeops_agent_is_known() -> None:
    assert load(None, {"PIPEOPS_PORT": "9090"}).listen == "9090"
    assert load(None, {"PIPEOPS_PORT": "9090", "TOWLINE_AGENT_LISTEN": "0.0.0.0:80"}).listen == "0.0.0.0:80"
    assert load(None, {"PIPEOPS_PORT": "tcp://10.0.0.1:80"}).listen == ""
    with pytest.raises(SettingsError, match="PIPEOPS_PORT"):
        load(None, {"PIPEOPS_PORT": "http"})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_standalone_is_read_from_the_environment(text: str, value: bool) -> None:
    assert load(None, {"TOWLINE_AGENT_STANDALONE": text}).standalone is value


def test_standalone_is_true_or_false() -> None:
    with pytest.raises(SettingsError, match="standalone must be true or false"):
        load(None, {"TOWLINE_AGENT_STANDALONE": "perhaps"})


def test_local_tokens_are_no_settings() -> None:
    load(None, {"TOWLINE_AGENT_LOCAL_READ_TOKEN": "x", "TOWLINE_AGENT_LOCAL_OPERATE_TOKEN": "y"})

"""kubectl's plugin: what it answers, what it keeps, and when it asks again."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from towline.cli import credentials
from towline.cli.credentials import Login
from towline.cli.kube import minted, plugin

SERVER = "https://towline.example"
NOW = 1_800_000_000.0
FORBIDDEN = {"httpx", "rich", "typer", "yaml", "platformdirs", "ssl", "asyncio", "dataclasses", "pathlib", "inspect"}


def kept(left: float = 3000.0, lifetime: float = 3600.0, **askers: float) -> plugin.Kept:
    return {"token": "twk_x", "expires": NOW + left, "lifetime": lifetime, "askers": askers}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who is signed in."""
    monkeypatch.setenv("TOWLINE_CONFIG_DIR", str(tmp_path))
    for name in ("TOWLINE_URL", "TOWLINE_TOKEN", plugin.EXEC_INFO):
        monkeypatch.delenv(name, raising=False)
    credentials.store(Login(SERVER, "twl_a", "ada"))
    return tmp_path


def fill(folder: Path, seconds: float = 3600.0) -> Path:
    """Put a good token where the plugin looks, given to nobody yet."""
    import hashlib
    import time

    path = folder / "kubernetes" / f"{hashlib.sha256(f'{SERVER}{chr(10)}twl_a'.encode()).hexdigest()[:32]}.json"
    path.parent.mkdir(exist_ok=True)
    plugin.store(str(path), {"token": "twk_x", "expires": time.time() + seconds, "lifetime": seconds})
    return path


def test_a_token_that_lives_on_is_given_again_and_one_near_its_end_is_not() -> None:
    assert plugin.is_good(kept(61), "1-1", NOW)
    assert not plugin.is_good(kept(60), "1-1", NOW)
    assert not plugin.is_good({}, "1-1", NOW)


def test_a_token_from_a_clock_that_was_ahead_is_not_trusted() -> None:
    assert not plugin.is_good(kept(7200), "1-1", NOW)


def test_a_program_that_asks_again_later_was_refused_and_gets_a_new_one() -> None:
    assert plugin.is_good(kept(**{"1-1": NOW - 1}), "1-1", NOW)
    assert not plugin.is_good(kept(**{"1-1": NOW - 6}), "1-1", NOW)
    assert plugin.is_good(kept(**{"1-1": NOW - 6}), "2-2", NOW)


def test_the_answer_says_to_ask_again_a_minute_before_the_end() -> None:
    answer = json.loads(plugin.credential(kept(3600), plugin.VERSIONS[0]))
    assert answer == {
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": "twk_x", "expirationTimestamp": "2027-01-15T08:59:00Z"},
    }  # fmt: skip


def test_a_short_token_says_a_time_before_its_end_too() -> None:
    answer = json.loads(plugin.credential(kept(20, lifetime=20), plugin.VERSIONS[0]))
    assert answer["status"]["expirationTimestamp"] == "2027-01-15T08:00:10Z"


@pytest.mark.parametrize("arguments", [["--server", SERVER], [f"--server={SERVER}/"], []])
def test_the_server_is_named_or_read_from_the_cluster_of_kubectl(arguments: list[str]) -> None:
    info = {"spec": {"cluster": {"server": f"{SERVER}/k8s/clusters/edge-1"}}}
    assert plugin.server_of(arguments, info) == SERVER


@pytest.mark.parametrize("arguments", [["--what"], ["--server"], ["--server", "ftp://x"], ["a", "b", "c"], []])
def test_arguments_that_name_no_server_are_refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_URL", raising=False)
    with pytest.raises(plugin.Refused):
        plugin.server_of(arguments, {})


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"spec": 5}', '{"spec": {"cluster": []}}'])
def test_an_exec_info_that_says_nothing_is_no_error(text: str) -> None:
    info = plugin.exec_info(text)
    assert plugin.version_of(info) == "client.authentication.k8s.io/v1"
    assert plugin.authority_of(info, SERVER) == ""


def test_a_version_that_is_not_spoken_is_refused() -> None:
    assert plugin.version_of({"apiVersion": "client.authentication.k8s.io/v1beta1"}).endswith("v1beta1")
    with pytest.raises(plugin.Refused):
        plugin.version_of({"apiVersion": "client.authentication.k8s.io/v1alpha1"})


def test_the_authority_of_another_server_is_not_taken() -> None:
    cluster = {"server": f"{SERVER}/k8s/clusters/a", "certificate-authority-data": "Q0E="}
    assert plugin.authority_of({"spec": {"cluster": cluster}}, SERVER) == "CA"
    assert plugin.authority_of({"spec": {"cluster": cluster}}, "https://other") == ""
    assert plugin.authority_of({"spec": {"cluster": cluster | {"certificate-authority-data": "?"}}}, SERVER) == ""


def test_the_plugin_and_the_other_commands_find_the_same_login(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.store(Login("https://second", "twl_b"))
    assert plugin.find_login(SERVER) == (str(credentials.folder()), "twl_a")
    monkeypatch.setenv("TOWLINE_TOKEN", "twl_env")
    assert plugin.find_login("https://second")[1] == credentials.current().token == "twl_env"
    assert plugin.find_login(SERVER)[1] == "twl_a"  # the token of the environment is for the current server alone
    monkeypatch.setenv("TOWLINE_URL", SERVER)
    assert plugin.find_login(SERVER)[1] == credentials.current().token == "twl_env"


def test_without_a_variable_the_folder_is_the_same_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    credentials.store(Login(SERVER, "twl_a"))
    assert plugin.find_login(SERVER)[0] == str(credentials.folder())


def test_nobody_signed_in_says_how_to(folder: Path) -> None:
    with pytest.raises(plugin.Refused, match="towline login https://other"):
        plugin.find_login("https://other")


def test_what_is_kept_is_readable_by_its_owner_alone(folder: Path) -> None:
    path = fill(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    assert plugin.load(str(path)) == {}


def test_a_link_in_the_place_of_what_is_kept_is_not_followed(folder: Path, tmp_path: Path) -> None:
    path = fill(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert plugin.load(str(path)) == {}


def test_a_damaged_file_is_as_none(folder: Path) -> None:
    path = fill(folder)
    path.write_text('{"token": 5')
    assert plugin.load(str(path)) == {}


def test_many_at_once_ask_the_server_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(server: str, token: str, authority: str) -> plugin.Kept:
        asked.append(token)
        import time

        return {"token": f"twk_{len(asked)}", "expires": time.time() + 3600, "lifetime": 3600.0}

    monkeypatch.setattr(minted, "mint", answer)  # the server's side: what it answers
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(plugin.token_of(SERVER, "")["token"])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (asked, set(found), len(found)) == (["twl_a"], {"twk_1"}, 20)


def test_signing_in_again_leaves_the_token_of_before_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    assert plugin.token_of(SERVER, "")["token"] == "twk_x"
    credentials.store(Login(SERVER, "twl_new"))
    monkeypatch.setattr(minted, "mint", lambda server, token, authority: kept() | {"token": f"twk_of_{token}"})
    assert plugin.token_of(SERVER, "")["token"] == "twk_of_twl_new"


def test_a_kept_token_is_printed_without_importing_what_takes_time(folder: Path) -> None:
    fill(folder)
    script = (
        "import sys; sys.argv = ['towline', 'k8s-token', '--server', 'https://towline.example']\n"
        "from towline.cli import start\n"
        "try:\n    start.main()\nfinally:\n    print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
        capture_output=True, text=True, check=False, env={"TOWLINE_CONFIG_DIR": str(folder), "PATH": os.defpath},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"]["token"] == "twk_x"
    assert not FORBIDDEN & set(done.stderr.split())

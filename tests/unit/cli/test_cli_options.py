import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from towline.cli import credentials
from towline.cli.commands.access import scope
from towline.cli.commands.account import _address
from towline.cli.commands.links import address
from towline.cli.credentials import Login
from towline.cli.errors import NOT_ALLOWED, USAGE, CliError
from towline.cli.options import deployment_path, pairs, past, split_place


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TOWLINE_URL", "TOWLINE_TOKEN", "TOWLINE_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOWLINE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.mark.parametrize("place", ["shop", "/shop", "edge/", "a/b/c", ""])
def test_a_place_is_cluster_and_project(place: str) -> None:
    with pytest.raises(CliError) as caught:
        split_place(place)
    assert caught.value.code == USAGE


def test_a_place_becomes_an_address_with_its_parts_quoted() -> None:
    assert deployment_path("edge 1/shop", "diff") == "clusters/edge%201/deployments/shop/diff"


def test_pairs_keep_what_stands_behind_the_first_sign() -> None:
    assert pairs(["A=1", "B=x=y", "C="], "variables") == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(CliError):
        pairs(["A"], "variables")


@pytest.mark.parametrize(
    ("text", "found"),
    [("db:5432", ("db", 5432)), ("127.0.0.1:22", ("127.0.0.1", 22)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_is_host_and_port(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["db", ":22", "db:", "db:0", "db:70000", "db:x"])
def test_other_addresses_are_usage_errors(text: str) -> None:
    with pytest.raises(CliError):
        address(text)


def test_the_place_of_a_role_is_read_as_people_write_it() -> None:
    assert scope("everything") == {"kind": "org"}
    assert scope("cluster=edge") == {"kind": "cluster", "cluster": "edge"}
    assert scope("project=edge/shop") == {"kind": "project", "project": "shop", "cluster": "edge"}
    assert scope("labels=env=prod,tier=db") == {"kind": "selector", "selector": {"env": "prod", "tier": "db"}}
    with pytest.raises(CliError):
        scope("moon")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("towline.example", "https://towline.example"),
        ("https://a:8443/", "https://a:8443"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_a_server_is_named_by_its_address(given: str, url: str) -> None:
    assert _address(given) == url


@pytest.mark.parametrize("given", ["", "http://towline.example", "ftp://a", "https://a/path", "https://"])
def test_plain_http_to_elsewhere_and_odd_addresses_are_refused(given: str) -> None:
    with pytest.raises(CliError):
        _address(given)


def test_nobody_is_signed_in_at_first() -> None:
    with pytest.raises(CliError) as caught:
        credentials.current()
    assert caught.value.code == NOT_ALLOWED


def test_the_last_login_is_the_current_one_and_only_its_user_can_read_it(own_folder: Path) -> None:
    credentials.store(Login("https://a", "twl_a"))
    credentials.store(Login("https://b", "twl_b"))
    assert credentials.current().url == "https://b"
    assert stat.S_IMODE((own_folder / "credentials.json").stat().st_mode) == 0o600


def test_the_environment_wins_and_keeps_the_stored_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.store(Login("https://a", "twl_a", "ada", "PEM"))
    monkeypatch.setenv("TOWLINE_TOKEN", "tws_ci")
    assert credentials.current() == Login("https://a", "tws_ci", "", "PEM")


def test_a_forgotten_login_leaves_the_others() -> None:
    credentials.store(Login("https://a", "twl_a"))
    credentials.store(Login("https://b", "twl_b"))
    credentials.forget("https://b")
    assert list(credentials.load_all()) == ["https://a"]


def test_a_damaged_file_says_what_to_do(own_folder: Path) -> None:
    own_folder.mkdir()
    (own_folder / "credentials.json").write_text(json.dumps([{"url": 1}])[:-3])
    with pytest.raises(CliError, match="damaged"):
        credentials.load_all()


def test_a_login_never_shows_its_token() -> None:
    assert "twl_secret" not in repr(Login("https://a", "twl_secret"))


def test_a_span_is_that_long_ago_and_a_moment_stays() -> None:
    now = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
    assert past("2h", now) == "2026-03-04T10:00:00+00:00"
    assert past("3d", now) == "2026-03-01T12:00:00+00:00"
    assert past("2026-01-31T14:02:00Z", now) == "2026-01-31T14:02:00Z"
    assert past("", now) == ""

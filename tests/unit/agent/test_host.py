"""What is read of a host: kernel files, Docker's answers, and the words for what is wrong."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from towline.agent.docker import containers, logs
from towline.agent.docker.engine import find_host
from towline.agent.host.facts import cloud, own_addresses
from towline.agent.host.measures import Meter
from towline.agent.projects.commands import _DOCKER_GONE
from towline.agent.projects.registries import Credentials, docker_config
from towline.agent.uplink.reports import MAX_CONTAINERS_PER_MESSAGE, in_parts
from towline.wire import link

FIB_TRIE = """Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.1.2.3
        /32 host LOCAL
     |-- 10.1.2.255
        /32 link BROADCAST
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 172.17.0.1
        /32 host LOCAL
"""
IF_INET6 = (
    "fe800000000000000000000000000001 02 40 20 80 eth0\n"
    "20010db8000000000000000000000007 02 40 00 80 eth0\n"
    "00000000000000000000000000000001 01 80 10 80 lo\n"
)


def test_own_addresses_are_those_of_the_interfaces(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/fib_trie").write_text(FIB_TRIE)
    (tmp_path / "net/if_inet6").write_text(IF_INET6)

    assert own_addresses(tmp_path) == {"10.1.2.3", "172.17.0.1", "2001:db8::7"}
    assert own_addresses(tmp_path / "nothing") == set()


def test_cloud_is_named_by_the_firmware(tmp_path: Path) -> None:
    assert cloud(tmp_path) == ""
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    assert cloud(tmp_path) == "aws"


def test_processor_use_is_that_since_the_last_look(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/statm").write_text("1000 200 1 1 1 1 1\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")
    (tmp_path / "stat").write_text("cpu 10 0 10 100 0 0 0 0 0 0\n")
    meter = Meter(tmp_path, proc=tmp_path)
    (tmp_path / "stat").write_text("cpu 40 0 30 140 10 0 0 0 0 0\n")

    measured = meter.measure()

    assert measured.cpu_percent == 50.0
    assert measured.memory_used_bytes == 600 * 1024
    assert measured.disk_free_bytes > 0
    assert meter.measure().cpu_percent == 0.0


def inspected(**state: Any) -> containers.Inspected:
    raw = {
        "Id": "abc", "Name": "/shop-web-2", "Image": "sha256:1", "RestartCount": 3, "Created": "2026-01-02T03:04:05Z",
        "State": {"Status": "running", "StartedAt": "2026-01-02T03:04:05.123456789Z", **state},
        "Config": {
            "Image": "web:1",
            "Labels": {
                "com.docker.compose.project": "shop", "com.docker.compose.service": "web",
                "com.docker.compose.container-number": "2", "com.docker.compose.oneoff": "False",
            },
        },
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None},
            "Networks": {"a": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": ""}},
        },
    }  # fmt: skip
    return msgspec.convert(raw, containers.Inspected)


def test_container_is_described_from_its_labels_and_state() -> None:
    shown = containers.describe(inspected(Health={"Status": "none"}, OOMKilled=True))

    assert (shown.name, shown.project, shown.service, shown.number) == ("shop-web-2", "shop", "web", 2)
    assert (shown.health, shown.oom_killed, shown.restarts) == ("", True, 3)
    assert shown.ports == ("0.0.0.0:8080->80/tcp",)
    assert shown.started_at == 1767323045.123456
    assert not shown.one_off
    assert inspected().addresses == ("172.18.0.2",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("nonsense", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:01.500000000+01:00", 1.5),
        ("1969-12-31T23:00:01.25-01:00", 1.25),
    ],
)
def test_times_of_docker_become_seconds(text: str, seconds: float) -> None:
    assert containers.timestamp(text) == seconds


def test_log_frames_are_cut_at_any_byte() -> None:
    stream = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x05two\n\n"
    for at in range(len(stream) + 1):
        cutter = logs.Demultiplexer()
        assert [*cutter.feed(stream[:at]), *cutter.feed(stream[at:])] == [(1, b"one"), (2, b"two\n\n")]


def test_docker_is_looked_for_where_it_is_named() -> None:
    assert find_host("unix:///x", {"DOCKER_HOST": "unix:///y"}) == "unix:///x"
    assert find_host("", {"DOCKER_HOST": "unix:///y"}) == "unix:///y"
    assert find_host("", {"XDG_RUNTIME_DIR": "/nothing"}).startswith("unix://")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", True),
        ("error during connect: Post ...: EOF", True),
        ("Get https://registry.example/v2/: dial tcp 10.0.0.1:443: connect: connection refused", False),
        ("Get https://registry.example/v2/: EOF", False),
        ('service "migrate" didn\'t complete successfully: exit 1', False),
    ],
)
def test_lost_docker_is_told_from_a_lost_registry(text: str, gone: bool) -> None:
    assert bool(_DOCKER_GONE.search(text)) == gone


def test_login_lies_in_a_private_folder_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text('{"auths": {"own.example": {"auth": "eDp5"}}, "credsStore": "desktop"}')
    logins = (Credentials("docker.io", "ada", "s3cret"), Credentials("r.example:5000", "bob", "pass"))

    with docker_config(tmp_path / "login", logins) as folder:
        assert folder is not None
        written = msgspec.json.decode((folder / "config.json").read_bytes())
        assert set(written["auths"]) == {"https://index.docker.io/v1/", "r.example:5000", "own.example"}
        assert "credsStore" not in written
        assert (folder.stat().st_mode & 0o777, (folder / "config.json").stat().st_mode & 0o777) == (0o700, 0o600)

    assert not (tmp_path / "login").exists()
    assert "s3cret" not in repr(logins)
    with docker_config(tmp_path / "login", ()) as nothing:
        assert nothing is None


def test_large_inventory_is_cut_into_messages() -> None:
    count = 2 * MAX_CONTAINERS_PER_MESSAGE + 1
    many = tuple(link.Container(id=str(number), name=str(number)) for number in range(count))

    parts = in_parts(link.Inventory(full=True, containers=many, projects=(link.Project(name="p"),)))

    assert [part.full for part in parts] == [True, False, False]
    assert tuple(each for part in parts for each in part.containers) == many
    assert [len(part.projects) for part in parts] == [1, 0, 0]
    largest = max(len(link.encode(part)) for part in parts)
    assert largest < link.MAX_MESSAGE_BYTES

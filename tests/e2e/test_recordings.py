"""Recorded sessions as people meet them: kubectl by both transports on the real cluster, and `towline exec`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import commands
from tests.support import kubernetes_objects as objects
from tests.support.commands import answer, succeed
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.support.product import PASSWORD, Product, wait_for

NAMESPACE = "kr-shells"
NOTE = "Everything shown here is recorded and kept for 5 days."
VERSIONS = ("1.28", "1.37")
"""The first speaks SPDY, the second WebSocket."""
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def home(stack: Stack, ada: User) -> Iterator[str]:
    """A namespace with a shell and an echo, in which every exec is recorded."""
    with stack.empty_namespace(NAMESPACE) as name, stack.http(stack.owner.token) as api:
        echo = objects.pod("echo", "sh", "-c", "echo ready; while read line; do echo got $line; done")
        echo["spec"]["containers"][0] |= {"stdin": True}
        objects.apply(stack.direct(), name, objects.pod("shell"), echo)
        objects.wait_for_pods(stack.direct(), name, "pod/shell", "pod/echo")
        rules = {"mode": "all", "namespaces": [NAMESPACE], "keep_days": 5}
        policy = f"/api/v1/clusters/{CLUSTER}/recording-policy"
        assert api.put(policy, json=rules).status_code == 200
        yield name
        api.put(policy, json={})


def newest(stack: Stack, **query: str) -> dict[str, Any]:
    """The newest recording, once it has ended."""
    with stack.http(stack.owner.token) as api:

        def ended() -> Any:
            rows = api.get("/api/v1/recordings", params={"limit": 1, "namespace": NAMESPACE, **query}).json()["items"]
            return rows and rows[0]["state"] != "running" and rows[0]

        found: dict[str, Any] = wait_for(ended, "a recording", 20)
        return found


def shown(stack: Stack, recording: dict[str, Any]) -> str:
    with stack.http(stack.owner.token) as api:
        lines = api.get(f"/api/v1/recordings/{recording['id']}/cast").text.splitlines()
    return "".join(text for _, kind, text in map(json.loads, lines[1:]) if kind == "o")


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubectl_says_once_that_it_is_recorded_and_disturbs_no_output(
    version: str, home: str, stack: Stack, ada: User
) -> None:
    client = ada.client(version)
    done = client.run("-n", home, "exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.replace("\r\n", "\n") == f"{NOTE}\nerr\ncommand terminated with exit code 7\n"
    found = newest(stack, target="shell")
    assert (found["user"], found["exit"], found["state"]) == ("k8ada", "7", "whole")
    assert found["command"] == "sh -c echo out; echo err >&2; exit 7"
    assert sorted(shown(stack, found).split()) == ["err", "out"]


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_shell_on_a_terminal_is_recorded_with_its_sizes_and_without_its_keys(
    version: str, home: str, stack: Stack, ada: User
) -> None:
    client = ada.client(version)
    place: Any = SimpleNamespace(environment=client.environment, folder=client.home)
    argv = client.command("-n", home, "exec", "-it", "shell", "--", "sh")
    with commands.terminal(place, *argv, columns=101, rows=31) as screen:
        screen.shows(NOTE)
        screen.type("echo wor$((40+2))ks\n")
        screen.shows("wor42ks")
        screen.resize(120, 40)
        screen.type("stty -echo; stty size; read secret; echo done$((1+1))\n")
        screen.shows("40 120")
        screen.type("hunter2\n")
        screen.shows("done2")
        screen.type("exit\n")
        assert screen.wait() == 0
    found = newest(stack, target="shell")
    assert (found["columns"], found["rows"], found["tty"]) == (101, 31, True)
    text = shown(stack, found)
    assert "wor42ks" in text
    assert "done2" in text
    assert "hunter2" not in text
    assert NOTE not in text


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", VERSIONS)
def test_many_bytes_pass_unchanged_beside_the_recording(version: str, home: str, stack: Stack, ada: User) -> None:
    data = bytes(range(256)) * 4096 * 20
    # the second keeps a kubelet from resetting its connection before the API server has passed everything on
    echo_all = ("sh", "-c", "cat; sleep 1")
    code, out, err = ada.client(version).raw("-n", home, "exec", "-i", "shell", "--", *echo_all, stdin=data)
    assert (code, out == data) == (0, True), err
    found = newest(stack, target="shell")
    assert found["shown_bytes"] + found["dropped_bytes"] == len(data)


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", VERSIONS)
def test_attach_is_recorded(version: str, home: str, stack: Stack, ada: User) -> None:
    with ada.client(version).going("-n", home, "attach", "-i", "echo") as attached:
        attached.write(b"hello\n")
        attached.line("got hello")
    found = newest(stack, target="echo")
    assert found["action"] == "attach"
    assert "got hello" in shown(stack, found)


@pytest.mark.kubernetes
@pytest.mark.timeout(180)
def test_the_commands_list_play_and_download(home: str, stack: Stack, ada: User, tmp_path: Path) -> None:
    def towline(*words: str, stdin: str = "") -> str:
        argv = [str(Path(sys.executable).with_name("towline")), *words]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TOWLINE_CONFIG_DIR": str(tmp_path / "t")}
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
            env=environment | {"NO_COLOR": "1", "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    words = ("--user", "k8ada", "--password-file", "-", "--ca-file", str(stack.authority))
    towline("login", stack.url, *words, stdin=PASSWORD)
    assert NOTE in towline("kube", "exec", CLUSTER, "shell", "-n", home, "-T", "--", "echo", "by-hand")
    found = newest(stack, target="shell")
    listed = towline("recordings", "list", "--target", "shell", "--limit", "1")
    assert re.search(rf"{found['id']} .* k8ada +{CLUSTER}/{home}/shell +echo by-hand", listed), listed
    assert "by-hand" in towline("recordings", "play", found["id"], "--speed", "100")
    towline("recordings", "download", found["id"])
    file = tmp_path / f"{found['id']}.cast"
    assert json.loads(file.read_text().splitlines()[0])["version"] == 2
    assert "by-hand" in towline("recordings", "play", str(file))
    assert "all" in towline("recordings", "policy", CLUSTER)


@pytest.mark.docker
@pytest.mark.timeout(180)
def test_a_terminal_in_a_container_is_recorded_and_played(shop: Product) -> None:
    succeed(shop, "towline recordings policy here --mode all --keep-days 5")
    try:
        with commands.terminal(shop, "towline", "exec", "here/w4cli", "web", "--", "sh", columns=91, rows=33) as shell:
            shell.shows(NOTE)
            shell.type("echo wor$((40+2))ks; exit 3\n")
            shell.shows("wor42ks")
            assert shell.wait() == 3
        assert succeed(shop, "echo in | towline exec -T here/w4cli web -- cat") == "in\n"

        def ended() -> Any:
            rows = answer(shop, "towline recordings list --cluster here --target web")
            return len(rows) >= 2 and rows[0]["state"] == rows[1]["state"] == "whole" and rows

        last, first = wait_for(ended, "the recordings", 20)[:2]
        assert (first["exit"], first["columns"], first["rows"], first["command"]) == ("3", 91, 33, "sh")
        assert last["command"] == "cat"
        assert "wor42ks" in succeed(shop, f"towline recordings play {first['id']} --speed 100")
        succeed(shop, f"towline recordings rm {last['id']}")
    finally:
        succeed(shop, "towline recordings policy here --mode settings --keep-days settings")

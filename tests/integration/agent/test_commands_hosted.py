"""Verbs that the host's own kubectl does, with a program in its place that tells what it was given."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.agent_host import AgentHost
from tests.support.command_host import command, ended, run
from tests.support.small_api import SmallApi

from towline.agent.kubernetes.credentials import Credentials
from towline.agent.policy import CommandRules, KubernetesRules, LocalPolicy
from towline.wire import orders

LISTED = LocalPolicy(commands=CommandRules(kubectl_verbs=("label", "version", "wait", "create")))
PLAYED = """#!{python}
import base64, http.client, json, os, ssl, sys, time
option = next(word for word in sys.argv if word.startswith("--kubeconfig="))
path = option.partition("=")[2]
config = json.load(open(path))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

def ask(method, target, token=user["token"]):
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    host = cluster["server"].removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=trust, timeout=20)
    headers = {{"Authorization": "Bearer " + token, "Impersonate-User": "system:admin", "X-Remote-User": "root"}}
    connection.request(method, target, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()

modes = [oct(os.stat(each).st_mode & 0o777) for each in (path, os.path.dirname(path))]
told = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "modes": modes, "folder": os.path.dirname(path),
        "pid": os.getpid(), "stdin": sys.stdin.read()}}
open({report!r}, "w").write(json.dumps(told))
{rest}
"""


@pytest.fixture
async def api() -> AsyncIterator[SmallApi]:
    api = SmallApi()
    await api.begin()
    api.answers["/version"] = (200, "application/json", b'{"gitVersion": "v1.36.3"}')
    api.answers["/api/v1/namespaces/shop/pods/a"] = (200, "application/json", b'{"kind": "Pod"}')
    yield api
    await api.end()


@pytest.fixture
async def host(api: SmallApi, tmp_path: Path) -> AsyncIterator[AgentHost]:
    host = AgentHost(tmp_path / "state", kubernetes=Credentials(api.material), policy=LISTED)
    yield host
    await host.stop()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def play(monkeypatch: pytest.MonkeyPatch, report: Path, rest: str) -> None:
    """Put a program in kubectl's place."""
    folder = report.parent / "bin"
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(PLAYED.format(python=sys.executable, report=str(report), rest=rest))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TOWLINE_AGENT_TOKEN", "of-the-agent")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")


async def test_a_verb_that_the_policy_does_not_list_runs_nothing(api: SmallApi, tmp_path: Path) -> None:
    host = AgentHost(tmp_path / "state", kubernetes=Credentials(api.material))
    ran = await run(host, "kubectl", "label", "pod/a", "x=y", namespace="shop")
    await host.stop()

    assert ran.outcome == ("refused", "forbidden")
    assert "does not list kubectl label" in ran.result.error
    assert api.asked == []


async def test_a_host_without_kubectl_says_so(host: AgentHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    ran = await run(host, "kubectl", "version")

    assert (ran.outcome, ran.detail.exit_code) == (("failed", "command_exit"), 127)
    assert ran.err == "error: there is no kubectl on this host\n"


async def test_the_program_speaks_as_who_asked_and_knows_nothing_of_the_agent(
    api: SmallApi, host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, report, 'print(ask("GET", "/version")[0])')

    ran = await run(host, "kubectl", "version", role="viewer")

    assert (ran.outcome, ran.out, ran.err) == (("succeeded", ""), "200\n", "")
    told = json.loads(report.read_text())
    assert told["modes"] == ["0o600", "0o700"]
    assert not Path(told["folder"]).exists()
    assert told["arguments"][:2] == ["version", "--namespace=default"]
    assert set(told["environment"]) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {
        "PATH", "HOME", "LC_ALL", "KUBERC", "KUBECTL_KUBERC", "NO_PROXY",
    }  # fmt: skip
    ((_, _, fields),) = api.asked
    assert (fields["impersonate-user"], fields["impersonate-group"]) == ("towline:ann", "towline:role:viewer")
    assert fields["authorization"] == "Bearer secret-of-the-agent"
    assert "x-remote-user" not in fields
    assert "secret-of-the-agent" not in json.dumps(told)


async def test_folders_that_a_killed_agent_left_are_removed(
    host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, report, "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = [tmp_path / f"towline-kubectl-{pid}-x" for pid in (os.getpid(), 2**22 + 1)]
    kept = tmp_path / f"towline-kubectl-{os.getppid()}-x"
    for folder in (*left, kept):
        folder.mkdir()

    await run(host, "kubectl", "version")

    assert [folder.exists() for folder in (*left, kept)] == [False, False, True]


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/api/v1/namespaces/shop/secrets"), ("PATCH", "/api/v1/namespaces/shop/pods/b"),
     ("DELETE", "/api/v1/namespaces/shop/pods/a"), ("GET", "/api/v1/namespaces/other/pods/a"),
     ("POST", "/api/v1/namespaces/shop/pods/a/exec?command=id")],
)  # fmt: skip
async def test_a_request_that_was_not_announced_is_not_passed_on(
    api: SmallApi, host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch, method: str, target: str
) -> None:
    play(monkeypatch, report, f'print(ask("{method}", "{target}")[0])')

    ran = await run(host, "kubectl", "label", "pod/a", "x=y", namespace="shop")

    assert (ran.outcome, ran.out) == (("refused", "forbidden"), "403\n")
    assert "more than this command was allowed" in ran.result.error
    assert api.asked == []


async def test_the_local_policy_holds_for_the_program_too(
    api: SmallApi, report: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, report, "")
    policy = LocalPolicy(commands=CommandRules(kubectl_verbs=("label",)), kubernetes=KubernetesRules(read_only=True))
    host = AgentHost(tmp_path / "state", kubernetes=Credentials(api.material), policy=policy)
    ran = await run(host, "kubectl", "label", "pod/a", "x=y", namespace="shop")
    await host.stop()

    assert ran.outcome == ("refused", "forbidden")
    assert not report.exists()


async def test_another_token_opens_nothing(
    api: SmallApi, host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, report, 'print(ask("GET", "/version", "guessed")[0])')

    assert (await run(host, "kubectl", "version")).out == "401\n"
    assert api.asked == []


async def test_arguments_that_look_like_shell_arrive_as_they_are(
    host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, report, "")
    words = [f"x=$(touch {tmp_path}/made)", "y=; rm -rf /", "z=a\nb"]

    await run(host, "kubectl", "label", "pod/a", *words, namespace="shop")

    told = json.loads(report.read_text())["arguments"]
    assert told[told.index("--") + 1 :] == ["pod/a", *words]
    assert not (tmp_path / "made").exists()


async def test_a_pod_that_owns_its_node_is_not_created(
    api: SmallApi, host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, report, "")
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: a, image: b}]}"

    ran = await run(host, "kubectl", "create", "-f", "-", stdin=pod, namespace="shop")

    assert ran.outcome == ("refused", "forbidden")
    assert not report.exists()


async def test_output_streams_and_its_exit_code_is_kept(
    host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, report, 'print("out"); print("wrong", file=sys.stderr); sys.exit(3)')

    ran = await run(host, "kubectl", "version")

    assert (ran.outcome, ran.detail.exit_code) == (("failed", "command_exit"), 3)
    assert (ran.out, ran.err, ran.result.error) == ("out\n", "wrong\n", "wrong")


async def test_a_flood_is_cut_at_its_bound(host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, report, 'print("x" * 400_000)')

    ran = await run(host, "kubectl", "version", output_bytes=100_000)

    assert ran.outcome == ("succeeded", "")
    assert (len(ran.out), ran.detail.stdout_bytes, ran.detail.truncated) == (100_000, 400_001, True)


@pytest.mark.parametrize("how", ["cancelled", "timed_out"])
async def test_the_whole_process_group_ends_with_the_command(
    host: AgentHost, report: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    play(monkeypatch, report, "child = os.fork()\nif child: print(child, flush=True)\ntime.sleep(1000)")
    order = command("kubectl", "wait", "pod/a", "--for=delete", namespace="shop")
    job = await host.submit("command.run", order, timeout=60.0 if how == "cancelled" else 2.0)
    child = int((await _first_line(host, job)).strip())
    if how == "cancelled":
        host.runner.cancel(job)

    ran = await ended(host, job)

    assert ran.result.code == how
    told = json.loads(report.read_text())
    assert not Path(told["folder"]).exists()
    async with asyncio.timeout(10):
        while any(_runs(pid) for pid in (child, told["pid"])):
            await asyncio.sleep(0.01)


async def _first_line(host: AgentHost, job: str) -> str:
    async with asyncio.timeout(30):
        while True:
            texts = [event.text for event in host.host.journal.events(job) if event.stage == orders.STDOUT]
            if texts:
                return texts[0]
            host.published.clear()
            await host.published.wait()


def _runs(pid: int) -> bool:
    """Tell whether a process does anything: one that nobody has waited for is over."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.getpid() != pid

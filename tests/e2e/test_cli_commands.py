"""`towline run` as people use it: a real server, the shipped command line, and agents on the real link that answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command_runs import COMPOSE, KUBERNETES, Order, Place
from tests.support.control_app import ControlApp, test_settings
from tests.support.page_server import PageServer

from towline.aio.tasks import TaskOwner
from towline.control.access.permissions import Right, Role
from towline.control.app import create_app
from towline.wire import link

pytestmark = pytest.mark.timeout(180)

PATIENCE = 60.0
NAMES = ("edge-1", "edge-2", "edge-3", "edge-4", "edge-5", "host-1")


class Fleet:
    """Agents that answer every command, and a command line that is signed in."""

    def __init__(self, server: PageServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        app = ControlApp(server.control, create_app(server.control), test_settings("sqlite://", folder))
        self.place = Place(app, server.url)
        self.tasks = TaskOwner("answers")
        self.environment: dict[str, str] = {}

    async def start(self) -> str:
        """Bring the clusters up. Returns: a token of somebody who may run commands."""
        for number, name in enumerate(NAMES):
            await self.place.cluster(
                name, labels={"env": "prod" if number < 5 else "lab"},
                capabilities=COMPOSE if name == "host-1" else KUBERNETES,
            )  # fmt: skip
            self.tasks.spawn(name, self._answer(name))
        return await self.place.app.token("otto", Right(Role.DEPLOYER))

    async def stop(self) -> None:
        await self.tasks.close()
        for agent in self.place.agents.values():
            await agent.stop()
        for client in self.place.app.clients:
            await client.aclose()

    async def _answer(self, name: str) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await self._one(name, await self.place.order(name))

    async def _one(self, name: str, order: Order) -> None:
        words = order.payload["arguments"]
        if words[0] == "delete":
            await order.answer(f"Error: {words[-1]} not found\n", 1)
        elif words[0] == "apply":
            await order.answer(f"applied {len(order.payload['stdin'])} bytes\n")
        elif "-f" in words:
            await order.say("stdout", "one\n", "tw")
            await order.say("stdout", "o\n")
            await self._until_cancelled(order)
        else:
            same = name if name == "edge-5" else "all the same"
            await order.answer(f"{same}: {' '.join(words)}\n")

    async def _until_cancelled(self, order: Order) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await order.agent.next(link.JobCancel)
                break
        await order.end(130, "cancelled", outcome="cancelled", code="cancelled")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("commands")
    with PageServer(folder, enrol_per_address=10_000) as server:
        made = Fleet(server, folder)
        token = server.do(made.start())
        made.environment = os.environ | {
            "TOWLINE_URL": server.url, "TOWLINE_TOKEN": token, "TOWLINE_CONFIG_DIR": str(folder / "config"),
            "NO_COLOR": "1",
        }  # fmt: skip
        try:
            yield made
        finally:
            server.do(made.stop())


def towline(fleet: Fleet, *words: str, stdin: str | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towline.cli.main", *words]
    given: dict[str, object] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(
        command, env=fleet.environment, text=True, capture_output=True, timeout=PATIENCE, check=False, **given,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def test_one_target_prints_what_the_program_printed(fleet: Fleet) -> None:
    done = towline(fleet, "run", "host-1", "--", "docker", "ps", "-a")
    assert done.stdout == "all the same: ps -a\n"


def test_a_few_targets_print_behind_their_names(fleet: Fleet) -> None:
    done = towline(fleet, "run", "edge-1", "edge-2", "--", "kubectl", "get", "pods")
    assert sorted(done.stdout.splitlines()) == ["edge-1 | all the same: get pods", "edge-2 | all the same: get pods"]


def test_many_targets_are_listed_and_equal_answers_are_shown_once(fleet: Fleet) -> None:
    done = towline(fleet, "run", "--selector", "env=prod", "--", "kubectl", "get", "nodes")
    assert done.stdout.splitlines() == [
        "== 4 clusters: edge-1, edge-2, edge-3, edge-4", "all the same: get nodes", "",
        "== 1 cluster: edge-5", "edge-5: get nodes",
    ]  # fmt: skip
    assert "kubectl get nodes" in done.stderr and "edge-3" in done.stderr
    groups = json.loads(towline(fleet, "run", "--all", "-o", "json", "--", "kubectl", "get", "nodes").stdout)
    assert [len(group["targets"]) for group in groups] == [4, 1]


def test_a_command_that_fails_ends_with_one_and_says_where(fleet: Fleet) -> None:
    done = towline(fleet, "run", "edge-1", "--", "kubectl", "delete", "pod", "web", code=1)
    assert "Error: web not found" in done.stderr and "exit code 1" in done.stderr
    many = towline(fleet, "run", "--all", "--yes", "--", "kubectl", "delete", "pod", "web", code=1)
    assert "exit code 1" in many.stdout


def test_what_cannot_be_read_is_usage_and_who_may_not_is_told(fleet: Fleet) -> None:
    assert "exec" in towline(fleet, "run", "edge-1", "--", "kubectl", "exec", "web", "--", "sh", code=2).stderr
    assert "which clusters" in towline(fleet, "run", "--", "kubectl", "get", "pods", code=2).stderr
    assert "bash" in towline(fleet, "run", "edge-1", "--", "bash", "-c", "id", code=2).stderr
    assert "no Kubernetes" in towline(fleet, "run", "host-1", "--", "kubectl", "get", "pods", code=3).stderr
    assert towline(fleet, "run", "edge-9", "--", "kubectl", "get", "pods", code=4).stderr


def test_a_manifest_comes_by_standard_input(fleet: Fleet) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    done = towline(fleet, "run", "edge-1", "--", "kubectl", "apply", "-f", "-", stdin=manifest)
    assert done.stdout == f"applied {len(manifest)} bytes\n"


def test_list_runs_nothing(fleet: Fleet) -> None:
    before = towline(fleet, "runs", "-o", "json").stdout
    done = towline(fleet, "run", "--all", "--list", "--", "kubectl", "get", "pods")
    assert "edge-4" in done.stderr
    assert towline(fleet, "runs", "-o", "json").stdout == before


def test_a_saved_command_is_run_with_its_values(fleet: Fleet) -> None:
    words = ("commands", "save", "show", "--default", "kind=pods", "-l", "env=prod", "--")
    towline(fleet, *words, "kubectl", "get", "{{kind}}", "-l", "app={{app}}")
    assert "app={{app}}" in towline(fleet, "commands", "show", "show").stdout
    done = towline(fleet, "run", "edge-1", "--saved", "show", "--set", "app=web")
    assert done.stdout == "all the same: get pods -l app=web\n"
    assert "app must be given" in towline(fleet, "run", "edge-1", "--saved", "show", code=2).stderr
    towline(fleet, "commands", "remove", "show", "--yes")
    towline(fleet, "commands", "show", "show", code=4)


def test_a_run_goes_on_without_its_command_line_and_is_cancelled_by_another(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "towline.cli.main", "run", "edge-1", "--", "kubectl", "logs", "-f", "web"]
    going = subprocess.Popen(
        command, env=fleet.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert going.stdout is not None and going.stderr is not None
    assert [going.stdout.readline(), going.stdout.readline()] == ["one\n", "two\n"]  # as it comes
    going.send_signal(signal.SIGINT)
    assert going.wait(PATIENCE) == 130
    said = going.stderr.read()
    run_id = said.rpartition("--cancel ")[2].strip(" `\n")
    assert run_id.startswith("run_"), said
    assert "running" in towline(fleet, "runs", "show", run_id).stdout
    towline(fleet, "run", "--cancel", run_id)
    deadline = time.monotonic() + PATIENCE
    while "cancelled" not in towline(fleet, "runs", "show", run_id).stdout:
        assert time.monotonic() < deadline
    going.stdout.close()
    going.stderr.close()


def test_kube_each_is_the_same_by_its_old_name(fleet: Fleet) -> None:
    done = towline(fleet, "kube", "each", "--all", "-o", "json", "--", "get", "nodes")
    assert [(one["clusters"], one["code"]) for one in json.loads(done.stdout)] == [
        (["edge-1", "edge-2", "edge-3", "edge-4"], 0), (["edge-5"], 0),
    ]  # fmt: skip
    failed = towline(fleet, "kube", "each", "--cluster", "edge-1", "--", "delete", "pod", "web", code=1)
    assert "exit code 1" in failed.stdout

"""The server's process and an older agent are killed while work is queued, running and finished, under each protocol.

Each is done once and each result is kept once: what the API server and the engine have on record is counted. Our own
agent speaks each protocol. A minute in all: the server is killed three times, each agent as often as it goes away.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.agent_host import remove_project
from tests.support.compose_files import COLOURED_WEB as WEB
from tests.support.held_objects import HeldObjects
from tests.support.older_stack import DEPLOYS, NAMESPACE, REST, WEBSOCKET, OlderStack
from tests.support.product import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

WHO = "towline:root"


class Story:
    """One finished, one running and one queued command of a cluster, through a kill of the server."""

    def __init__(self, older: OlderStack, cluster: str) -> None:
        self.older = older
        self.cluster = cluster
        self.held = HeldObjects(older.admin, NAMESPACE, WHO)
        mark = secrets.token_hex(3)
        self.running_name, self.queued_name = f"running-{mark}", f"queued-{mark}"
        self.finished = ""
        self.running = ""
        self.queued = ""

    def begin(self) -> None:
        self.held.hold(self.running_name)
        self.held.hold(self.queued_name)
        self.held.let_go(self.queued_name)  # it goes at once when it is deleted
        self.finished = self.older.begin(self.cluster, "get", "cm", "kube-root-ca.crt", "-o", "name")
        self.running = self.older.begin(self.cluster, "delete", "cm", self.running_name)

    def has_begun(self) -> None:
        """Wait until one has ended and the other is under way."""
        assert self.older.ended(self.finished)["state"] == "succeeded"
        wait_for(lambda: self.held.is_being_deleted(self.running_name), "the deletion to begin", 60)

    def queue(self) -> None:
        self.queued = self.older.begin(self.cluster, "delete", "cm", self.queued_name)

    def kill_the_server(self) -> None:
        """Kill it, let the running command end meanwhile, and start it again."""
        self.older.kill("server")
        self.held.let_go(self.running_name)
        self.older.start_server()

    def judge(self) -> None:
        """Expect what holds under every protocol."""
        assert self.older.ended(self.finished)["state"] == "succeeded"
        assert self.older.printed(self.finished) == "configmap/kube-root-ca.crt\n"
        queued = self.older.ended(self.queued)
        assert (queued["state"], queued["exit_code"]) == ("succeeded", 0), queued
        assert self.older.printed(self.queued) == f'configmap "{self.queued_name}" deleted\n'
        self.older.ended(self.running)
        for name in (self.running_name, self.queued_name):
            assert self.held.held(name) is None
            assert self.held.deletions(name) == 1


@pytest.fixture
def docker_agent(older: OlderStack, docker_engine: str) -> Iterator[str]:
    """Returns: a project for it."""
    project = f"older-{secrets.token_hex(3)}"
    older.join_older(DEPLOYS)
    older.start_older(DEPLOYS)
    yield project
    older.end(DEPLOYS)
    remove_project(project)


def test_pipeops_websocket_commands_run_once_though_server_and_agent_are_killed(older: OlderStack) -> None:
    story = Story(older, WEBSOCKET)
    story.begin()
    story.has_begun()
    older.kill(WEBSOCKET)
    wait_for(lambda: not older.is_connected(WEBSOCKET), "the agent to be missed", 30)
    story.queue()
    story.kill_the_server()
    older.start_older(WEBSOCKET)
    story.judge()
    # Done by the server's own process, which was killed: whether it took place is not known, so it is said, not redone.
    target = older.target(story.running)
    assert (target["state"], target["code"]) == ("failed", "interrupted"), target
    wait_for(lambda: older.is_served(WEBSOCKET), "the cluster to be served again", 30)


def test_pipeops_rest_commands_run_once_though_server_and_agent_are_killed(older: OlderStack) -> None:
    story = Story(older, REST)
    older.join_older(REST)
    older.start_older(REST)
    older.kill(REST)
    story.begin()  # both wait for the agent, which asks as soon as it is there
    older.start_older(REST)
    story.has_begun()
    story.kill_the_server()
    target = older.ended(story.running)
    assert (target["state"], target["exit_code"]) == ("succeeded", 0), target
    assert older.printed(story.running) == f'configmap "{story.running_name}" deleted\n'
    older.kill(REST)
    story.queue()
    older.start_older(REST)
    story.judge()
    older.end(REST)


@pytest.mark.docker
def test_instadeploy_deploys_run_once_though_server_and_agent_are_killed(older: OlderStack, docker_agent: str) -> None:
    path = f"clusters/{DEPLOYS}/deployments/{docker_agent}"

    def deploy(colour: str) -> str:
        body = {"compose": WEB, "variables": {"COLOUR": colour}, "options": {"settle_seconds": 0.3}}
        return str(older.call("POST", f"{path}/revisions", body)["job"]["id"])

    made = Made(docker_agent)
    finished = deploy("red")
    assert older.job(finished)["state"] == "succeeded"
    older.kill(DEPLOYS)
    wait_for(lambda: not older.is_connected(DEPLOYS), "the agent to be missed", 30)
    running = deploy("blue")  # queued while the agent is away
    older.start_older(DEPLOYS)
    wait_for(lambda: older.call("GET", f"jobs/{running}")["stage"], "it to begin", 60)
    older.kill("server")
    older.start_server()
    assert older.job(running)["state"] == "succeeded"
    wait_for(lambda: _is_well(older.call("GET", path), 2), "the second revision", 30)
    assert older.job(finished)["state"] == "succeeded"
    assert made.count() == 2


class Made:
    """Counts the containers that the engine makes for a project; the engine itself keeps its last 256 events alone."""

    def __init__(self, project: str) -> None:
        words = ("docker", "events", "--filter", "event=create", "--format", "{{.Actor.ID}}", "--filter")
        label = f"label=com.docker.compose.project={project}"
        self._process = subprocess.Popen([*words, label], stdout=subprocess.PIPE, text=True)

    def count(self) -> int:
        """Stop counting. Returns: how many there were."""
        self._process.terminate()
        said, _ = self._process.communicate(timeout=20)
        return len(said.split())


def _is_well(shown: Any, revision: int) -> bool:
    return bool((shown["state"], shown["revision"]) == ("healthy", revision))

"""Commands on the real cluster while the control plane's process, or the agent's, is killed in the middle of them.

Right result each, exactly once: what the API server itself has on record is counted. Half a minute in all: a
server, an agent and a pod are started once, the server is killed twice and the agent once, and each comes back.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import need
from tests.support.chaos import HOST_NAME, Bed
from tests.support.held_objects import HeldObjects
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

TALKER = "talker"
TALK = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done"
AT_ONCE = 10
NO_DOCKER = "unix:///nowhere/docker.sock"


class KubernetesBed(Bed):
    """The product beside the cluster, without Docker."""

    def wait_for_host(self, timeout: float = 60.0) -> None:
        def well() -> bool:
            shown = self.cluster()
            ready = {each["name"]: each["ready"] for each in shown["capabilities"]}
            return shown["link"]["connected"] and ready.get("kubernetes", False)

        self.wait(well, "the agent to be connected, with its cluster", timeout)


class Scene(HeldObjects):
    """A server, an agent, and ada who runs commands."""

    def __init__(self, bed: Bed, admin: Admin, namespace: str) -> None:
        super().__init__(admin, namespace, "towline:ada")
        self.bed = bed

    # -- commands ----------------------------------------------------------------------------------

    def begin(self, *arguments: str, **more: Any) -> str:
        body = {"program": "kubectl", "arguments": arguments, "clusters": [HOST_NAME], "namespace": self.namespace}
        headers = {"idempotency-key": secrets.token_hex(8)}
        run: str = self.bed.call("POST", "/commands/runs", json=body | more, headers=headers)["id"]
        return run

    def target(self, run: str) -> Any:
        return self.bed.call("GET", f"/commands/runs/{run}")["targets"][0]

    def printed(self, run: str) -> str:
        found: str = self.bed.call("GET", f"/commands/runs/{run}/targets/0")["stdout"]
        return found

    def says(self, run: str, text: str) -> None:
        self.bed.wait(lambda: text in self.printed(run), f"{text!r} to be printed", 60)

    def ended(self, run: str) -> Any:
        def over() -> Any:
            found = self.bed.call("GET", f"/commands/runs/{run}")
            assert found["ended_at"], found
            return found["targets"][0]

        return self.bed.wait(over, "the command to end", 90)

    def cancel(self, run: str) -> None:
        self.bed.call("POST", f"/commands/runs/{run}/cancel")

    # -- strikes -----------------------------------------------------------------------------------

    def kill_server(self) -> None:
        self.bed.server.kill()

    def server_returns(self) -> None:
        self.bed.start_server()
        self.bed.wait(self.bed.is_connected, "the agent to come back", 60)


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    admin, folder = Admin(need(request.config, "kubernetes")), tmp_path_factory.mktemp("kills")
    namespace = f"kills-{secrets.token_hex(3)}"
    token = make_agent_account(admin, namespace, inventory=True)
    config = write_kubeconfig(folder / "kubeconfig", admin.cluster, token)
    container = {
        "name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", TALK],
    }  # fmt: skip
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": TALKER},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }  # fmt: skip
    try:
        admin.apply(f"/api/v1/namespaces/{namespace}/pods", pod)
        with KubernetesBed(folder, NO_DOCKER, agent={"KUBECONFIG": str(config)}) as bed:
            yield Scene(bed, admin, namespace)
    finally:
        admin.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        for kind in ("clusterroles", "clusterrolebindings"):
            admin.ask("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/{namespace}")


def follow(scene: Scene, **more: Any) -> str:
    run = scene.begin("logs", "-f", TALKER, **more)
    scene.says(run, "line 3\n")
    return run


def assert_whole(printed: str) -> None:
    """No line of the log is missing, and none is there twice."""
    numbers = [int(each) for each in re.findall(r"^line (\d+)$", printed, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_ten_that_change_something_do_it_once_though_the_control_plane_is_killed_meanwhile(scene: Scene) -> None:
    names = [f"held-{number}" for number in range(AT_ONCE)]
    for name in names:
        scene.hold(name)
    runs = {name: scene.begin("delete", "cm", name) for name in names}
    scene.bed.wait(
        lambda: all(scene.held(name).get("deletionTimestamp") for name in names), "ten deletions to begin", 60
    )

    scene.kill_server()
    for name in names:
        scene.let_go(name)
    scene.server_returns()

    for name, run in runs.items():
        target = scene.ended(run)
        assert (target["state"], target["exit_code"]) == ("succeeded", 0), target
        assert scene.printed(run) == f'configmap "{name}" deleted\n'
        assert scene.held(name) is None
        assert scene.deletions(name) == 1


def test_a_followed_log_a_cancel_and_a_time_limit_outlive_a_kill_of_the_control_plane(scene: Scene) -> None:
    followed, cancelled, timed = follow(scene), follow(scene), follow(scene, timeout=4)
    before = scene.target(followed)

    scene.bed.relay.cut()  # the agent hears nothing of the cancel before the kill
    scene.cancel(cancelled)
    scene.kill_server()
    scene.bed.relay.heal()
    scene.server_returns()

    so_far = scene.printed(followed).count("\n")
    scene.says(followed, f"line {so_far + 20}\n")
    scene.cancel(followed)
    target = scene.ended(followed)
    assert (target["state"], target["exit_code"], target["job_id"]) == ("cancelled", 130, before["job_id"])
    assert_whole(scene.printed(followed))
    assert scene.ended(cancelled)["state"] == "cancelled"
    target = scene.ended(timed)
    assert (target["state"], target["code"], target["exit_code"]) == ("failed", "timed_out", 124), target
    assert_whole(scene.printed(timed))


def test_a_killed_agent_does_not_write_again_and_reads_anew(scene: Scene) -> None:
    scene.hold("once")
    writing, reading = scene.begin("delete", "cm", "once"), follow(scene)
    scene.bed.wait(lambda: scene.held("once").get("deletionTimestamp"), "the deletion to begin", 60)

    scene.bed.agent.kill()
    scene.let_go("once")
    scene.bed.agent.start()

    target = scene.ended(writing)
    assert (target["state"], target["code"]) == ("failed", "interrupted"), target
    assert scene.deletions("once") == 1
    scene.bed.wait_for_host()
    scene.bed.wait(lambda: scene.printed(reading).startswith("line 1\n"), "the log to begin anew", 60)
    scene.says(reading, "line 20\n")
    scene.cancel(reading)
    assert scene.ended(reading)["state"] == "cancelled"
    assert_whole(scene.printed(reading))


def test_what_the_hosts_policy_forbids_is_refused_and_changes_nothing(scene: Scene) -> None:
    policy = Path(scene.bed.state_folder) / "policy.toml"
    policy.write_text("[commands]\nread_only = true\n")
    try:
        scene.hold("kept")
        target = scene.ended(scene.begin("delete", "cm", "kept"))
    finally:
        policy.unlink()
    assert (target["state"], target["code"]) == ("failed", "forbidden"), target
    assert "read only" in target["error"]
    assert scene.deletions("kept") == 0
    scene.let_go("kept")


@pytest.mark.parametrize("text", ["; touch /tmp/x", "$(id)", "`id`", "a\nb", "&& reboot"])
def test_arguments_that_look_like_shell_are_arguments(scene: Scene, text: str) -> None:
    target = scene.ended(scene.begin("get", "pods", "-l", text))

    assert (target["state"], target["exit_code"]) == ("failed", 1)
    assert "BadRequest" in target["error"], target

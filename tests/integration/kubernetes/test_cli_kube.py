"""The command line against the real cluster: a kubeconfig that kubectl works with, robots, and work without kubectl."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import PASSWORD
from tests.testbed import kubectl
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

NAMESPACE = "k5-agent"
FOREIGN = """\
# my own
apiVersion: v1
kind: Config
clusters:
- name: home   # behind the door
  cluster: {server: "https://10.0.0.1:6443"}
contexts:
- name: home
  context: {cluster: home, user: me}
users:
- name: me
  user: {token: "0123"}
current-context: home
"""


class Towline:
    """The `towline` command and kubectl as somebody who signed in runs them."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.config = folder / "config"

    def environment(self, *, kubectl: bool = True) -> dict[str, str]:
        bins = self.folder / ("bin" if kubectl else "no-kubectl")  # the interpreter's own may hold a kubectl
        bins.mkdir(exist_ok=True)
        programs = {"towline": Path(sys.executable).with_name("towline")}
        if kubectl:
            programs["kubectl"] = self.stack.clients.kubectl("1.37")
        for name, path in programs.items():
            if not (bins / name).exists():
                (bins / name).symlink_to(path)
        return {
            "PATH": str(bins), "HOME": str(self.folder), "KUBECONFIG": str(self.config),
            "TOWLINE_CONFIG_DIR": str(self.folder / "towline"), "LANG": "C.UTF-8", "NO_COLOR": "1",
        }  # fmt: skip

    def run(self, *words: str, stdin: bytes | None = None, kubectl: bool = True) -> subprocess.CompletedProcess[bytes]:
        fed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        argv = [str(Path(sys.executable).with_name("towline")), *words]
        environment = self.environment(kubectl=kubectl)
        return subprocess.run(argv, capture_output=True, env=environment, timeout=60, check=False, **fed)

    def succeed(self, *words: str, **options: Any) -> str:
        done = self.run(*words, **options)
        assert done.returncode == 0, f"$ towline {words}\n{done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def kubectl(self, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = self.environment() | ({"KUBECONFIG": str(config)} if config else {})
        argv = [str(self.stack.clients.kubectl("1.37")), *words]
        return subprocess.run(argv, capture_output=True, env=environment, timeout=60, check=False, text=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("cli-kube")
    with Stack(folder, Cluster(), kubectl.ensure(), namespace=NAMESPACE) as running:
        running.user("k5ada", "admin", bound_to="cluster-admin")
        words = ("sh", "-c", "echo one; echo two; exec sleep 100000")
        objects.apply(running.direct(), NAMESPACE, objects.pod("talker", *words))
        objects.wait_for_pods(running.direct(), NAMESPACE, "pod/talker")
        yield running


@pytest.fixture
def ada(stack: Stack, tmp_path: Path) -> Towline:
    made = Towline(stack, tmp_path)
    words = ("--user", "k5ada", "--password-file", "-", "--ca-file", str(stack.authority))
    made.succeed("login", stack.url, *words, stdin=PASSWORD.encode())
    return made


def test_one_command_makes_kubectl_work_and_a_second_changes_nothing(ada: Towline) -> None:
    ada.config.write_text(FOREIGN)
    ada.succeed("kubeconfig", CLUSTER)
    text = ada.config.read_text()
    assert all(line in text.splitlines() for line in FOREIGN.splitlines()[:-1])
    assert stat.S_IMODE(ada.config.stat().st_mode) == 0o600
    done = ada.kubectl("get", "ns", NAMESPACE, "-o", "name")
    assert (done.returncode, done.stdout) == (0, f"namespace/{NAMESPACE}\n"), done.stderr
    ada.succeed("kubeconfig", CLUSTER)
    ada.succeed("kubeconfig", "--all")
    assert ada.config.read_text() == text
    (kept,) = (ada.folder / "towline" / "kubernetes").glob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["token"].startswith("twk_")


def test_kubectl_is_known_to_the_cluster_by_the_users_own_name(ada: Towline) -> None:
    ada.succeed("kubeconfig", CLUSTER)
    assert "towline:k5ada" in ada.kubectl("auth", "whoami").stdout


def test_a_broken_kubeconfig_is_refused_and_stays_as_it_is(ada: Towline) -> None:
    ada.config.write_text("clusters: [")
    done = ada.run("kubeconfig", CLUSTER)
    assert (done.returncode, ada.config.read_text()) == (1, "clusters: [")
    assert b"was not touched" in done.stderr


def test_a_foreign_entry_of_the_same_name_stays(ada: Towline) -> None:
    foreign = FOREIGN.replace("home", CLUSTER)
    ada.config.write_text(foreign)
    done = ada.run("kubeconfig", CLUSTER)
    assert (done.returncode, ada.config.read_text()) == (1, foreign)


def test_a_cluster_that_is_not_there_is_not_found(ada: Towline) -> None:
    assert ada.run("kubeconfig", "nowhere").returncode == 4
    assert not ada.config.exists()


def test_signing_out_ends_kubectl_and_says_how_to_sign_in(ada: Towline) -> None:
    ada.succeed("kubeconfig", CLUSTER)
    assert ada.kubectl("get", "ns", NAMESPACE).returncode == 0
    ada.succeed("logout")
    done = ada.kubectl("get", "ns", NAMESPACE)
    assert done.returncode != 0
    assert f"towline login {ada.stack.url}" in done.stderr


def test_a_robot_works_without_the_plugin_until_its_token_is_revoked(ada: Towline) -> None:
    file = ada.folder / "robot.yaml"
    words = ("--static", "--role", "admin", "--days", "7", "--file", str(file))
    told = ada.run("kubeconfig", CLUSTER, *words).stderr.decode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("# Expires ")
    assert "exec" not in yaml.safe_load(file.read_text())["users"][0]["user"]
    done = ada.kubectl("-n", NAMESPACE, "get", "pod", "talker", "-o", "name", config=file)
    assert done.stdout == "pod/talker\n", done.stderr
    assert ada.run("kubeconfig", CLUSTER, *words).returncode == 1  # a file with a token is never replaced
    ada.succeed("tokens", "revoke", told.split()[-1])
    assert ada.kubectl("-n", NAMESPACE, "get", "pod", "talker", config=file).returncode != 0


def test_a_host_name_for_each_cluster_is_written_when_asked(ada: Towline) -> None:
    ada.succeed("kubeconfig", CLUSTER, "--host-form")
    (cluster,) = yaml.safe_load(ada.config.read_text())["clusters"]
    assert cluster["cluster"]["server"] == f"https://{CLUSTER}.k8s.towline.test:{ada.stack.port}"


# -- without kubectl


def test_get_prints_the_table_of_the_server(ada: Towline) -> None:
    lines = ada.succeed("kube", "get", CLUSTER, "po", "talker", "-n", NAMESPACE).splitlines()
    assert lines[0].split()[:3] == ["NAME", "READY", "STATUS"]
    assert lines[1].split()[:3] == ["talker", "1/1", "Running"]
    found = json.loads(ada.succeed("kube", "get", CLUSTER, "pod", "talker", "-n", NAMESPACE, "-o", "json"))
    assert found["metadata"]["name"] == "talker"
    assert ada.run("kube", "get", CLUSTER, "unicorns").returncode == 4
    assert ada.run("kube", "get", CLUSTER, "pods", "none", "-n", NAMESPACE).returncode == 4
    assert ada.run("kube", "get", "nowhere", "pods").returncode == 4


def test_logs_are_printed_as_they_were_written(ada: Towline) -> None:
    assert ada.succeed("kube", "logs", CLUSTER, "talker", "-n", NAMESPACE) == "one\ntwo\n"
    assert ada.succeed("kube", "logs", CLUSTER, "talker", "-n", NAMESPACE, "--tail", "1") == "two\n"


def test_followed_logs_of_a_link_that_dies_are_an_error(ada: Towline) -> None:
    argv = [str(Path(sys.executable).with_name("towline")), "kube", "logs", CLUSTER, "talker", "-n", NAMESPACE, "-f"]
    with subprocess.Popen(
        argv, env=ada.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as going:
        assert going.stdout is not None
        assert (going.stdout.readline(), going.stdout.readline()) == (b"one\n", b"two\n")
        ada.stack.kill("agent")
        try:
            assert going.wait(30) == 5
        finally:
            ada.stack.start_agent()


def test_exec_keeps_streams_apart_and_ends_with_the_commands_code(ada: Towline) -> None:
    words = ("kube", "exec", CLUSTER, "talker", "-n", NAMESPACE, "--")
    done = ada.run(*words, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_exec_feeds_standard_input_to_its_end(ada: Towline) -> None:
    data = os.urandom(300_000)
    done = ada.run("kube", "exec", CLUSTER, "talker", "-n", NAMESPACE, "--", "cat", stdin=data)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


def test_a_pod_that_is_not_there_is_not_found_before_anything_runs(ada: Towline) -> None:
    assert ada.run("kube", "exec", CLUSTER, "none", "-n", NAMESPACE, "--", "true").returncode == 4


def test_top_says_clearly_that_nothing_is_measured(ada: Towline) -> None:
    done = ada.run("kube", "top", CLUSTER, "nodes")
    assert done.returncode in (0, 4)
    assert done.returncode == 0 or b"metrics-server" in done.stderr


@pytest.mark.parametrize("with_kubectl", [True, False])
def test_each_cluster_is_asked_and_equal_answers_are_one(ada: Towline, with_kubectl: bool) -> None:
    words = ("kube", "each", "--all", "-o", "json", "--", "get", "pods", "talker", "-n", NAMESPACE)
    (group,) = json.loads(ada.succeed(*words, kubectl=with_kubectl))
    assert (group["clusters"], group["code"]) == ([CLUSTER], 0)
    assert "Running" in group["stdout"]


def test_each_ends_with_one_when_a_cluster_failed(ada: Towline) -> None:
    done = ada.run("kube", "each", "--cluster", CLUSTER, "--", "get", "unicorns")
    assert done.returncode == 1
    assert b"exit code 1" in done.stdout


def test_access_says_what_one_may_do_and_by_which_rule(ada: Towline) -> None:
    asked = ("kube", "access", CLUSTER, "--verb", "create", "--resource", "pods/exec", "-n", NAMESPACE, "-o", "json")
    found = json.loads(ada.succeed(*asked))
    assert (found["user"], [one["allowed"] for one in found["answers"]]) == ("towline:k5ada", [True])
    assert found["answers"][0]["rule"]
    assert "pods/exec" in ada.succeed("kube", "access", CLUSTER)

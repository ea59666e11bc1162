"""Our own agent in place of each older one, at our own control plane: what its protocol carries, on the real parts.

PipeOps' WebSocket carries what kubectl streams, by SPDY (1.28) and by WebSockets (1.37), and an Ingress to visitors;
PipeOps' REST carries inventory and commands; InstaDeploy carries Compose. Plain commands: the differential tests.
A minute in all, most of it waiting for what the agents do at their own pace.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support import kubernetes_objects as objects
from tests.support.agent_host import containers_of, remove_project
from tests.support.compose_files import COLOURED_WEB as WEB
from tests.support.gateway import DnsThread
from tests.support.kubectl import Going
from tests.support.kubectl_streams import (
    Forward,
    a_shell_ends_with_its_code,
    a_shell_follows_its_terminal,
    digests,
    terminal,
)
from tests.support.kubernetes_stack import User
from tests.support.older_stack import DEPLOYS, REST, OlderStack
from tests.support.product import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

BOTH = ("1.28", "1.37")  # SPDY alone, and SPDY inside a WebSocket
MEBIBYTE = 1024 * 1024
CUT_AFTER = 30.0
"""Seconds after which the original's own way to the API server ends a watch or a followed log."""
HOST = "shop.older-agents.test"
PROJECT = "older-agents"
SERVES = """\
mkdir -p /www; echo private > /www/index.html
nc -ll -p 7000 -e cat &
(n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done) &
exec httpd -f -p 8080 -h /www
"""


@pytest.fixture(scope="module")
def home(older: OlderStack) -> Iterator[str]:
    """A namespace with a pod that talks, echoes on a port and serves a page, and its service."""
    with older.empty_namespace("k8-older-home") as name:
        pod = objects.pod("web", "sh", "-c", SERVES)
        pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        service = objects.named("Service", "web", spec={"selector": {"app": "web"}, "ports": ports})
        objects.apply(older.direct(), name, pod, service)
        objects.wait_for_pods(older.direct(), name, "pod/web")
        yield name


@pytest.fixture(scope="module")
def going_on(home: str, older: OlderStack, olga: User) -> Iterator[tuple[float, Going, Going]]:
    """A watch and a followed log, from the beginning of this module on."""
    client = older.through(olga, BOTH[1])
    with (
        client.going("-n", home, "get", "configmaps", "-w", "-o", "name") as watch,
        client.going("-n", home, "logs", "-f", "web", "--tail=1") as logs,
    ):
        logs.line("line")
        yield time.monotonic(), watch, logs


# -- PipeOps over a WebSocket ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", BOTH)
def test_a_watch_and_a_log_show_what_happens(
    version: str, going_on: object, home: str, older: OlderStack, olga: User
) -> None:
    client, name = older.through(olga, version), f"seen-{version.replace('.', '-')}"
    with (
        client.going("-n", home, "get", "configmaps", "-w", "-o", "name") as watch,
        client.going("-n", home, "logs", "-f", "web", "--tail=1") as logs,
    ):
        watch.line("kube-root-ca.crt")
        began = time.monotonic()
        older.direct().succeed("-n", home, "create", "configmap", name)
        assert watch.line(name)[0] - began < 5
        assert [logs.line("line")[1] for _ in range(5)]


@pytest.mark.parametrize("version", BOTH)
def test_a_shell_on_a_terminal_has_its_size_its_keys_and_its_end(
    version: str, home: str, older: OlderStack, olga: User
) -> None:
    with terminal(older.through(olga, version), "-n", home, "exec", "-it", "web", "--", "sh") as screen:
        a_shell_follows_its_terminal(screen)
        a_shell_ends_with_its_code(screen)


@pytest.mark.parametrize("version", BOTH)
def test_files_are_copied_whole_both_ways(version: str, home: str, older: OlderStack, olga: User) -> None:
    client = older.through(olga, version)
    tree = client.home / "tree"
    (tree / "a folder").mkdir(parents=True)
    (tree / "a folder" / "small.txt").write_text("small\n")
    (tree / "big.bin").write_bytes(os.urandom(MEBIBYTE) * 10)
    client.succeed("-n", home, "cp", "tree", f"web:/tmp/{version}", timeout=60)
    client.succeed("-n", home, "cp", "--retries=3", f"web:/tmp/{version}", "back", timeout=60)
    assert digests(client.home / "back") == digests(tree)


@pytest.mark.parametrize("version", BOTH)
def test_a_forwarded_port_carries_bytes_and_ends_both_ways(
    version: str, home: str, older: OlderStack, olga: User
) -> None:
    data = os.urandom(MEBIBYTE) * 5
    with Forward(older.through(olga, version), home, "web", 7000) as forward, ThreadPoolExecutor(2) as threads:
        small, large = threads.map(lambda each: forward.echo(7000, each), (b"small", data))
    assert small == b"small"
    assert hashlib.sha256(large).digest() == hashlib.sha256(data).digest()


def test_an_ingress_is_published_to_its_visitors_and_gone_with_it(
    home: str, older: OlderStack, olga: User, older_dns: DnsThread
) -> None:
    domain = HOST.partition(".")[2]
    record = older.call("POST", "domains", {"name": domain})["record"]
    older_dns.server.records[f"{record['name']}.", "TXT"] = [f'"{record["value"]}"']
    assert older.call("POST", f"domains/{domain}/verify")["state"] == "verified"
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rules = [{"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    ingress = objects.named("Ingress", "shop", version="networking.k8s.io/v1", spec={"rules": rules})
    client = older.through(olga, BOTH[1])
    client.succeed("-n", home, "apply", "-f", "-", stdin=objects.as_list([ingress]))
    wait_for(lambda: _visited(older) == (200, "private\n"), "the page of the Ingress", 30)
    client.succeed("-n", home, "delete", "ingress", "shop")
    wait_for(lambda: _visited(older)[0] == 404, "the end of the route", 30)


def _visited(older: OlderStack) -> tuple[int, str]:
    with older.http() as visitor:
        answer = visitor.get("/", headers={"host": HOST})
    return answer.status_code, answer.text


# -- PipeOps over REST ----------------------------------------------------------------------------------


def test_the_rest_agent_tells_its_cluster_and_runs_commands(older: OlderStack) -> None:
    older.join_older(REST)
    older.start_older(REST)
    try:
        run = older.begin(REST, "get", "cm", "-o", "name")
        wait_for(lambda: _told(older)["pods"]["total"] > 0, f"the status; {older.logs(REST)}", 60)
        target = older.ended(run)
        assert (target["state"], target["exit_code"]) == ("succeeded", 0), target
        assert "configmap/kube-root-ca.crt\n" in older.printed(run)
    finally:
        older.end(REST)


def _told(older: OlderStack) -> Any:
    found = older.call("GET", f"clusters/{REST}/kubernetes")
    assert found.get("pods"), found
    return found


# -- InstaDeploy ----------------------------------------------------------------------------------------


@pytest.mark.docker
def test_compose_is_deployed_watched_rolled_back_and_stopped_by_the_instadeploy_agent(
    older: OlderStack, docker_engine: str
) -> None:
    older.join_older(DEPLOYS)
    older.start_older(DEPLOYS)
    try:
        assert _deployed(older, "red")["state"] == "succeeded"
        wait_for(lambda: _shown(older)["state"] == "healthy", "the project to be healthy", 30)
        red = containers_of(PROJECT)["web"]
        assert _deployed(older, "blue")["state"] == "succeeded"
        assert containers_of(PROJECT)["web"] != red
        back = older.job(older.call("POST", f"{_path()}/rollback", {"revision": 1})["job"]["id"])
        assert back["state"] == "succeeded", back
        wait_for(lambda: (_shown(older)["state"], _shown(older)["revision"]) == ("healthy", 1), "the old one", 30)
        stopped = older.job(older.call("POST", f"{_path()}/stop", {})["job"]["id"])
        assert stopped["state"] == "succeeded", stopped
        assert containers_of(PROJECT) == {}
    finally:
        older.end(DEPLOYS)
        remove_project(PROJECT)


def _path() -> str:
    return f"clusters/{DEPLOYS}/deployments/{PROJECT}"


def _shown(older: OlderStack) -> Any:
    return older.call("GET", _path())


def _deployed(older: OlderStack, colour: str) -> Any:
    body = {"compose": WEB, "variables": {"COLOUR": colour}, "options": {"settle_seconds": 0.3}}
    return older.job(older.call("POST", f"{_path()}/revisions", body)["job"]["id"])


# -- at last: what outlives the original's limit --------------------------------------------------------


def test_a_watch_and_a_log_outlive_the_thirty_seconds_of_the_original(
    going_on: tuple[float, Going, Going], home: str, older: OlderStack
) -> None:
    began, watch, logs = going_on
    threading.Event().wait(max(0.0, began + CUT_AFTER + 2 - time.monotonic()))
    logs.rest()
    logs.line("line")
    older.direct().succeed("-n", home, "create", "configmap", "late")
    watch.line("late")
    assert watch.process.poll() is None and logs.process.poll() is None

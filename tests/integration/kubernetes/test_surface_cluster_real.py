"""The surface's questions, logs and streams beside the real cluster, as an agent with the rights of its manifest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.conftest import need
from tests.support.event_reader import EventReader
from tests.support.kube_agent import Admin, make_agent_account, make_pod, write_kubeconfig
from tests.support.surface import Served, make_parts, served
from tests.testbed.kubernetes.cluster import Cluster
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

from towline.agent.kubernetes.credentials import find_source
from towline.agent.settings import AgentSettings
from towline.agent.surface import events, kubernetes, logs, proxy, websocket
from towline.agent.surface.endpoints import Endpoint

pytestmark = pytest.mark.kubernetes

NAMESPACE, POD = "s6-surface", "talker"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ENDPOINTS = [endpoint for module in (kubernetes, proxy, events, logs, websocket) for endpoint in module.ENDPOINTS]


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Admin:
    return Admin(cluster)


@pytest.fixture(scope="module")
def token(admin: Admin) -> Iterator[str]:
    """Of an agent; operators read logs and pods of the namespace."""
    token = make_agent_account(admin, NAMESPACE, inventory=True)
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "delete"]}]
    role = {"apiVersion": version, "kind": "Role", "metadata": {"name": "operator"}, "rules": rules}
    binding = {
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "Group", "name": "towline:role:operator", "apiGroup": "rbac.authorization.k8s.io"}],
    }  # fmt: skip
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/roles", role)
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", binding)
    make_pod(admin, NAMESPACE, POD)
    yield token
    admin.ask("DELETE", f"{CORE}/pods/{POD}")


@pytest.fixture
async def surface(cluster: Cluster, token: str, tmp_path: Path) -> AsyncIterator[Served]:
    config = write_kubeconfig(tmp_path / "kubeconfig", cluster, token)
    source = find_source(AgentSettings(state_folder=tmp_path, kubeconfig=config), {})
    async with served(make_parts(tmp_path / "agent", cluster=source)) as one:
        yield one


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_example_works_as_it_is_documented(surface: Served, endpoint: Endpoint) -> None:
    environment = os.environ | {"URL": surface.url, "TOKEN": surface.operate, "NAMESPACE": NAMESPACE, "POD": POD}
    command = f"curl -sS -w '\\n%{{http_code}} %{{content_type}}' {endpoint.curl}"

    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
    )

    status, _, kind = done.stdout.rpartition("\n")[2].partition(" ")
    assert status == ("101" if endpoint.path == "/ws" else "200"), done.stdout + done.stderr
    assert endpoint.path == "/ws" or kind.startswith(endpoint.answer)


async def test_what_runs_is_listed(surface: Served) -> None:
    _, nodes = await surface.get("/api/k8s/nodes")
    _, pods = await surface.get("/api/k8s/pods", params={"namespace": NAMESPACE})
    _, names = await surface.get("/api/k8s/namespaces")

    assert nodes["items"][0]["ready"]
    assert nodes["items"][0]["capacity"]["memory_bytes"] > 2**28
    (talker,) = [pod for pod in pods["items"] if pod["name"] == POD]
    assert (talker["phase"], talker["healthy"], talker["containers"][0]["state"]) == ("Running", True, "running")
    assert NAMESPACE in [one["name"] for one in names["items"]]
    for kind in ("deployments", "services"):
        status, body = await surface.get(f"/api/k8s/{kind}")
        assert (status, body["cache"]["state"]) == (200, "following"), body


async def test_clusters_own_rules_hold_for_local_callers(surface: Served) -> None:
    async def ask(path: str) -> Any:
        wanted = {"method": "GET", "path": path}
        url = f"{surface.url}/api/k8s/proxy"
        async with surface.client.post(url, json=wanted, headers=surface.operator) as got:
            assert got.status == 200
            return await got.json()

    assert (await ask(f"{CORE}/pods/{POD}"))["body"]["metadata"]["name"] == POD
    refused = await ask("/api/v1/namespaces/kube-system/pods")
    assert refused["status"] == 403
    assert 'User "towline:local"' in refused["body"]["message"]


async def test_pod_that_crashes_is_told_with_its_reason(surface: Served, admin: Admin) -> None:
    container = {
        "name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", "exit 7"],
    }  # fmt: skip
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crasher"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }  # fmt: skip
    url = f"{surface.url}/api/realtime/events?types=event,status"
    async with surface.client.get(url, headers=surface.reader) as got:
        reader = EventReader(got)
        state = (await reader.next("status")).data
        while state["kubernetes"]["state"] != "connected":
            state = (await reader.next("status")).data
        try:
            began = time.monotonic()
            await asyncio.to_thread(admin.apply, f"{CORE}/pods", body)
            first = await _of_pod(reader, "crasher")
            assert time.monotonic() - began < 2.0
            assert first["change"] == "added"
            while "exit code 7" not in first["item"]["reason"]:
                first = await _of_pod(reader, "crasher")
            assert not first["item"]["healthy"]
        finally:
            with suppress(HTTPError):
                await asyncio.to_thread(admin.ask, "DELETE", f"{CORE}/pods/crasher")


async def _of_pod(reader: EventReader, name: str) -> Any:
    while True:
        told = (await reader.next("event", timeout=60)).data
        if told["object"] == "pod" and told["item"]["name"] == name:
            return told


async def test_log_is_read_as_text_and_as_a_stream(surface: Served) -> None:
    url = f"{surface.url}/api/k8s/logs/{NAMESPACE}/{POD}"
    async with surface.client.get(url, headers=surface.operator) as got:
        assert (got.status, await got.text()) == (200, "started\n")
    url = f"{surface.url}/api/realtime/logs?namespace={NAMESPACE}&pod={POD}"
    async with surface.client.get(url, headers=surface.operator) as got:
        told = (await EventReader(got).next("log")).data

    assert (told["source"], told["line"]) == (f"{NAMESPACE}/{POD}/main", "started")

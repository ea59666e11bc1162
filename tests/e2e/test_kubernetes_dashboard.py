"""The agent's dashboard beside the real cluster and a real engine: a standalone agent, run by the shipped command."""

import asyncio
import json
import re
import secrets
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from playwright.sync_api import Browser, Page, expect
from tests.conftest import need
from tests.integration.agent.conftest import compose_labels
from tests.support import browser
from tests.support import kubernetes_objects as objects
from tests.support.browser import Window
from tests.support.kube_agent import Admin, make_agent_account, write_kubeconfig
from tests.support.standalone import Standalone, standalone
from tests.testbed import images, metrics_server
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

NAMESPACE = "s6-dashboard"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
NO_DOCKER = "unix:///nowhere/docker.sock"
AT_ONCE_SECONDS = 2.0
"""In which what the API server knows is on the page."""
UNWELL = re.compile(r"CrashLoopBackOff|exit code 3")
STEADY_SECONDS = 0.5
"""For which a state must last to be one."""
PATIENCE = 60_000
"""Milliseconds for a cluster to do something: start a pod, or measure one."""


@contextmanager
def agent_beside(folder: Path, **settings: str) -> Iterator[Standalone]:
    """Run the agent while the block lasts. The browser's driver has the loop of this thread, so it has another one."""
    ready, over = threading.Event(), threading.Event()
    found: list[Standalone] = []

    async def run() -> None:
        try:
            async with standalone(folder, **settings) as agent:
                found.append(agent)
                ready.set()
                await asyncio.to_thread(over.wait)
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    try:
        assert ready.wait(60) and found, "the agent did not start"
        yield found[0]
    finally:
        over.set()
        thread.join(60)


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@contextmanager
def signed_in(chromium: Browser, agent: Standalone) -> Iterator[tuple[Window, Page]]:
    with browser.window(chromium, agent.url) as window:
        page = window.open("/")
        page.get_by_label("Local token").fill(agent.token(operate=True))
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#live")).to_contain_text("Live")
        yield window, page


# -- the cluster ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = need(request.config, "kubernetes")
    return found


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Admin:
    return Admin(cluster)


@pytest.fixture(scope="module")
def agent(cluster: Cluster, admin: Admin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """With the rights of its manifest; operators may read logs and evict pods of the namespace."""
    folder = tmp_path_factory.mktemp("dashboard")
    wait_for(lambda: not is_ending(admin), "the namespace of an earlier run to go")
    token = make_agent_account(admin, NAMESPACE, inventory=True)
    rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    ]
    version, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    role = {"apiVersion": version, "kind": "Role", "metadata": {"name": "operator"}, "rules": rules}
    binding = {
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "Group", "name": "towline:role:operator", "apiGroup": group}],
    }  # fmt: skip
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/roles", role)
    admin.apply(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", binding)
    config = write_kubeconfig(folder / "kubeconfig", cluster, token)
    with agent_beside(folder / "agent", kubeconfig=str(config), docker_host=NO_DOCKER) as running:
        yield running
    admin.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}")


def is_ending(admin: Admin) -> bool:
    try:
        return "deletionTimestamp" in admin.ask("GET", f"/api/v1/namespaces/{NAMESPACE}")["metadata"]
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return False


def wait_for(what: Callable[[], Any], words: str, seconds: float = 60.0) -> Any:
    """Ask until there is something. Returns: it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, words
        time.sleep(0.05)
    return found


def crash_loops(admin: Admin, name: str) -> bool:
    """It ended again and waits for its next start, which the kubelet calls CrashLoopBackOff only some of the time."""
    for pause in (STEADY_SECONDS, 0.0):
        status = admin.ask("GET", f"{CORE}/pods/{name}").get("status", {})
        if not any(
            one["restartCount"] > 1 and "running" not in one["state"] for one in status.get("containerStatuses", ())
        ):
            return False
        time.sleep(pause)
    return True


@pytest.mark.kubernetes
def test_pod_that_crash_loops_is_on_the_page_with_its_reason_within_two_seconds(
    chromium: Browser, agent: Standalone, admin: Admin
) -> None:
    with signed_in(chromium, agent) as (window, page):
        page.evaluate(f"location.hash = '#/pods?ns={NAMESPACE}'")
        admin.apply(f"{CORE}/pods", objects.pod("broken", "sh", "-c", "echo it is broken; exit 3"))
        wait_for(lambda: crash_loops(admin, "broken"), "the pod to crash-loop", 90)
        left = 1000 * (AT_ONCE_SECONDS - STEADY_SECONDS)
        expect(page.locator("#p-rows tr", has_text="broken")).to_contain_text(UNWELL, timeout=left)

        page.get_by_role("link", name="broken", exact=True).click()
        page.locator("#p-detail").get_by_role("link", name="Logs", exact=True).click()
        expect(page.get_by_role("log")).to_contain_text("it is broken")
        assert window.complaints == []


@pytest.mark.kubernetes
def test_log_is_read_live_and_a_pod_is_made_anew_from_the_page(
    chromium: Browser, agent: Standalone, admin: Admin
) -> None:
    script = "n=0; while true; do n=$((n+1)); echo beat $n; sleep 0.2; done"
    shop = objects.workload("Deployment", "shop", "sh", "-c", script)
    admin.apply(DEPLOYMENTS, shop)
    with signed_in(chromium, agent) as (_, page):
        page.evaluate(f"location.hash = '#/logs?namespace={NAMESPACE}'")
        expect(page.get_by_role("log")).to_contain_text("beat 5", timeout=PATIENCE)

        page.evaluate(f"location.hash = '#/pods?ns={NAMESPACE}&q=shop'")
        names = page.locator("#p-rows td.lead")
        expect(names).to_have_count(1)
        before = names.inner_text()
        names.get_by_role("link").click()
        page.get_by_role("button", name="Make anew").click()
        expect(names.filter(has_not_text=before)).to_have_count(1, timeout=PATIENCE)
        expect(names.filter(has_text=before)).to_have_count(0, timeout=PATIENCE)


@pytest.mark.kubernetes
def test_chart_shows_the_memory_of_a_pod(
    chromium: Browser, agent: Standalone, admin: Admin, cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    need(request.config, "metrics-server")
    admin.apply(f"{CORE}/pods", objects.pod("busy", "sh", "-c", "while true; do sleep 0.1; done"))
    with metrics_server.beside(cluster), signed_in(chromium, agent) as (_, page):
        page.evaluate(f"location.hash = '#/pods/{NAMESPACE}/busy'")
        chart = page.locator("#p-detail").get_by_role("img", name=re.compile(r"^Memory: [\d.]+ [KM]iB now"))
        expect(chart).to_be_visible(timeout=2 * PATIENCE)


# -- Docker --------------------------------------------------------------------------------------


@pytest.mark.docker
def test_containers_of_a_host_are_shown_and_their_logs_are_read_live(
    chromium: Browser, docker_engine: str, tmp_path: Path
) -> None:
    project = f"s6{secrets.token_hex(4)}"
    script = "n=0; while true; do n=$((n+1)); echo beat $n; sleep 0.2; done"
    with ExitStack() as ending:
        agent = ending.enter_context(agent_beside(tmp_path / "agent", kubernetes="off"))
        window, page = ending.enter_context(signed_in(chromium, agent))
        page.evaluate("location.hash = '#/docker'")
        labels = compose_labels(project, "web")
        images.docker(
            "run", "-d", "--rm", "--name", project, "--stop-signal", "KILL", *labels, images.BASE, "sh", "-c", script
        )
        ending.callback(images.docker, "rm", "-f", project)
        expect(page.locator("#d-projects")).to_contain_text(project, timeout=15_000)
        page.get_by_label("Search containers").fill(project)
        row = page.locator("#d-rows tr")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("Running")

        assert window.problems() == []

        row.get_by_role("link").click()
        expect(page.get_by_role("log")).to_contain_text("beat", timeout=15_000)
        assert window.complaints == [], json.dumps(window.complaints)

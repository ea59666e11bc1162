"""What nodes and pods use, told by the real metrics server: `kubectl top`, `towline kube top`, and the pages."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.conftest import need
from tests.support import browser
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.support.product import PASSWORD, wait_for
from tests.testbed import metrics_server
from tests.testbed.kubernetes.configuration import NODE_NAME

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

NAMESPACE = "k9-usage"
MEASURED = 90.0
"""Seconds until a new pod is measured: two looks at the kubelet, each at most 15 s apart, and the agent's own."""
KEPT = 150.0
"""Seconds until a minute with the pod in it is over and written: a sample, the minute, and what the server takes."""
BUSY = "while true; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.2; done"


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest, stack: Stack) -> Iterator[User]:
    """A cluster that measures, with a pod that has something to do. Returns: an operator of it."""
    need(request.config, "metrics-server")
    with stack.empty_namespace(NAMESPACE), metrics_server.beside(stack.cluster):
        objects.apply(stack.direct(), NAMESPACE, objects.pod("busy", "sh", "-c", BUSY))
        objects.wait_for_pods(stack.direct(), NAMESPACE, "pod/busy")
        user = stack.user("max", "admin", bound_to="cluster-admin")
        wait_for(lambda: top(user, "pods").returncode == 0, "the pod to be measured", MEASURED)
        yield user


def top(user: User, what: str) -> subprocess.CompletedProcess[str]:
    return user.client().run("-n", NAMESPACE, "top", what, "--no-headers")


def test_kubectl_top_says_through_towline_what_it_says_directly(stack: Stack, measured: User) -> None:
    node = top(measured, "node").stdout.split()
    assert node[0] == NODE_NAME
    assert re.fullmatch(r"\d+m", node[1])
    assert re.fullmatch(r"\d+Mi", node[3])
    name, cpu, memory = top(measured, "pods").stdout.split()
    assert name == "busy"
    assert int(cpu.removesuffix("m")) > 0
    direct = stack.direct().succeed("-n", NAMESPACE, "top", "pods", "--no-headers").stdout.split()
    assert (direct[0], direct[2]) == (name, memory)


def test_towline_kube_top_shows_the_same_without_kubectl(stack: Stack, measured: User, tmp_path: Path) -> None:
    def towline(*words: str, **options: Any) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("towline")), *words], capture_output=True, text=True, timeout=60,
            env={"TOWLINE_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path), "NO_COLOR": "1", "PATH": ""}, **options,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    sign_in = ("--user", "max", "--password-file", "-", "--ca-file", str(stack.authority))
    towline("login", stack.url, *sign_in, input=PASSWORD)
    (pod,) = json.loads(towline("kube", "top", CLUSTER, "pods", "-n", NAMESPACE, "--output", "json"))
    assert (pod["namespace"], pod["name"]) == (NAMESPACE, "busy")
    assert int(pod["cpu"].removesuffix("m")) > 0
    wait_for(lambda: history(stack, measured, "pod", namespace=NAMESPACE, name="busy"), "the pod's history", KEPT)
    kept = json.loads(towline("kube", "usage", CLUSTER, "pods", "busy", "-n", NAMESPACE, "--output", "json"))
    assert [one["name"] for one in kept["series"]] == ["busy"]
    shown = towline("kube", "usage", CLUSTER, "pods", "-n", NAMESPACE)
    assert re.search(r"busy +\d+m +\d+m +\d+Mi +\d+Mi", shown)
    (node,) = json.loads(towline("kube", "top", CLUSTER, "nodes", "--output", "json"))
    assert node["name"] == NODE_NAME
    assert int(node["memory"].removesuffix("Mi")) > 0


def test_who_may_not_read_the_metrics_gets_none(stack: Stack, measured: User) -> None:
    stranger = stack.user("mel", "viewer")
    refused = top(stranger, "pods")
    assert refused.returncode != 0
    assert "cannot list resource" in refused.stderr


@pytest.mark.browser
def test_pages_show_what_nodes_and_pods_use(stack: Stack, measured: User, chromium_path: str) -> None:
    wait_for(lambda: is_told(stack, measured), "the agent to tell what nodes use", MEASURED)
    with browser.launched(chromium_path) as chromium, browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("max")
        window.open(f"/clusters/{CLUSTER}")
        expect(page.locator("#kube-size")).to_contain_text(re.compile(r"CPU\s*\d+\.\d of \d+\.\d cores"))
        expect(page.locator("#kube-size")).not_to_contain_text("serves no metrics")
        window.open(f"/clusters/{CLUSTER}/nodes")
        expect(page.locator(f"#node-{NODE_NAME}")).to_contain_text(re.compile(r"\d+\.\d / \d+\.\d"))
        window.picture("kubernetes-nodes-usage")
        window.open(f"/clusters/{CLUSTER}/kubernetes/{NAMESPACE}/pods/busy")
        expect(page.locator("#container-main")).to_contain_text(re.compile(r"uses \d+m cpu, .*memory"))
        window.picture("kubernetes-pod-usage")
        assert window.problems() == []
        assert window.complaints == []


def test_the_history_is_kept_for_nodes_namespaces_and_pods(stack: Stack, measured: User) -> None:
    wait_for(lambda: history(stack, measured, "pod", namespace=NAMESPACE, name="busy"), "the pod's history", KEPT)
    (node,) = history(stack, measured, "node")
    assert node["name"] == NODE_NAME
    assert node["memory_bytes"]["min"] > 2**20
    assert node["cpu"]["min"] <= node["cpu"]["avg"] <= node["cpu"]["max"]
    (busy,) = history(stack, measured, "pod", namespace=NAMESPACE, name="busy")
    assert busy["cpu"]["max"] > 0.001
    (space,) = history(stack, measured, "namespace", name=NAMESPACE)
    assert space["cpu"]["max"] >= busy["cpu"]["avg"]
    assert [one for one in busy["points"] if one is None], "the time before the pod is a gap"


@pytest.mark.browser
def test_pages_draw_the_history_at_every_width(stack: Stack, measured: User, chromium_path: str) -> None:
    wait_for(lambda: history(stack, measured, "pod", namespace=NAMESPACE, name="busy"), "the pod's history", KEPT)
    places = {
        "cluster": f"/clusters/{CLUSTER}",
        "usage": f"/clusters/{CLUSTER}/usage",
        "namespace": f"/clusters/{CLUSTER}/usage?namespace={NAMESPACE}",
        "node": f"/clusters/{CLUSTER}/nodes/{NODE_NAME}",
        "pod": f"/clusters/{CLUSTER}/kubernetes/{NAMESPACE}/pods/busy",
    }
    with browser.launched(chromium_path) as chromium:
        views: tuple[tuple[tuple[int, int], browser.Scheme], ...] = (((1440, 900), "light"), ((360, 800), "dark"))
        for size, scheme in views:
            with browser.window(chromium, stack.plain_url, scheme=scheme, size=size) as window:
                page = window.sign_in("max")
                for word, path in places.items():
                    window.open(path)
                    chart = page.get_by_role("img", name=re.compile(r"^CPU of .* least .*, mean .*, most "))
                    expect(chart).to_be_visible()
                    expect(page.locator("#usage-charts")).to_contain_text("By the metrics API")
                    wide = page.evaluate("document.documentElement.scrollWidth")
                    assert wide <= size[0], f"{word} is {wide} wide"
                    window.picture(f"usage-{word}-{size[0]}-{scheme}", whole=True)
                    assert window.problems() == []
                assert window.complaints == []


def history(stack: Stack, user: User, kind: str, **query: str) -> list[dict[str, Any]]:
    with stack.http(user.token) as client:
        found = client.get(f"/api/v1/clusters/{CLUSTER}/usage", params={"kind": kind, **query}).json()
    assert found["state"] in ("measured", "unknown"), found["reason"]
    return [one for one in found["series"] if any(one["points"])]


def is_told(stack: Stack, user: User) -> bool:
    with stack.http(user.token) as client:
        overview = client.get(f"/api/v1/clusters/{CLUSTER}/kubernetes").json()
    return bool(overview["metrics"] and overview["nodes"]["usage"])

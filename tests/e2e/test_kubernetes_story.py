"""The story of an alarm: find the unwell pod, read its log, open a shell, mend the YAML, and see it recover.

In a real browser, on the real cluster, through the real agent; and what a viewer sees of the same.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support import browser
from tests.support import kubernetes_objects as objects
from tests.support.browser import Scheme, Window
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import wait_for
from tests.testbed.kubernetes.configuration import SHELL_IMAGE

pytestmark = [pytest.mark.kubernetes, pytest.mark.browser, pytest.mark.timeout(240)]

NAMESPACE = "k7-story"
PATIENCE = 60_000
"""Milliseconds until the cluster has replaced a pod."""
SCREEN_HOLDS = """words => {
  const screen = document.querySelector(".console").view.term.buffer.active;
  const lines = Array.from({ length: screen.length }, (_, at) => screen.getLine(at)?.translateToString() ?? "");
  return lines.some((line) => line.includes(words));
}"""
BROKEN = "echo opening the shop; cat /etc/shop.conf && exec sleep 100000"


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Iterator[str]:
    """A deployment whose main container cannot start, beside one that runs. Returns: its pod."""
    with stack.empty_namespace(NAMESPACE):
        broken = objects.workload("Deployment", "shop", "sh", "-c", BROKEN, replicas=1)
        helper = {
            "name": "side", "image": SHELL_IMAGE, "imagePullPolicy": "Never",
            "command": ["sh", "-c", "echo beside it; exec sleep 100000"],
        }  # fmt: skip
        broken["spec"]["template"]["spec"]["containers"].append(helper)
        objects.apply(stack.direct(), NAMESPACE, broken)
        stack.user("pia", "deployer", bound_to="edit")
        stack.user("vic", "viewer", bound_to="view")
        yield wait_for(lambda: unwell(stack), "the pod to fail", 60)


def unwell(stack: Stack) -> str:
    """The name of the pod, once it has failed twice."""
    found = json.loads(stack.direct().succeed("-n", NAMESPACE, "get", "pods", "-l", "app=shop", "-o", "json").stdout)
    for pod in found["items"]:
        statuses: list[dict[str, Any]] = pod["status"].get("containerStatuses", [])
        if any(status["restartCount"] >= 1 for status in statuses):
            return str(pod["metadata"]["name"])
    return ""


def test_the_unwell_pod_is_found_read_entered_and_mended(chromium: Browser, stack: Stack, shop: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("pia")
        find(page, window, shop)
        read_the_log(page, window)
        open_a_shell(page, window)
        mend(page, window, shop)
        assert window.complaints == []


def find(page: Page, window: Window, pod: str) -> None:
    page.get_by_role("link", name=CLUSTER, exact=True).click()
    expect(page.locator("#kube-unwell")).to_contain_text(pod)
    window.picture("kubernetes-overview")
    assert window.problems() == []
    page.locator("#kube-unwell").get_by_role("link", name=pod).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(pod)
    expect(page.locator("#object-head .state")).to_have_attribute("data-state", "degraded")
    expect(page.locator("#container-main")).to_contain_text("exit code 1")
    expect(page.locator("#container-side")).to_contain_text("running")
    expect(page.locator("#events")).to_contain_text("BackOff")
    window.picture("kubernetes-pod")
    assert window.problems() == []


def read_the_log(page: Page, window: Window) -> None:
    page.get_by_role("link", name="Logs", exact=True).click()
    view = page.get_by_role("log")
    expect(view).to_contain_text("can't open '/etc/shop.conf'")
    expect(view).to_contain_text("beside it")
    page.get_by_label("Search in the log").fill("shop.conf")
    expect(view.locator("mark").first).to_have_text("shop.conf")
    window.picture("kubernetes-logs")
    page.get_by_label("Container", exact=True).select_option("main")
    expect(view).not_to_contain_text("beside it")
    page.get_by_label("Of", exact=True).select_option("before the last restart")
    page.wait_for_url("**previous=1*")
    wait_for(lambda: is_read(page), "the log before the last restart", 60)
    assert "container=main" in page.url
    assert "previous=1" in page.url
    assert window.problems() == []


def is_read(page: Page) -> bool:
    """Look once more: between two starts the kubelet has removed what ran before."""
    page.reload()
    expect(page.locator("[data-note]")).to_have_text("End of the log")
    return "can't open" in page.get_by_role("log").inner_text()


def open_a_shell(page: Page, window: Window) -> None:
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("link", name="Terminal in side").click()
    console = page.locator(".console")
    expect(console).to_have_attribute("data-state", "open")
    shown(page, "# ")
    page.keyboard.type("ls /etc/shop.conf; cat /etc/hostname; stty size\n")
    shown(page, "No such file")
    shown(page, "shop-")
    window.picture("kubernetes-terminal")
    page.keyboard.type("exit 7\n")
    expect(page.locator("#terminal-note")).to_have_text("The session ended with exit code 7")


def shown(page: Page, words: str) -> None:
    """Wait until the screen of the terminal holds some words."""
    page.wait_for_function(SCREEN_HOLDS, arg=words)


def mend(page: Page, window: Window, pod: str) -> None:
    page.get_by_role("link", name=pod.rpartition("-")[0], exact=True).click()
    page.locator("aside").get_by_role("link", name="shop", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")
    expect(page.locator("#object-head")).to_contain_text("0 of 1 ready")
    page.get_by_role("link", name="Edit YAML").click()
    field = page.get_by_label("Object")
    field.fill(field.input_value().replace("/etc/shop.conf", "/etc/hostname"))
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_contain_text("kubectl")
    expect(page.get_by_role("alert")).to_contain_text("containers")
    window.picture("kubernetes-yaml-conflict", whole=True)
    assert window.problems() == []
    assert "/etc/hostname" in field.input_value()
    page.get_by_role("button", name="Take the field over and apply").click()
    expect(page.get_by_role("status").first).to_contain_text("shop was applied")
    expect(page.locator("#object-head")).to_contain_text("1 of 1 ready", timeout=PATIENCE)
    window.picture("kubernetes-recovered")
    page.goto(f"{window.url}/clusters/{CLUSTER}")
    expect(page.locator("#kube-unwell")).not_to_contain_text("shop-", timeout=PATIENCE)


def test_a_viewer_sees_the_pod_and_nothing_to_act_with(chromium: Browser, stack: Stack, shop: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("vic")
        page.goto(f"{window.url}/clusters/{CLUSTER}/pods?namespace={NAMESPACE}")
        page.locator("#pods").get_by_role("link").first.click()
        expect(page.locator("#containers")).to_contain_text("side")
        tabs = page.locator(".tabs").get_by_role("link").all_inner_texts()
        assert tabs == ["Overview", "YAML"]
        assert page.locator(".head").get_by_role("button").count() == 0
        for path in ("logs", "terminal"):
            answer = page.goto(f"{window.url}/clusters/{CLUSTER}/kubernetes/{NAMESPACE}/pods/{shop}/{path}")
            assert answer is not None
            assert answer.status == 403


@pytest.mark.parametrize(("scheme", "width"), [("light", 1024), ("dark", 390)], ids=str)
def test_every_page_is_readable_on_smaller_screens(
    chromium: Browser, stack: Stack, shop: str, scheme: Scheme, width: int
) -> None:
    base = f"/clusters/{CLUSTER}"
    paths = {
        "overview": base, "workloads": f"{base}/workloads", "pods": f"{base}/pods", "nodes": f"{base}/nodes",
        "events": f"{base}/events", "deployment": f"{base}/kubernetes/{NAMESPACE}/deployments/shop",
        "yaml": f"{base}/kubernetes/{NAMESPACE}/deployments/shop/yaml",
    }  # fmt: skip
    found: dict[str, object] = {}
    with browser.window(chromium, stack.plain_url, scheme=scheme, size=(width, 844)) as window:
        page = window.sign_in("pia")
        for name, path in paths.items():
            window.open(path)
            page.wait_for_load_state("domcontentloaded")
            if name == "pods":
                expect(page.locator("#pods")).to_have_attribute("data-state", "live")
            window.picture(f"kubernetes-{name}-{width}")
            if problems := [*window.problems(), *window.complaints]:
                found[name] = problems
            if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{name} is wider than the window"] = width
    assert found == {}

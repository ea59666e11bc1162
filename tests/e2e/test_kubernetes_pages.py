"""The pages of a real cluster at work: nodes and workloads with rows, logs that go on, scale, restart, delete, rights.

The story of an alarm is in `test_kubernetes_story`; here is what else its pages do, and how they look on every screen.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support import browser
from tests.support import kubernetes_objects as objects
from tests.support.browser import Scheme, Window
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import wait_for
from tests.testbed.kubernetes.configuration import NODE_NAME

pytestmark = [pytest.mark.kubernetes, pytest.mark.browser, pytest.mark.timeout(240)]

NAMESPACE = "k9-pages"
BASE = f"/clusters/{CLUSTER}"
OBJECT = f"{BASE}/kubernetes/{NAMESPACE}/deployments/clock"
PATIENCE = 60_000
"""Milliseconds until the cluster has made or replaced pods."""
TICKS = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 1; done"
PHONE = (360, 780)


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@pytest.fixture(scope="module")
def clock(stack: Stack) -> Iterator[str]:
    """A deployment of a pod with two containers that write, beside one whose image does not exist. Returns: its pod."""
    with stack.empty_namespace(NAMESPACE):
        ticking = objects.workload("Deployment", "clock", "sh", "-c", TICKS, replicas=1)
        containers = ticking["spec"]["template"]["spec"]["containers"]
        containers[0]["resources"] = {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}}
        containers.append(objects.container("chime", "sh", "-c", "echo ding; exec sleep 100000"))
        lost = objects.workload("Deployment", "lost", replicas=1)
        lost["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/nowhere:1"
        objects.apply(stack.direct(), NAMESPACE, ticking, lost)
        stack.user("mia", "deployer", bound_to="edit")
        stack.user("tim", "viewer", bound_to="view")
        yield wait_for(lambda: one_pod(stack), "the pod to run", 60)


def pods(stack: Stack) -> list[dict[str, Any]]:
    """The pods of the clock that are not on their way out."""
    found = json.loads(stack.direct().succeed("-n", NAMESPACE, "get", "pods", "-l", "app=clock", "-o", "json").stdout)
    return [pod for pod in found["items"] if not pod["metadata"].get("deletionTimestamp")]


def one_pod(stack: Stack) -> str:
    """The name of its only pod, once that is ready."""
    names = [
        str(pod["metadata"]["name"])
        for pod in pods(stack)
        if all(status["ready"] for status in pod["status"].get("containerStatuses") or [{"ready": False}])
    ]
    return names[0] if len(names) == 1 else ""


def test_nodes_workloads_and_events_have_rows(chromium: Browser, stack: Stack, clock: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("tim")
        window.open(BASE)
        expect(page.locator("#kube-size")).to_contain_text("1 of 1 ready", timeout=PATIENCE)
        expect(page.locator("#kube-size")).to_contain_text(re.compile(r"Deployment\s*\d"))
        page.get_by_role("link", name="Nodes", exact=True).click()
        row = page.locator(f"#node-{NODE_NAME}")
        expect(row).to_contain_text("Ready")
        expect(row).to_contain_text(re.compile(r"\d+\.\d"))
        expect(row).to_contain_text(re.compile(r"\d+ / 100"))
        expect(row).to_contain_text("v1.36")
        assert window.problems() == []
        page.get_by_role("link", name="Workloads", exact=True).click()
        page.get_by_label("Namespace", exact=True).select_option(NAMESPACE)
        page.wait_for_url(f"**namespace={NAMESPACE}*")
        expect(page.locator(f"#row-Deployment-{NAMESPACE}-clock")).to_contain_text("1/1")
        expect(page.locator(f"#row-Deployment-{NAMESPACE}-lost")).to_contain_text("0/1")
        assert page.locator("#list tbody tr").count() == 2
        window.picture("kubernetes-workloads")
        page.get_by_label("State").select_option("ready")
        expect(page.locator("#list tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Events", exact=True).click()
        page.get_by_label("Namespace", exact=True).select_option(NAMESPACE)
        expect(page.locator("#list")).to_contain_text("lost-")
        expect(page.locator("#list")).to_contain_text("ErrImageNeverPull")
        window.picture("kubernetes-events")
        assert window.problems() == []
        assert window.complaints == []


def test_logs_of_several_containers_go_on_pause_and_are_searched(chromium: Browser, stack: Stack, clock: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("mia")
        window.open(f"{BASE}/kubernetes/{NAMESPACE}/pods/{clock}/logs")
        view = page.get_by_role("log")
        expect(view).to_contain_text("ding")
        newest = last_tick(page)
        assert int(page.locator(".logs").get_attribute("data-lines") or 0) >= newest  # all since its first line
        wait_for(lambda: last_tick(page) > newest, "a line that was written meanwhile", 20)
        page.get_by_label("Search in the log").fill("ding")
        expect(page.locator("[data-found]")).to_contain_text("1")
        expect(view.locator("mark").first).to_have_text("ding")
        page.get_by_label("only lines that match").check()
        expect(view).not_to_contain_text("tick")
        window.picture("kubernetes-logs-search")
        page.get_by_label("Container", exact=True).select_option("chime")
        page.wait_for_url("**container=chime*")
        expect(page.get_by_role("log")).to_contain_text("ding")
        expect(page.get_by_role("log")).not_to_contain_text("tick")
        assert window.problems() == []
        assert window.complaints == []


def last_tick(page: Page) -> int:
    found = re.findall(r"tick (\d+)", page.get_by_role("log").inner_text())
    return max(map(int, found), default=-1)


def test_a_workload_is_scaled_restarted_and_deleted_by_its_name(chromium: Browser, stack: Stack, clock: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("mia")
        window.open(OBJECT)
        expect(page.locator("#object-head")).to_contain_text("1 of 1 ready")
        scale(page, window, 2)
        restart(page, stack)
        scale(page, window, 1)
        remove(page, window, stack)
        assert window.complaints == []
    objects.apply(stack.direct(), NAMESPACE, objects.workload("Deployment", "clock", "sh", "-c", TICKS, replicas=1))


def scale(page: Page, window: Window, count: int) -> None:
    page.get_by_role("button", name="Scale…").click()
    dialog = page.get_by_role("dialog", name="Scale clock")
    dialog.get_by_label("Pods that should run").fill(str(count))
    assert window.problems() == []
    dialog.get_by_role("button", name="Scale", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text(f"clock is scaled to {count}")
    expect(page.locator("#object-head")).to_contain_text(f"{count} of {count} ready", timeout=PATIENCE)
    expect(page.locator("#object-pods tbody tr")).to_have_count(count, timeout=PATIENCE)


def restart(page: Page, stack: Stack) -> None:
    before = {pod["metadata"]["name"] for pod in pods(stack)}
    page.get_by_role("button", name="Restart").click()
    expect(page.get_by_role("status").first).to_contain_text("clock restarts")
    for name in before:
        expect(page.locator("#object-pods")).not_to_contain_text(name, timeout=PATIENCE)
    assert not before & {pod["metadata"]["name"] for pod in pods(stack)}


def remove(page: Page, window: Window, stack: Stack) -> None:
    page.get_by_role("button", name="Delete…").click()
    dialog = page.get_by_role("dialog", name="Delete clock")
    act = dialog.get_by_role("button", name="Delete clock")
    expect(act).to_be_disabled()
    dialog.get_by_label("Type clock to delete it").fill("cloc")
    expect(act).to_be_disabled()
    dialog.get_by_label("Type clock to delete it").fill("clock")
    window.picture("kubernetes-delete")
    assert window.problems() == []
    act.click()
    page.wait_for_url(f"**/workloads?namespace={NAMESPACE}")
    expect(page.get_by_role("status").first).to_contain_text("Deployment clock is being deleted")
    wait_for(lambda: not pods(stack), "its pods to go", 60)
    expect(page.locator(f"#row-Deployment-{NAMESPACE}-clock")).to_have_count(0, timeout=PATIENCE)


# -- what may I do here ----------------------------------------------------------------------------


def test_a_refusal_leads_to_the_page_that_says_why(chromium: Browser, stack: Stack, clock: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("tim")
        answer = page.goto(f"{window.url}{BASE}/kubernetes/{NAMESPACE}/pods/{clock}/logs")
        assert answer is not None
        assert answer.status == 403
        window.complaints.clear()  # the browser notes the 403 itself
        page.get_by_role("link", name="See what you may do here").click()
        expect(page.locator("#answer")).to_contain_text(f"No: you may not get pods/log in namespace {NAMESPACE}")
        expect(page.locator("#answer")).to_contain_text("No rule of the role viewer covers this")
        expect(page.get_by_label("Resource or path")).to_have_value("pods/log")
        window.picture("kubernetes-access-no", whole=True)
        page.get_by_label("Resource or path").fill("deploy")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#answer")).to_contain_text("Yes: you may get deployments.apps")
        expect(page.locator("#answer")).to_contain_text("The cluster's own rules allow it")
        page.get_by_label("Resource or path").fill("widgets.towline.test")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#answer")).to_contain_text("The cluster's own rules refuse it")
        page.get_by_role("link", name=re.compile("^delete pods: no")).click()
        expect(page.locator("#answer")).to_contain_text("No: you may not delete pods")
        assert page.get_by_label("as user").count() == 0
        assert window.problems() == []
        assert window.complaints == []


def test_an_admin_looks_as_another_user_and_as_a_role(chromium: Browser, stack: Stack, clock: str) -> None:
    with browser.window(chromium, stack.plain_url) as window:
        page = window.sign_in("root")
        window.open(f"{BASE}/access?namespace={NAMESPACE}")
        expect(
            page.get_by_role("link", name=re.compile("^delete secrets: yes, .*owner on the organisation"))
        ).to_have_count(1)
        page.get_by_label("as user").fill("tim")
        page.get_by_label("Resource or path").fill("pods/exec")
        page.get_by_label("Verb").select_option("create")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#answer")).to_contain_text("No: tim may not create pods/exec")
        expect(page.locator("main")).to_contain_text("towline:tim")
        page.get_by_label("as user").fill("")
        page.get_by_label("or role").select_option("operator")
        expect(page.locator("#answer")).to_contain_text("Yes: an operator may create pods/exec")
        assert window.problems() == []
        assert window.complaints == []


# -- every screen ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", PHONE), ("dark", PHONE), ("dark", browser.WIDE)], ids=["light", "dark", "dark-wide"]
)
def test_every_page_is_readable_in_light_and_dark_and_on_a_phone(
    chromium: Browser, stack: Stack, clock: str, scheme: Scheme, size: tuple[int, int]
) -> None:
    pod = f"{BASE}/kubernetes/{NAMESPACE}/pods/{wait_for(lambda: one_pod(stack), 'a pod', 60)}"
    paths = {
        "overview": BASE, "workloads": f"{BASE}/workloads", "pods": f"{BASE}/pods", "nodes": f"{BASE}/nodes",
        "events": f"{BASE}/events", "access": f"{BASE}/access?verb=delete&resource=pods&namespace={NAMESPACE}",
        "deployment": OBJECT, "yaml": f"{OBJECT}/yaml", "pod": pod, "logs": f"{pod}/logs",
        "terminal": f"{pod}/terminal",
    }  # fmt: skip
    found: dict[str, object] = {}
    with browser.window(chromium, stack.plain_url, scheme=scheme, size=size) as window:
        page = window.sign_in("mia")
        for name, path in paths.items():
            window.open(path)
            settle(page, name)
            window.picture(f"kubernetes-{name}-{scheme}-{size[0]}", whole=name in ("access", "events"))
            if problems := [*window.problems(), *window.complaints]:
                found[name] = problems
            if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{name} is wider than the window"] = size
    assert found == {}


def settle(page: Page, name: str) -> None:
    """Wait until a page shows what it fetches by itself."""
    page.wait_for_load_state("domcontentloaded")
    if name == "pods":
        expect(page.locator("#pods")).to_have_attribute("data-state", "live")
    elif name == "logs":
        expect(page.get_by_role("log")).to_contain_text("tick")
    elif name == "terminal":
        expect(page.locator(".console")).to_have_attribute("data-state", "open")

"""The story of a crash loop: seen at once in both dashboards, its log read, told once, mended by a restart, over.

In a real browser, on the real cluster, through the real agent, with a real mail server and a real webhook receiver.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.conftest import need
from tests.support import browser
from tests.support import kubernetes_objects as objects
from tests.support.alert_receivers import Receivers
from tests.support.browser import Window
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import wait_for
from tests.testbed import kubectl, metrics_server, processes
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.browser, pytest.mark.timeout(400)]

NAMESPACE = "s6-crash-loop"
BASE = f"/clusters/{CLUSTER}"
NAME = f"{CLUSTER}/{NAMESPACE}/shop"
"""What people call the alert's subject."""
AT_ONCE_SECONDS = 2.0
"""In which what the API server told is on every page."""
PATIENCE = 60_000
"""Milliseconds until the cluster has started a container again, or has replaced a pod."""
TOLD_SECONDS = 120.0
"""Until the third restart, which comes after 30 s of the kubelet's back-off, and what a busy machine adds."""
ENDED_SECONDS = 60.0
"""Until the old pod is gone, and the 15 s in which the new one shows that it is well."""
MEASURED = 180_000
"""Milliseconds until a minute with the pod in it is over and drawn: two looks at the kubelet, a sample, the minute."""
SHOP = 'echo "opening the shop: it is $SHOP"; test "$SHOP" = open || exit 3; exec sleep 100000'
REASON = r"(Error|CrashLoopBackOff|Restarting) \(main\): (last end: )?exit code 3"
WATCH_FOR = """([where, words]) => {
  const pattern = new RegExp(words);
  const look = () => {
    const shown = document.querySelector(where)?.textContent ?? "";
    if (!window.seenAt && pattern.test(shown)) window.seenAt = Date.now() / 1000;
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  look();
}"""


# -- the cluster as its API server tells it ------------------------------------------------------


@dataclass
class Told:
    """When the API server told first that the pod is down again after a restart. Seconds since the epoch."""

    at: float = 0.0
    pod: str = ""
    crashed: threading.Event = field(default_factory=threading.Event)

    def follow(self, stack: Stack, ready: threading.Event) -> None:
        """Read the watch until that happens."""
        query = {"watch": "1", "labelSelector": "app=shop", "timeoutSeconds": "120"}
        with (
            stack.direct_http() as client,
            client.stream("GET", f"/api/v1/namespaces/{NAMESPACE}/pods", params=query, timeout=150) as answer,
        ):
            ready.set()
            for line in answer.iter_lines():
                found = json.loads(line)["object"]
                if any(is_down_again(one) for one in found["status"].get("containerStatuses", ())):
                    self.at, self.pod = time.time(), found["metadata"]["name"]
                    self.crashed.set()
                    return


def is_down_again(status: dict[str, Any]) -> bool:
    return status["name"] == "main" and status["restartCount"] > 0 and "running" not in status["state"]


@contextmanager
def followed(stack: Stack) -> Iterator[Told]:
    told, ready = Told(), threading.Event()
    thread = threading.Thread(target=told.follow, args=(stack, ready), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield told
    thread.join(150)


def shop_is(word: str) -> dict[str, Any]:
    return objects.named("ConfigMap", "shop", data={"shop": word})


def shop() -> dict[str, Any]:
    """A deployment that is as well as its configuration, with a helper that always is."""
    made = objects.workload("Deployment", "shop", "sh", "-c", SHOP, replicas=1)
    containers = made["spec"]["template"]["spec"]["containers"]
    containers[0]["env"] = [
        {"name": "SHOP", "valueFrom": {"configMapKeyRef": {"name": "shop", "key": "shop"}}}
    ]  # fmt: skip
    containers.append(objects.container("side", "sh", "-c", "while true; do sleep 0.2; done"))
    return made


# -- everything that takes part ------------------------------------------------------------------


@pytest.fixture(scope="module")
def receivers() -> Iterator[Receivers]:
    with Receivers() as both:
        yield both


@pytest.fixture(scope="module")
def own_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, receivers: Receivers
) -> Iterator[Stack]:
    """A server that may send to loopback, an agent with its own surface, and a cluster that is measured."""
    need(request.config, "kubernetes")
    need(request.config, "metrics-server")
    stack = Stack(
        tmp_path_factory.mktemp("crash-loop"), Cluster(), kubectl.ensure(), namespace="s6-crash-loop-agent",
        settings={"OUTGOING_NETWORKS": "127.0.0.0/8", "ALERT_GROUP_SECONDS": "0"},
        agent_settings={"LISTEN": f"127.0.0.1:{processes.free_port()}"},
    )  # fmt: skip
    with stack, stack.empty_namespace(NAMESPACE), metrics_server.beside(stack.cluster):
        tell_everybody(stack, receivers)
        stack.user("s6pia", "deployer", bound_to="edit")
        yield stack


def tell_everybody(stack: Stack, receivers: Receivers) -> None:
    """Have both channels, and a rule that does not wait."""
    mail = {
        "kind": "email", "host": "127.0.0.1", "port": receivers.mails.port, "security": "none",
        "sender": "towline@example.com", "recipients": ["ops@example.com"],
    }  # fmt: skip
    with stack.http(stack.owner.token) as client:
        for name, target in (("pager", {"kind": "webhook", "url": receivers.hook.url}), ("ops", mail)):
            answer = client.post("/api/v1/alert-channels", json={"name": name, "target": target})
            assert answer.status_code == 201, answer.text
        answer = client.patch("/api/v1/alert-rules", json={"rule": "crash_loop", "after_seconds": 0})
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


# -- the story -----------------------------------------------------------------------------------


def test_a_crash_loop_is_seen_read_told_and_mended(chromium: Browser, own_stack: Stack, receivers: Receivers) -> None:
    stack = own_stack
    with ExitStack() as ending:
        overview = ending.enter_context(browser.window(chromium, stack.plain_url))
        pods = ending.enter_context(browser.window(chromium, stack.plain_url))
        beside = ending.enter_context(browser.window(chromium, f"http://{stack.agent_settings['LISTEN']}"))
        open_pages(stack, overview, pods, beside)
        told = ending.enter_context(followed(stack))
        objects.apply(stack.direct(), NAMESPACE, shop_is("shut"), shop())
        assert told.crashed.wait(90), "the pod did not crash"
        for name, window in {"overview": overview, "pods": pods, "agent": beside}.items():
            seen_in_time(name, window, told)
        read_the_log(overview, told.pod)
        is_told(receivers, "firing")
        chart_of_memory(overview, told.pod)
        objects.apply(stack.direct(), NAMESPACE, shop_is("open"))
        restart(overview, told.pod)
        is_told(receivers, "resolved")
        told_once(stack, receivers)
        assert overview.complaints + pods.complaints + beside.complaints == []


def open_pages(stack: Stack, overview: Window, pods: Window, beside: Window) -> None:
    """Both pages of the control plane and the agent's own, before anything happens."""
    overview.sign_in("s6pia")
    overview.open(BASE)
    watch(overview.page, "#kube-unwell", rf"shop-.*{REASON}")
    pods.sign_in("s6pia")
    pods.open(f"{BASE}/pods?namespace={NAMESPACE}")
    expect(pods.page.locator("#pods")).to_have_attribute("data-state", "live")
    watch(pods.page, "#pods", "shop-.*(Error|CrashLoopBackOff)")
    page = beside.open("/")
    page.get_by_label("Local token").fill(stack.local_token())
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_contain_text("Live")
    page.evaluate(f"location.hash = '#/pods?ns={NAMESPACE}'")
    watch(page, "#p-rows", rf"shop-.*{REASON}")


def watch(page: Page, where: str, words: str) -> None:
    """Have the page itself note when it first shows some words."""
    page.evaluate(WATCH_FOR, [where, words])


def seen_in_time(name: str, window: Window, told: Told) -> None:
    window.page.wait_for_function("() => window.seenAt", timeout=1000 * AT_ONCE_SECONDS)
    late = window.page.evaluate("window.seenAt") - told.at
    assert late < AT_ONCE_SECONDS, f"{name} showed it after {late:.2f} s"


def read_the_log(window: Window, pod: str) -> None:
    """Read what the pod writes, and what it writes when it is started again while the page is open."""
    page = window.open(f"{BASE}/kubernetes/{NAMESPACE}/pods/{pod}")
    expect(page.locator("#container-main")).to_contain_text("exit code 3")
    page.get_by_role("link", name="Logs of main").click()
    view = page.get_by_role("log")
    expect(view).to_contain_text("opening the shop: it is shut")
    lines = view.inner_text().count("opening the shop")
    page.wait_for_function(
        "lines => document.querySelector('[role=log]').innerText.split('opening the shop').length - 1 > lines",
        arg=lines, timeout=PATIENCE,
    )  # fmt: skip


def chart_of_memory(window: Window, pod: str) -> None:
    """Wait for the chart of the pod that crash-loops."""
    page = window.open(f"{BASE}/kubernetes/{NAMESPACE}/pods/{pod}")
    chart = page.get_by_role("img", name=re.compile(r"^Memory of .* least .*, mean .*, most "))
    expect(chart).to_be_visible(timeout=MEASURED)
    window.picture("kubernetes-crash-loop-memory")


def restart(window: Window, pod: str) -> None:
    """Restart the deployment from its page: another pod takes the place of the one that crashed."""
    page = window.open(f"{BASE}/kubernetes/{NAMESPACE}/deployments/shop")
    expect(page.locator("#object-pods")).to_contain_text(pod)
    page.get_by_role("button", name="Restart").click()
    expect(page.get_by_role("status").first).to_contain_text("shop restarts")
    expect(page.locator("#object-pods")).not_to_contain_text(pod, timeout=PATIENCE)
    expect(page.locator("#object-head")).to_contain_text("1 of 1 ready", timeout=PATIENCE)


# -- what was told -------------------------------------------------------------------------------


def is_told(receivers: Receivers, word: str) -> None:
    """Wait until both channels have told that our alert fires, or that it is over."""

    def arrived() -> bool:
        receivers.take()
        return word in hooked(receivers) and word in mailed(receivers)

    wait_for(arrived, f"{word} on both channels", TOLD_SECONDS if word == "firing" else ENDED_SECONDS)


def hooked(receivers: Receivers) -> list[str]:
    """What webhooks told of our alert; the cluster is shared, and others crash in it too."""
    return [
        body["type"].removeprefix("alert.") for body in receivers.posted
        if body.get("rule") == "crash_loop" and any(one["name"] == NAME for one in body["alerts"])
    ]  # fmt: skip


def mailed(receivers: Receivers) -> list[str]:
    """The same of mails."""
    found = []
    for mail in receivers.mailed:
        body = mail.get_body(("plain",))
        if body is not None and NAME in body.get_content() and "exit code 3" in body.get_content():
            found.append("resolved" if "resolved" in str(mail["subject"]).lower() else "firing")
    return found


def told_once(stack: Stack, receivers: Receivers) -> None:
    receivers.take()
    assert (hooked(receivers), mailed(receivers)) == (["firing", "resolved"], ["firing", "resolved"])
    (body,) = [one for one in receivers.posted if one["type"] == "alert.firing" and one["alerts"][0]["name"] == NAME]
    assert re.search(rf"^shop-.*: {REASON}, \d+ restarts?$", body["alerts"][0]["summary"])
    with stack.http(stack.owner.token) as client:
        found = client.get("/api/v1/alerts", params={"state": "resolved", "rule": "crash_loop"}).json()["items"]
    assert [one["times"] for one in found if one["name"] == NAME] == [1]

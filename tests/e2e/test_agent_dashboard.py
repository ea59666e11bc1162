"""The agent's dashboard in a real browser, on a surface beside an API server that the tests fill.

What needs the real cluster is in `test_agent_dashboard_real.py`.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support import browser
from tests.support.browser import Scheme, Window
from tests.support.dashboard_host import DashboardHost
from tests.support.small_api import pod, thing

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardHost]:
    with DashboardHost(tmp_path_factory.mktemp("dashboard"), nodes=2) as running:
        running.put("namespaces", thing("web"))
        running.put("pods", pod("shop-1"))
        running.put("pods", pod("shop-2", waiting="CrashLoopBackOff"))
        running.put("pods", pod("queue", namespace="data"))
        yield running


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@pytest.fixture
def window(chromium: Browser, host: DashboardHost) -> Iterator[Window]:
    with browser.window(chromium, host.url) as opened:
        yield opened


def sign_in(window: Window, token: str, path: str = "/") -> Page:
    page = window.open(path)
    page.get_by_label("Local token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_contain_text("Live")
    return page


def test_page_asks_for_a_token_and_refuses_a_wrong_one(window: Window, host: DashboardHost) -> None:
    page = window.open("/")
    expect(page.locator("#open-state")).to_contain_text("Ready")
    page.get_by_label("Local token").fill("x" * 30)
    page.get_by_role("button", name="Sign in").click()

    expect(page.locator("#token-problem")).to_contain_text("not a local token")
    expect(page.locator("#shell")).to_be_hidden()
    assert "x" * 30 not in page.url


def test_pods_are_shown_with_health_and_reason_and_change_as_they_change(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods")
    expect(page.locator("#p-rows")).to_contain_text("CrashLoopBackOff")
    expect(page.locator("#p-sum")).to_contain_text("1 unwell")

    host.put("pods", pod("late", waiting="ImagePullBackOff"))
    expect(page.locator("#p-rows")).to_contain_text("ImagePullBackOff", timeout=2000)
    host.remove("pods", "web/late")
    expect(page.locator("#p-rows")).not_to_contain_text("late", timeout=2000)
    assert window.complaints == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 360)], ids=str)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    chromium: Browser, host: DashboardHost, scheme: Scheme, width: int
) -> None:
    found: dict[str, object] = {}
    with browser.window(chromium, host.url, scheme=scheme, size=(width, 900)) as window:
        window.open("/")
        found["sign-in"] = window.problems()
        page = sign_in(window, host.operate)
        for path in VIEWS:
            page.evaluate(f"location.hash = '#/{path}'")
            expect(page.locator("section.view:visible h1")).to_be_visible()
            found[path] = window.problems()
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{path} is wider than the window"] = width
        found["console"] = window.complaints
    assert {name: each for name, each in found.items() if each} == {}


VIEWS = ("overview", "nodes", "nodes/n1", "pods", "pods/web/shop-2", "workloads", "jobs", "logs")

"""The agent's dashboard in a real browser, on a surface beside an API server that the tests fill.

What needs the real cluster or a real engine is in `test_kubernetes_dashboard.py`.
"""

import re
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support import browser
from tests.support.browser import Scheme, Window
from tests.support.dashboard_host import DashboardHost
from tests.support.small_api import pod, thing

from towline.agent.surface.linkstate import Standing
from towline.wire import link

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

VIEWS = ("overview", "nodes", "nodes/n1", "pods", "pods/web/shop-2", "workloads", "jobs", "logs")
AT_ONCE = 2000
"""Milliseconds in which a change of the cluster is on the page."""
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardHost]:
    with DashboardHost(tmp_path_factory.mktemp("dashboard"), nodes=2) as running:
        running.put("namespaces", thing("web"))
        running.put("pods", pod("shop-1"))
        running.put("pods", pod("shop-2", waiting="CrashLoopBackOff"))
        running.put("pods", pod("queue", namespace="data"))
        running.measure({"n1": ("1500m", "2Gi")}, {"web/shop-1": ("20m", "64Mi")})
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


# -- signing in ----------------------------------------------------------------------------------


def test_page_asks_for_a_token_and_refuses_a_wrong_one(window: Window, host: DashboardHost) -> None:
    page = window.open("/")
    expect(page.locator("#open-state")).to_contain_text("Ready")
    page.get_by_label("Local token").fill("x" * 30)
    page.get_by_role("button", name="Sign in").click()

    expect(page.locator("#token-problem")).to_contain_text("not a local token")
    expect(page.locator("#shell")).to_be_hidden()


def test_token_lasts_as_long_as_the_tab_and_is_in_no_address(
    chromium: Browser, window: Window, host: DashboardHost
) -> None:
    asked: list[str] = []
    window.page.on("request", lambda request: asked.append(request.url))
    page = sign_in(window, host.operate)
    page.reload()
    expect(page.locator("#live")).to_contain_text("Live")
    assert [address for address in asked if host.operate in address] == []
    assert window.context.cookies() == []

    other = window.context.new_page()
    other.goto(host.url)
    expect(other.get_by_label("Local token")).to_be_visible()

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Local token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Local token")).to_be_visible()


def test_token_that_reads_is_told_that_logs_need_the_other_one(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/logs?namespace=web&pod=shop-1")

    expect(page.locator("#l-problem")).to_contain_text("towline agent token --operate")


# -- the cluster ---------------------------------------------------------------------------------


def test_pods_are_shown_with_health_and_reason_and_change_as_they_change(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods")
    expect(page.locator("#p-rows")).to_contain_text("CrashLoopBackOff")
    expect(page.locator("#p-sum")).to_contain_text("1 unwell")

    host.put("pods", pod("late", waiting="ImagePullBackOff"))
    expect(page.locator("#p-rows")).to_contain_text("ImagePullBackOff", timeout=AT_ONCE)
    host.remove("pods", "web/late")
    expect(page.locator("#p-rows")).not_to_contain_text("late", timeout=AT_ONCE)
    assert window.complaints == []


def test_pods_are_searched_and_filtered_and_the_address_says_so(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods")
    names = page.locator("#p-rows td.lead")
    expect(names).to_have_count(3)
    page.get_by_label("Search pods").fill("queue")
    expect(names).to_have_count(1)
    assert page.url.endswith("#/pods?q=queue")
    page.keyboard.press("Escape")
    expect(names).to_have_count(3)
    page.get_by_label("Only unwell").check()
    expect(names).to_have_text(["shop-2"])
    page.reload()
    expect(names).to_have_text(["shop-2"])


def test_what_is_measured_is_shown_and_what_is_not_is_unknown(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods/web/shop-1")
    expect(page.get_by_role("img", name=re.compile("^Memory: 64.0 MiB now"))).to_be_visible()
    row = page.locator("#p-rows tr", has_text="shop-2")
    expect(row.locator("td[data-label=CPU]")).to_have_text("unknown")

    page.evaluate("location.hash = '#/nodes'")
    expect(page.locator("#n-rows tr", has_text="n1")).to_contain_text("1.50 of 4.00 cores")
    expect(page.locator("#n-rows tr", has_text="n2")).to_contain_text("unknown of 4.00 cores")


def test_row_keeps_its_focus_while_it_changes(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods")
    page.get_by_role("link", name="shop-1").focus()
    host.put("pods", pod("shop-1", waiting="ErrImagePull"))
    expect(page.locator("#p-rows tr", has_text="shop-1")).to_contain_text("ErrImagePull", timeout=AT_ONCE)

    assert page.evaluate("document.activeElement.textContent") == "shop-1"
    host.put("pods", pod("shop-1"))


def test_names_and_lines_are_text_and_never_markup(window: Window, host: DashboardHost) -> None:
    host.put("pods", pod("hostile", waiting=HOSTILE))
    host.do(host.api.write("web/hostile/app", HOSTILE))
    page = sign_in(window, host.operate, "/#/logs?namespace=web&pod=hostile")
    expect(page.get_by_role("log")).to_contain_text("<img src=x")
    page.evaluate("location.hash = '#/pods/web/hostile'")
    expect(page.locator("#p-detail")).to_contain_text("<img src=x")

    assert page.locator("img").count() == 0
    assert page.title() != "taken"
    host.remove("pods", "web/hostile")


# -- what lasts ----------------------------------------------------------------------------------


def test_page_comes_back_by_itself_and_misses_nothing(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read, "/#/pods")
    expect(page.locator("#p-rows")).to_contain_text("shop-1")  # from the list that a page reads at its beginning
    host.put("pods", pod("before"))
    expect(page.locator("#p-rows")).to_contain_text("before", timeout=AT_ONCE)
    page.evaluate(
        "window.loads = 0; const old = load; window.load = (kind) => { window.loads += 1; return old(kind); }; null"
    )
    page.route("**/api/tickets", lambda route: route.abort())
    host.cut()
    expect(page.locator("#live")).to_contain_text("Reconnecting")
    host.put("pods", pod("meanwhile"))
    host.remove("pods", "web/before")
    page.unroute("**/api/tickets")

    expect(page.locator("#live")).to_contain_text("Live")
    expect(page.locator("#p-rows")).to_contain_text("meanwhile", timeout=AT_ONCE)
    expect(page.locator("#p-rows")).not_to_contain_text("before")
    assert page.evaluate("window.loads") == 0, "the list was read anew, though the ring had it all"
    host.remove("pods", "web/meanwhile")


def test_page_that_lost_the_agent_says_so(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read)
    page.clock.install()
    page.route("**/api/tickets", lambda route: route.abort())
    host.cut()
    for _ in range(12):
        page.clock.run_for(5000)
    expect(page.locator("#live")).to_contain_text("Lost")
    expect(page.locator("#stale")).to_contain_text("lost the agent")


def test_log_is_read_live_and_can_be_paused_and_sieved(window: Window, host: DashboardHost) -> None:
    host.do(host.api.write("web/shop-1/app", "the shop is open", "\x1b[31mERROR\x1b[0m no bread"))
    page = sign_in(window, host.operate, "/#/pods/web/shop-1")
    page.locator("#p-detail").get_by_role("link", name="Logs", exact=True).click()
    lines = page.get_by_role("log")
    expect(lines).to_contain_text("the shop is open")
    expect(lines.locator(".red")).to_have_text("ERROR")
    host.do(host.api.write("web/shop-1/app", "somebody came"))
    expect(lines).to_contain_text("somebody came", timeout=AT_ONCE)

    page.keyboard.press("p")
    host.do(host.api.write("web/shop-1/app", "somebody left"))
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    expect(lines).not_to_contain_text("somebody left")
    page.get_by_role("button", name="Go on").click()
    expect(lines).to_contain_text("somebody left")

    page.get_by_label("Only lines with this text").fill("bread")
    page.keyboard.press("Enter")
    expect(lines).not_to_contain_text("somebody")
    expect(lines.locator("mark")).to_have_text("bread")


def test_log_goes_on_after_a_cut_without_a_doubled_line(window: Window, host: DashboardHost) -> None:
    host.put("pods", pod("counter"))
    host.do(host.api.write("web/counter/app", *(f"number {at}" for at in range(20))))
    page = sign_in(window, host.operate, "/#/logs?namespace=web&pod=counter")
    rows = page.locator("#l-lines .row:not(.word)")
    expect(rows).to_have_count(20)
    host.cut()
    host.do(host.api.write("web/counter/app", "number 20"))

    expect(rows).to_have_count(21)
    expect(rows.last).to_have_text(re.compile("number 20$"))
    host.remove("pods", "web/counter")


# -- the agent itself ------------------------------------------------------------------------------


def test_jobs_are_shown_as_they_run_and_end(window: Window, host: DashboardHost) -> None:
    journal = host.parts.journal
    assert journal is not None
    order = link.Job(
        job_id="job_7",
        kind="compose.deploy",
        fence=1,
        attempt=1,
        timeout=60,
        payload=msgspec.Raw(b'{"project":"shop"}'),
    )
    page = sign_in(window, host.read, "/#/jobs")
    expect(page.locator("#j-empty")).to_contain_text("No job")
    host.call(lambda: journal.accept(order, "shop", 1_700_000_000.0))
    host.call(lambda: journal.begin("job_7", 1_700_000_001.0))
    row = page.locator("#j-rows tr")
    expect(row).to_contain_text("Running", timeout=AT_ONCE)
    said = link.JobEvent(seq=0, at=1.0, stage="pulling", text="image shop:2")
    host.call(lambda: journal.add_events("job_7", [said]))
    expect(row).to_contain_text("image shop:2", timeout=AT_ONCE)
    ended = link.JobResult(
        job_id="job_7",
        fence=1,
        outcome="failed",
        code="pull_failed",
        error="no such image",
        finished_at=1_700_000_031.0,
    )
    host.call(lambda: journal.finish(ended))
    expect(row).to_contain_text("no such image", timeout=AT_ONCE)
    expect(row).to_contain_text("30 s")


def test_refused_registration_is_told_with_its_reason_and_the_next_attempt(window: Window, host: DashboardHost) -> None:
    state, now = host.parts.link, host.parts.clock.now().timestamp()
    page = sign_in(window, host.read)
    host.call(lambda: state.turned(Standing.JOINING, server="https://towline.example"))
    host.call(
        lambda: state.failed(
            "the join token was used before", code="token_used", hint="make another one", attempts=3,
            next_attempt_at=now + 30,
        )
    )  # fmt: skip
    banner = page.locator("#banners")
    expect(banner).to_contain_text("not registered")
    expect(banner).to_contain_text("(token_used)")
    expect(banner).to_contain_text(re.compile(r"next attempt in \d+ s"))
    expect(page.locator("#o-link")).to_contain_text("make another one")

    host.call(host.silence.look)
    expect(banner).to_contain_text("silent for a long time")
    host.call(lambda: state.turned(Standing.STANDALONE))
    expect(banner).to_have_text("")


def test_everything_is_reached_by_keys(window: Window, host: DashboardHost) -> None:
    page = sign_in(window, host.read)
    expect(page.get_by_role("link", name="Pods")).to_be_visible()  # numbers count the views that are there
    page.keyboard.press("3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Pods")
    page.keyboard.press("/")
    expect(page.get_by_label("Search pods")).to_be_focused()
    page.keyboard.type("shop-2")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#p-detail")).to_be_visible()
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#p-detail")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


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

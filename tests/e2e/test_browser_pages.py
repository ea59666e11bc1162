"""The pages in a real browser, on a server whose tables hold what they show: axe, roles, no scripts, live parts, size.

What needs an agent is in the story beside this file.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from tests.support import browser, command_seeds, seeds
from tests.support.browser import Scheme, Window
from tests.support.page_server import PageServer

from towline.control.access.permissions import Reach, Role, ScopeKind

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

FAILED = "/clusters/warehouse-hamburg-storage/deployments/shop"
GOOD = "/clusters/edge-1/deployments/shop"
COMMAND = f"/commands/{command_seeds.RUN}"
PLACES = (
    "/fleet", "/deployments", "/jobs", "/access?tab=tokens", "/settings", "/search?q=shop",
    "/routes", "/domains", "/certificates", "/alerts", "/alerts/rules", "/alerts/silences", "/commands",
    "/clusters/edge-1",
)  # fmt: skip
PAGES = (
    *PLACES, "/fleet/join", "/fleet/join/kubernetes", "/fleet/join/older", "/clusters/edge-1/settings",
    "/clusters/edge-2", "/deployments/new?sample=1", GOOD, FAILED, f"{GOOD}/edit", f"{FAILED}/revisions",
    f"{FAILED}/revisions/2", f"{GOOD}/settings", "/access", "/access?tab=join", "/audit", "/routes/new",
    "/clusters/edge-1/routes",
    "/alerts/channels", "/commands/saved", "/commands/new", "/commands/new?saved=logs", COMMAND,
)  # fmt: skip
NEEDS_AGENT = (f"{GOOD}/logs", f"{GOOD}/terminal")
FAST_SECONDS = 0.1
"""What a list may take on the server with a thousand clusters and ten thousand containers."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with PageServer(tmp_path_factory.mktemp("pages")) as running:
        running.do(seeds.three(running.control))
        running.do(command_seeds.run_and_saved(running.control))
        yield running


@pytest.fixture(scope="module")
def owner(server: PageServer) -> str:
    return server.sign_in("ada", Role.OWNER)


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@pytest.fixture
def window(chromium: Browser, server: PageServer, owner: str) -> Iterator[Window]:
    with browser.window(chromium, server.url, cookie=owner) as opened:
        yield opened


# -- what everybody should be able to read -------------------------------------------------------


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)], ids=str)
def test_axe_finds_nothing_serious_on_any_page_and_the_console_is_silent(
    chromium: Browser, server: PageServer, owner: str, scheme: Scheme, width: int
) -> None:
    found: dict[str, object] = {}
    with browser.window(chromium, server.url, cookie=owner, scheme=scheme, size=(width, 900)) as window:
        for path in PAGES:
            page = window.open(path)
            if found_here := [*window.problems(), *window.complaints]:
                found[path] = found_here
            window.complaints.clear()
            if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{path} is wider than the window"] = width
        for path in NEEDS_AGENT:
            window.open(path)
            if found_here := window.problems():
                found[path] = found_here
    assert found == {}


def test_signing_in_and_setting_up_are_read_by_axe_too(chromium: Browser, server: PageServer, tmp_path: Path) -> None:
    with browser.window(chromium, server.url) as window:
        window.open("/signin")
        assert window.problems() == []
    with PageServer(tmp_path) as fresh, browser.window(chromium, fresh.url) as window:
        window.open("/setup")
        assert window.problems() == []
        assert window.complaints == []


def test_pages_are_read_and_forms_work_without_scripts(chromium: Browser, server: PageServer, owner: str) -> None:
    with browser.window(chromium, server.url, cookie=owner, scripts=False) as window:
        for path in (*PAGES, *NEEDS_AGENT):
            expect(window.open(path).locator("main h1")).to_be_visible()
        page = window.open("/fleet")
        page.get_by_label("Name or label").fill("edge-2")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("#fleet tbody tr")).to_have_count(1)
        page = window.open("/clusters/edge-2/settings")
        page.get_by_label("Labels").fill("env=staging,site=oslo")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("status").first).to_contain_text("saved")
        expect(page.locator("#cluster-head")).to_contain_text("site=oslo")
        page = window.open("/access")
        page.get_by_role("link", name="Add a user").click()
        page.get_by_label("User name").fill("bob")
        page.get_by_label("Password").fill("a few words are better")
        page.get_by_role("button", name="Add the user").click()
        expect(page.locator("#access-list")).to_contain_text("bob")


# -- roles -----------------------------------------------------------------------------------------

ACTIONS = {
    "/fleet": {"Join a host": Role.ADMIN},
    "/deployments": {"Deploy a project": Role.DEPLOYER},
    GOOD: {
        "Restart": Role.OPERATOR,
        "Stop": Role.OPERATOR,
        "Redeploy": Role.DEPLOYER,
        "Edit and deploy": Role.DEPLOYER,
    },
    "/commands": {"Run a command": Role.OPERATOR},
    "/clusters/edge-1": {
        "Run a command": Role.OPERATOR,
        "Adopt": Role.DEPLOYER,
        "Deploy a project": Role.DEPLOYER,
        "Publish a service": Role.DEPLOYER,
    },
    "/access?tab=users": {"Add a user": Role.ADMIN},
    "/routes": {"Publish a service": Role.DEPLOYER},
    "/domains": {"Add a domain": Role.ADMIN},
    "/certificates": {"Upload a certificate": Role.ADMIN},
    "/alerts": {"Silence…": Role.OPERATOR},
    "/alerts/rules": {"Change…": Role.ADMIN, "Channels": Role.ADMIN},
}


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
def test_each_role_sees_every_page_it_may_and_no_button_that_it_may_not_use(
    chromium: Browser, server: PageServer, role: Role
) -> None:
    cookie = server.sign_in(f"one-{role.value}", role)
    order = list(Role)
    with browser.window(chromium, server.url, cookie=cookie) as window:
        for path in PLACES:
            expect(window.open(path).locator("main h1")).to_be_visible()
        for link in window.page.locator(".side a:visible").evaluate_all("links => links.map(link => link.href)"):
            answer = window.page.goto(link)
            assert answer is not None and answer.ok, f"the menu leads {role} to {link}, which answers {answer.status}"
        for path, buttons in ACTIONS.items():
            page = window.open(path)
            for name, needed in buttons.items():
                shown = page.locator("main").get_by_text(name, exact=True).count() > 0
                assert shown == (order.index(role) >= order.index(needed)), f"{name} on {path} for {role}"
        for tab in window.open(GOOD).locator(".tabs a").evaluate_all("links => links.map(link => link.href)"):
            answer = window.page.goto(tab)
            assert answer is not None and answer.ok, f"the tab leads {role} to {tab}"


def test_who_may_see_one_project_sees_that_one_and_no_blank_page(chromium: Browser, server: PageServer) -> None:
    cookie = server.sign_in("carol", Role.DEPLOYER, Reach(ScopeKind.PROJECT, project="shop"))
    with browser.window(chromium, server.url, cookie=cookie) as window:
        for path in PLACES[:-1]:  # not the cluster's
            expect(window.open(path).locator("main h1")).to_be_visible()
        page = window.open("/deployments")
        expect(page.locator("tbody tr")).to_have_count(2)
        expect(window.open(GOOD).get_by_role("link", name="Edit and deploy")).to_be_visible()


def test_who_has_no_role_reads_what_to_do(chromium: Browser, server: PageServer) -> None:
    cookie = server.sign_in("dave", None)
    with browser.window(chromium, server.url, cookie=cookie) as window:
        answer = window.page.goto(f"{server.url}/fleet")
        assert answer is not None and answer.status == 403
        expect(window.page.locator("main")).to_contain_text("ask an administrator")
        expect(window.page.get_by_text("dave")).to_be_visible()


def test_an_error_page_names_what_is_missing_and_leads_back(window: Window) -> None:
    answer = window.page.goto(f"{window.url}/clusters/nowhere")
    assert answer is not None and answer.status == 404
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Cluster not found")
    expect(window.page.locator("main")).to_contain_text("Request")
    window.page.get_by_role("link", name="Go to the fleet").click()
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Fleet")


# -- live parts --------------------------------------------------------------------------------------


def test_a_row_changes_in_place_and_focus_and_opened_parts_stay(window: Window, server: PageServer) -> None:
    page = window.open("/fleet")
    link = page.get_by_role("link", name="edge-1", exact=True)
    link.focus()
    page.evaluate("() => { window.row = document.activeElement.closest('tr'); }")
    server.do(seeds.set_health(server.control, "edge-1", "down", "Docker does not answer: it was stopped"))
    expect(page.locator("#fleet")).to_contain_text("it was stopped")
    expect(page.locator("#counts")).to_contain_text("1 down")
    assert page.evaluate("() => document.activeElement.closest('tr') === window.row")
    server.do(seeds.set_health(server.control, "edge-1", "healthy", "Everything works"))
    expect(page.locator("#counts")).not_to_contain_text("down")

    page = window.open(FAILED)
    page.locator("#job-progress summary").click()
    server.do(seeds.touch(server.control))
    page.wait_for_event("response", lambda answer: answer.url.endswith(FAILED))
    expect(page.locator("#job-progress")).to_have_attribute("open", "")


def test_new_rows_announce_themselves_to_who_has_scrolled(chromium: Browser, server: PageServer, owner: str) -> None:
    with browser.window(chromium, server.url, cookie=owner, size=(1024, 300)) as window:
        page = window.open("/audit")
        page.evaluate("() => window.scrollTo(0, 200)")
        server.sign_in("erin", Role.VIEWER)  # perhaps before the page listens, which loses nothing
        page.get_by_role("button", name="2 new").click()
        page.wait_for_function("() => window.scrollY === 0")
        expect(page.locator("#audit tbody tr").first).to_contain_text("erin")


def test_filters_live_in_the_address_and_survive_a_reload(window: Window) -> None:
    page = window.open("/fleet")
    page.get_by_label("Name or label").fill("warehouse")
    expect(page.locator("#fleet tbody tr")).to_have_count(1)
    assert page.url.endswith("/fleet?search=warehouse")
    page.reload()
    expect(page.get_by_label("Name or label")).to_have_value("warehouse")
    expect(page.locator("#fleet tbody tr")).to_have_count(1)
    page.get_by_label("State").select_option("healthy")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.go_back()
    expect(page.locator("#fleet tbody tr")).to_have_count(1)
    page = window.open("/fleet")
    page.get_by_role("link", name="Last seen").click()
    expect(page.locator("th[aria-sort]")).to_have_text("Last seen")


def test_a_page_that_lost_the_server_says_so_and_comes_back(chromium: Browser, tmp_path: Path) -> None:
    with PageServer(tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
        cookie = running.sign_in("ada", Role.OWNER)
        opened = browser.window(chromium, running.url, cookie=cookie)
        window = opened.__enter__()
        try:
            page = window.open("/fleet")
            expect(page.locator("#offline")).to_be_hidden()
            running.stop()
            expect(page.locator("#offline")).to_contain_text("lost its connection", timeout=20_000)
            with PageServer(tmp_path, listen=f"127.0.0.1:{port}"):
                expect(page.locator("#offline")).to_be_hidden(timeout=30_000)
        finally:
            opened.__exit__(None, None, None)


# -- keys, forms, the editor -------------------------------------------------------------------------


def test_keys_lead_everywhere_and_escape_closes(window: Window) -> None:
    page = window.open("/fleet")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("shop\n")
    expect(page.get_by_role("heading", level=1)).to_contain_text("shop")
    page.keyboard.press("Tab")
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.get_by_label("Your account").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_the_editor_names_the_line_while_one_types_and_keeps_the_draft(window: Window) -> None:
    page = window.open(f"{GOOD}/edit")
    field = page.get_by_label("Compose file")
    expect(page.locator("#problems")).to_contain_text("well formed")
    broken = seeds.COMPOSE.replace("    image: postgres:17", "    image: [postgres")
    field.fill(broken)
    expect(page.locator("#problems li").first).to_contain_text("Line ")
    expect(page.locator(".gutter .bad").first).to_be_visible()
    page.reload()
    expect(field).to_have_value(seeds.COMPOSE)
    page.get_by_role("button", name="Take the draft").click()
    expect(field).to_have_value(broken)
    field.fill(seeds.NEWER)
    page.get_by_role("button", name="Show what would change").click()
    expect(page.locator("#plan")).to_contain_text("nginx:alpine → nginx:1.29-alpine")
    expect(field).to_have_value(seeds.NEWER)


def test_removing_asks_for_the_name(window: Window) -> None:
    page = window.open("/clusters/edge-2/settings")
    button = page.get_by_role("button", name="Remove edge-2")
    expect(button).to_be_disabled()
    page.get_by_label("Type edge-2 to remove it").fill("edge-2")
    expect(button).to_be_enabled()


def test_a_token_is_shown_once_and_in_no_address(window: Window) -> None:
    page = window.open("/access?tab=tokens")
    page.get_by_role("link", name="New API token").click()
    page.get_by_label("What it is for").fill("ci")
    page.get_by_role("button", name="Make the token").click()
    token = page.locator("#new-secret").inner_text()
    assert token.startswith("twl_") and token not in page.url
    page = window.open("/access?tab=tokens")
    expect(page.locator("#access-list")).to_contain_text("ci")
    assert token not in page.content()


# -- a thousand clusters -----------------------------------------------------------------------------


def test_lists_answer_fast_with_a_thousand_clusters_and_ten_thousand_containers(tmp_path: Path) -> None:
    paths = (
        "/fleet", "/fleet?search=host-09", "/fleet?selector=site%3Ds7", "/fleet?state=down&sort=-last_seen",
        "/deployments", "/deployments?search=sho", "/deployments?state=down", "/jobs", "/audit", "/search?q=nginx",
        "/clusters/host-0000", "/deployments/new", "/api/v1/clusters", "/api/v1/deployments",
    )  # fmt: skip
    slow: dict[str, float] = {}
    with PageServer(tmp_path) as server:
        server.do(seeds.thousand(server.control))
        cookies = {"towline": server.sign_in("ada", Role.OWNER)}
        with httpx.Client(base_url=server.url, cookies=cookies, timeout=30) as client:
            for path in paths:
                best = min(asked(client, path) for _ in range(7))
                if best > FAST_SECONDS:
                    slow[path] = best
    assert slow == {}


def asked(client: httpx.Client, path: str) -> float:
    """Seconds that one answer took."""
    began = time.perf_counter()
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - began

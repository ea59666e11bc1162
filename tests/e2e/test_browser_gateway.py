"""Pages of routes, domains and certificates in a real browser: publishing, the way's lights, live requests, screens.

What they show is real: a linked agent of a test, an HTTP server behind it, and the edge in between.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.support import browser, seeds
from tests.support.browser import Scheme, Window
from tests.support.gateway import FakeDns
from tests.support.gateway_pages import AWAY, CONNECTED, GatewayScene, gateway_scene
from tests.support.page_server import PageServer

from towline.control.access.permissions import Role

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PAGES = (
    "/routes", "/routes?state=proposed", "/routes?search=nothing", "/routes/new?cluster=edge-1", "/routes/shop",
    "/routes/blog", "/routes/shop/requests", "/routes/blog/requests", "/routes/shop/settings",
    "/clusters/edge-1/routes", "/domains", "/certificates",
    "/certificates/blog.example.net", "/certificates/www.example.net",
)  # fmt: skip
SCREENS: tuple[tuple[Scheme, int], ...] = (("light", 1440), ("dark", 1024), ("dark", 360), ("light", 390))


class Served:
    """A server, and what was published on it; both live in the server's loop."""

    def __init__(self, server: PageServer, dns: socket.socket) -> None:
        self.server, self._dns = server, dns
        self.scene: GatewayScene
        self._ready, self._end = asyncio.Event(), asyncio.Event()
        self._held = asyncio.run_coroutine_threadsafe(self._hold(), server.loop)
        server.do(self._begun())

    async def _hold(self) -> None:
        await seeds.three(self.server.control)
        port = int(self.server.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        transport, dns = await loop.create_datagram_endpoint(FakeDns, sock=self._dns)
        dns.records["shop.example.net.", "A"] = ["127.0.0.1"]
        with contextlib.closing(transport):
            await self._publish(port)

    async def _publish(self, port: int) -> None:
        async with gateway_scene(self.server.control, port) as self.scene:
            self._ready.set()
            await self._end.wait()

    async def _begun(self) -> None:
        waiting: asyncio.Future[Any] = asyncio.create_task(self._ready.wait())
        await asyncio.wait([waiting, asyncio.wrap_future(self._held)], return_when=asyncio.FIRST_COMPLETED)
        if self._held.done():
            waiting.cancel()
            self._held.result()

    def end(self) -> None:
        self.server.loop.call_soon_threadsafe(self._end.set)
        self._held.result(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("gateway-pages")
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("127.0.0.1", 0))
    changes = {"dns_resolvers": [f"127.0.0.1:{dns.getsockname()[1]}"], "gateway_domain": "apps.example.org"}
    with PageServer(folder, offline_after=900.0, **changes) as server:
        made = Served(server, dns)
        yield made
        made.end()


@pytest.fixture(scope="module")
def owner(served: Served) -> str:
    return served.server.sign_in("ada", Role.OWNER)


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


@pytest.fixture
def window(chromium: Browser, served: Served, owner: str) -> Iterator[Window]:
    with browser.window(chromium, served.server.url, cookie=owner) as opened:
        yield opened


@pytest.mark.parametrize(("scheme", "width"), SCREENS, ids=str)
def test_pages_fit_every_screen_and_axe_finds_nothing_serious(
    chromium: Browser, served: Served, owner: str, scheme: Scheme, width: int
) -> None:
    found: dict[str, object] = {}
    with browser.window(chromium, served.server.url, cookie=owner, scheme=scheme, size=(width, 900)) as window:
        for path in PAGES:
            page = window.open(path)
            if path == "/routes/shop":
                expect(page.locator("#way")).to_have_attribute("data-tested", "1", timeout=20_000)
            name = path.strip("/").replace("/", "-").replace("?", "-").replace("=", "-")
            window.picture(f"gateway-{name}-{scheme}-{width}", whole=True)
            if problems := [*window.problems(), *window.complaints]:
                found[path] = problems
            window.complaints.clear()
            if page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{path} is wider than the window"] = width
    assert found == {}


def test_pages_are_read_and_forms_work_without_scripts(chromium: Browser, served: Served, owner: str) -> None:
    with browser.window(chromium, served.server.url, cookie=owner, scripts=False) as window:
        for path in PAGES:
            expect(window.open(path).locator("main h1")).to_be_visible()
        page = window.open(f"/routes/new?cluster={CONNECTED}")
        page.get_by_label("Name", exact=True).fill("plain")
        page.get_by_label("Address").fill("127.0.0.1:9")
        page.get_by_role("button", name="Publish", exact=True).click()
        expect(page.get_by_role("status").first).to_contain_text("published at")
        page.get_by_role("link", name="Test now").click()
        expect(page.locator("#lamp-agent-edge-9")).to_contain_text("OK")
        expect(page.locator("#lamp-target-edge-9")).to_contain_text("Failed")
        page.get_by_role("link", name="Settings").last.click()
        page.get_by_label("Type plain to take it away").fill("plain")
        page.get_by_role("button", name="Take plain away").click()
        expect(page.get_by_role("status").first).to_contain_text("published no more")


def test_publishing_suggests_a_name_and_the_form_follows(window: Window, served: Served) -> None:
    page = window.open("/routes")
    page.get_by_role("link", name="Publish a service").click()
    page.get_by_label("Cluster", exact=True).select_option(AWAY)
    expect(page).to_have_url(f"{window.url}/routes/new?cluster={AWAY}")
    page.get_by_label("Service").select_option(label="web, port 80")
    expect(page.get_by_label("Address")).to_be_hidden()
    expect(page.get_by_label("Name", exact=True)).to_have_value("web")
    expect(page.locator("[data-suggestion]")).to_have_text(f"web-{AWAY}.apps.example.org")
    page.get_by_label("Name", exact=True).fill("front")
    expect(page.locator("[data-suggestion]")).to_have_text(f"front-{AWAY}.apps.example.org")
    page.get_by_text("Who may come in").click()
    page.get_by_label("Only these networks").fill("10.0.0.0/8")
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("front")
    expect(page.locator("#route-facts")).to_contain_text("compose/")
    expect(page.locator("main")).to_contain_text("10.0.0.0/8")
    assert window.complaints == []


def test_lights_are_tested_when_the_page_opens_and_again_when_asked(window: Window) -> None:
    page = window.open("/routes/shop")
    expect(page.locator("#lamp-target-edge-9")).to_contain_text("accepts connections")
    expect(page.locator("#lamp-agent-edge-9")).to_contain_text("OK")
    expect(page.locator("#lamp-name")).not_to_contain_text("Not tested")
    with page.expect_response(lambda answer: answer.url.endswith("/routes/shop?test=1")):
        page.get_by_role("link", name="Test now").click()
    expect(page.locator("[data-test]")).not_to_have_attribute("aria-busy", "true")
    assert window.complaints == []


def test_requests_appear_as_they_end_and_stand_still_when_paused(window: Window, served: Served) -> None:
    page = window.open("/routes/shop/requests")
    expect(page.locator("[data-note]")).to_contain_text("Live")
    rows = page.locator("#requests tbody tr")
    served.server.do(served.scene.ask("/first?token=secret"))
    expect(rows.first).to_contain_text("/first")
    assert "secret" not in page.content()
    page.get_by_role("button", name="Pause").click()
    served.server.do(served.scene.ask("/second"))
    expect(page.locator("[data-note]")).to_have_text("Paused, 1 new")
    expect(rows.first).to_contain_text("/first")
    page.get_by_role("button", name="Go on").click()
    expect(rows.first).to_contain_text("/second")
    page.get_by_label("Method, path, address or status").fill("first")
    expect(rows).to_have_count(1)
    page.get_by_label("Failed alone").check()
    expect(rows).to_have_count(0)
    assert window.complaints == []


def test_proposals_are_accepted_at_once_and_new_ones_appear_by_themselves(window: Window, served: Served) -> None:
    page = window.open("/routes")
    notice = page.locator("#proposals")
    expect(notice).to_contain_text("2 names of edge-1 wait for your yes")
    notice.get_by_role("button", name="Accept all 2").click()
    expect(page.get_by_role("status").first).to_contain_text("2 of edge-1 accepted")
    expect(page.locator("#proposals")).not_to_contain_text("wait")
    expect(page.get_by_role("link", name="edge-1.ingress.shop.grafana.0.0").first).to_be_visible()
    served.server.do(served.scene.claim("later", full=False))
    expect(page.locator("#routes")).to_contain_text("later.example.net")
    assert window.complaints == []


def test_a_record_is_copied_and_a_domain_added(window: Window) -> None:
    page = window.open("/domains")
    page.get_by_role("link", name="Add a domain").click()
    page.get_by_label("Domain", exact=True).fill("Fresh.Example.com")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#domains")).to_contain_text("_towline-challenge.fresh.example.com")
    page.get_by_role("button", name="Verify fresh.example.com now").click()
    expect(page.get_by_role("alert")).to_be_visible()
    row = page.locator("tr", has_text="_towline-challenge.fresh.example.com")
    row.get_by_role("button", name="Copy the value of the record").click()
    expect(row.get_by_role("button", name="Copied")).to_be_visible()


def test_a_viewer_is_offered_nothing_that_is_not_theirs(chromium: Browser, served: Served) -> None:
    cookie = served.server.sign_in("vera", Role.VIEWER)
    with browser.window(chromium, served.server.url, cookie=cookie) as window:
        for path in ("/routes", "/routes/shop", "/clusters/edge-1/routes", "/domains", "/certificates"):
            page = window.open(path)
            assert page.locator("main form[method=post]").count() == 0, path
            assert page.get_by_role("link", name="Settings", exact=True).locator("visible=true").count() <= 1
        expect(window.open("/routes/shop").get_by_role("link", name="Live requests")).to_have_count(0)
        page.get_by_role("link", name="Routes").first.click()
        expect(window.page.get_by_role("heading", level=1)).to_have_text("Routes")

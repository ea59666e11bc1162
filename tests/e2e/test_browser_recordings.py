"""Recorded sessions in a real browser: the list, the player with its keys, and what it asks of the server."""

import asyncio
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.support import browser, seeds
from tests.support.page_server import PageServer

from towline.control.access.actor import Actor
from towline.control.access.permissions import Role
from towline.control.clusters.models import Cluster
from towline.control.recordings.models import Recording
from towline.control.recordings.policy import Mode, Policy, Session

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOP = "\x1b[2J\x1b[H\x1b[1;32mtop - 12:00\x1b[0m  load 0.07\r\n\x1b[7m  PID USER      COMMAND \x1b[0m\r\n"


LINE = """([at, word]) => document.querySelector('.player').player.term.buffer.active.getLine(at)
  .translateToString(true).includes(word)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with PageServer(tmp_path_factory.mktemp("recordings")) as running:
        running.do(seeds.three(running.control))
        yield running


@pytest.fixture(scope="module")
def owner(server: PageServer) -> str:
    return server.sign_in("ada", Role.OWNER)


@pytest.fixture(scope="module")
def recording(server: PageServer, owner: str) -> str:
    return server.do(_record(server))


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with browser.launched(chromium_path) as started:
        yield started


async def _record(server: PageServer) -> str:
    """A session of a few seconds, recorded by the recorder itself, with its times as they are told."""
    from sqlalchemy import select

    control = server.control
    async with control.db.read() as tx:
        cluster = (await tx.scalars(select(Cluster).order_by(Cluster.name))).first()
        assert cluster is not None
    actor = Actor("user", control.default_org, "usr_x", "grace", "192.0.2.7")
    session = Session(
        "kubernetes", cluster.id, cluster.name, namespace="shop", target="web-0", container="app", argv=["sh"],
        tty=True, columns=100, rows=30,
    )  # fmt: skip
    recorder = await control.recordings.begin(session, actor, Policy(Mode.ALL))
    assert recorder is not None
    recorder.is_claimed = True
    recorder.begin(lambda why: None)
    began = recorder._began
    for at, text in (
        (0.1, "$ "),
        (0.3, "t"),
        (0.4, "op\r\n"),
        (0.5, TOP),
        (6.0, "    1 root      sh\r\n"),
        (6.5, "$ exit\r\n"),
    ):
        recorder._queue.append((at, "o", text.encode()))
        recorder.shown_bytes += len(text)
    recorder._queue.append((6.2, "m", b"120 bytes are missing: the disk was too slow"))
    recorder.exit = "0"
    recorder.end()
    recorder.seconds = 7.0
    assert began
    async with asyncio.timeout(10):
        while True:
            async with control.db.read() as tx:
                row = await tx.get(Recording, recorder.id)
                if row is not None and row.state != "running":
                    return recorder.id
            await asyncio.sleep(0.02)


def screen(page: object) -> str:
    """What the terminal shows."""
    script = """() => { const { term } = document.querySelector('.player').player, lines = [];
      for (let at = 0; at < term.rows; at++) lines.push(term.buffer.active.getLine(at)?.translateToString(true) ?? '');
      return lines.join('\\n').trim(); }"""
    return str(page.evaluate(script))  # type: ignore[attr-defined]


def test_a_session_is_found_and_played_sought_and_sped_up(
    chromium: Browser, server: PageServer, owner: str, recording: str
) -> None:
    with browser.window(chromium, server.url, cookie=owner) as window:
        page = window.open("/recordings")
        expect(page.locator("#recordings tbody tr")).to_have_count(1)
        assert window.problems() == []
        window.picture("recordings-list")
        page.get_by_label("Search", exact=True).fill("nobody")
        expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
        page.get_by_role("link", name="Show all").click()
        page.get_by_role("link", name="Session of grace in web-0").click()

        player = page.locator(".player")
        expect(player).to_have_attribute("data-state", "ready")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        assert window.problems() == []
        page.get_by_role("button", name="Play", exact=True).click()
        expect(player).to_have_attribute("data-state", "playing")
        page.keyboard.press(">")
        expect(page.get_by_role("button", name="Play again")).to_be_visible(timeout=20_000)
        assert "$ exit" in screen(page)
        assert sum("/cast?how=play" in url for url in asked) == 1
        expect(page.locator("[data-time]")).to_have_text("0:03 / 0:03")
        page.get_by_label("Shorten pauses").uncheck()
        expect(page.locator("[data-time]")).to_have_text("0:07 / 0:07")

        page.get_by_label("Place").focus()
        page.keyboard.press("Home")
        expect(page.locator("[data-time]")).to_have_text("0:00 / 0:07")
        assert screen(page) == ""
        page.keyboard.press("ArrowRight")
        expect(page.locator("[data-time]")).to_have_text("0:05 / 0:07")
        page.wait_for_function(LINE, arg=[0, "top"])
        assert "sh" not in screen(page).splitlines()[-1]
        page.get_by_role("button", name="120 bytes are missing").click()
        page.wait_for_function(LINE, arg=[2, "root"])
        assert window.problems() == []
        window.picture("recordings-player")
        assert window.complaints == []


def test_the_player_fits_a_phone_and_the_dark(
    chromium: Browser, server: PageServer, owner: str, recording: str
) -> None:
    with browser.window(chromium, server.url, cookie=owner, size=(390, 800), scheme="dark") as window:
        page = window.open(f"/recordings/{recording}")
        expect(page.locator(".player")).to_have_attribute("data-state", "ready")
        page.get_by_role("button", name="Play", exact=True).click()
        expect(page.locator(".player")).to_have_attribute("data-state", "playing")
        page.get_by_role("button", name="Pause").click()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert window.problems() == []
        window.picture("recordings-player-390")


def test_a_cluster_says_what_it_records(chromium: Browser, server: PageServer, owner: str) -> None:
    with browser.window(chromium, server.url, cookie=owner) as window:
        page = window.open("/clusters/edge-1/settings")
        section = page.locator("#recording")
        expect(section).to_contain_text("Now: none")
        section.get_by_label("Record", exact=True).select_option("interactive")
        section.get_by_label("Only in these namespaces").fill("shop, bank")
        section.get_by_label("Days that recordings are kept").fill("30")
        section.get_by_role("button", name="Save what is recorded").click()
        expect(page.locator("#recording")).to_contain_text("Now: those that take input in shop, bank, kept for 30 days")
        assert window.problems() == []
        page.locator("#recording").scroll_into_view_if_needed()
        window.picture("recordings-policy")


def test_others_play_nothing_that_is_not_theirs(chromium: Browser, server: PageServer, recording: str) -> None:
    cookie = server.sign_in("eve", Role.DEPLOYER)
    with browser.window(chromium, server.url, cookie=cookie) as window:
        page = window.open("/recordings")
        expect(page.get_by_role("heading", name="No recorded sessions")).to_be_visible()
        answer = window.page.goto(f"{server.url}/recordings/{recording}")
        assert answer is not None
        assert answer.status == 404

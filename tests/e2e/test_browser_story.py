"""The story of the first day, in a real browser, on real Docker, with `towline up` as people start it.

Set up, deploy the sample, watch it, read its logs, open a shell, break it, see it put back, roll back, join a second
host, and find all of it in the audit log. Pictures of the stations lie in tests/artifacts.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.support import browser
from tests.support.browser import Window
from tests.support.product import PASSWORD, Product
from tests.testbed import images

pytestmark = [pytest.mark.docker, pytest.mark.browser, pytest.mark.timeout(300)]

LINES = 12_000
SERVER = f"trap 'exit 0' TERM; seq {LINES}; echo the page is served; /bin/httpd -f -vv -p 80 -h /www & wait"
"""A web server with a long log that ends when it is told to: a plain one as process 1 costs ten seconds a stop."""
MOST_ROWS = 300
"""Rows that the log view may hold at once, however long the log is: three screens."""
DRAW_MS = 8
"""Half of a frame at 60 frames a second, for drawing the lines in sight."""
LIVE = 60_000
"""Milliseconds that something on the host may take until the page shows it, without a reload."""
TOKEN = re.compile(r"twj_[0-9A-Za-z]+")


@pytest.fixture
def product(tmp_path: Path, docker_engine: str) -> Iterator[Product]:
    images.make("nginx:alpine", command=["/bin/sh", "-c", SERVER], pages={"index.html": b"hello\n"})
    with Product(tmp_path) as running:
        yield running
        remove_project("hello")


def remove_project(name: str) -> None:
    label = f"label=com.docker.compose.project={name}"
    for listing, removing in ((("ps", "-aq"), ("rm", "-fv")), (("network", "ls", "-q"), ("network", "rm"))):
        if found := images.docker(*listing, "--filter", label).split():
            images.docker(*removing, *found)


def test_the_story_of_the_first_day(product: Product, chromium_path: str, tmp_path: Path) -> None:
    with (
        browser.launched(chromium_path) as chromium,
        browser.window(chromium, product.url, permissions=["clipboard-read", "clipboard-write"]) as window,
    ):
        set_up(window, product)
        deploy_the_sample(window)
        read_its_log(window)
        use_its_terminal(window)
        break_it(window)
        deploy_a_good_one_and_roll_back(window)
        join_a_second_host(window, product, tmp_path)
        find_it_all_in_the_audit_log(window)
        assert window.complaints == []


def set_up(window: Window, product: Product) -> None:
    """The link that the start printed makes the first user; its token leaves the address at once."""
    page = window.open(f"/setup#{product.setup_token}")
    expect(page.get_by_label("Setup token")).to_be_hidden()
    assert product.setup_token not in page.url
    page.get_by_label("User name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the owner and sign in").click()
    expect(page.get_by_role("heading", name="Three steps to your first deploy")).to_be_visible()
    expect(page.locator("#first-steps li.done")).to_contain_text("A host is connected", timeout=LIVE)
    window.picture("story-1-fleet")


def deploy_the_sample(window: Window) -> None:
    page = window.page
    page.get_by_role("button", name="Deploy the sample").click()
    expect(page.get_by_role("heading", name="hello", exact=True)).to_be_visible()
    stay(page)
    expect(page.locator("#job")).to_contain_text("succeeded", timeout=LIVE)
    expect(page.locator("#deployment-head .state")).to_have_text("Healthy", timeout=LIVE)
    expect(page.locator("#service-web")).to_contain_text("->80/tcp", timeout=LIVE)
    expect(page.locator("#job li").first).to_be_visible()
    assert stayed(page), "the page was loaded anew: live parts change in place"
    window.picture("story-2-deployed")


def read_its_log(window: Window) -> None:
    page = window.page
    page.get_by_role("link", name="Logs", exact=True).click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("the page is served", timeout=LIVE)
    before = int(page.locator(".logs").get_attribute("data-lines") or 0)
    page.wait_for_function(f"() => Number(document.querySelector('.logs').dataset.lines) > {before}", timeout=LIVE)
    page.get_by_label("Search in the log").fill("served")
    expect(log.locator("mark").first).to_have_text("served")
    window.picture("story-3-log")
    scroll_a_long_log(page)


def scroll_a_long_log(page: Page) -> None:
    """Ten thousand lines and more scroll smoothly, and the log stays where the reader went while it grows."""
    page.get_by_label("Since").select_option("1h")
    page.wait_for_function(f"() => Number(document.querySelector('.logs').dataset.lines) > {LINES}", timeout=LIVE)
    assert page.locator(".logs .line").count() < MOST_ROWS
    view = page.get_by_role("log")
    view.evaluate("view => { view.scrollTop = 100_000; }")
    expect(page.get_by_role("button", name="Follow")).to_be_visible()
    lines = int(page.locator(".logs").get_attribute("data-lines") or 0)
    page.wait_for_function(f"() => Number(document.querySelector('.logs').dataset.lines) > {lines}", timeout=LIVE)
    assert view.evaluate("view => view.scrollTop") == 100_000
    assert page.evaluate(DRAWING) < DRAW_MS
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_role("button", name="Follow")).to_be_hidden()


DRAWING = """() => {
  const { log } = document.querySelector('.logs');
  const times = [];
  for (let n = 0; n < 60; n++) {
    log.view.scrollTop = n * 3000;
    const began = performance.now();
    log.draw();
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[30];
}"""
"""Median milliseconds of drawing one place of the log."""


def use_its_terminal(window: Window) -> None:
    page = window.page
    page.get_by_role("link", name="Terminal", exact=True).click()
    expect(page.locator(".console[data-state=open]")).to_be_visible(timeout=LIVE)
    page.keyboard.type("echo $((40 + 2))-times\n")
    page.wait_for_function(f"() => ({SCREEN}).includes('42-times')", timeout=LIVE)
    window.picture("story-4-terminal")
    before = page.evaluate(SIZE)
    page.set_viewport_size({"width": 1024, "height": 700})
    page.wait_for_function(f"() => ({SIZE})() !== '{before}'", timeout=LIVE)
    page.keyboard.type("stty size\n")
    page.wait_for_function(f"() => ({SCREEN}).includes('{page.evaluate(SIZE)}')", timeout=LIVE)
    page.set_viewport_size({"width": browser.WIDE[0], "height": browser.WIDE[1]})
    page.keyboard.type("exit 3\n")
    expect(page.locator("#terminal-note")).to_contain_text("exit code 3", timeout=LIVE)
    page.get_by_role("button", name="Connect again").click()
    expect(page.locator(".console[data-state=open]")).to_be_visible(timeout=LIVE)


SIZE = "() => { const { term } = document.querySelector('.console').view; return `${term.rows} ${term.cols}`; }"
SCREEN = (
    "(() => { const buffer = document.querySelector('.console').view.term.buffer.active; let text = '';"
    " for (let n = 0; n < buffer.length; n++) text += buffer.getLine(n).translateToString(true) + '\\n';"
    " return text; })()"
)


def break_it(window: Window) -> None:
    """A revision that never gets healthy is put back by itself; the page says what failed, with its last lines."""
    page = window.page
    edit(page, lambda text: text.replace("127.0.0.1/", "127.0.0.1:9/").replace("retries: 15", "retries: 2"), "break it")
    stay(page)
    expect(page.locator("#job h2")).to_have_text("Deploy revision 2 of hello", timeout=LIVE)
    expect(page.locator("#failure")).to_contain_text("Revision 1 was put back and runs", timeout=LIVE)
    expect(page.locator("#failure")).to_contain_text("web")
    expect(page.locator("#failure pre")).to_contain_text("the page is served")
    expect(page.locator("#deployment-head")).to_contain_text("Revision 1 runs", timeout=LIVE)
    expect(page.locator("#service-web .state")).to_have_text("Healthy", timeout=LIVE)
    assert stayed(page), "the page was loaded anew: live parts change in place"
    window.picture("story-5-put-back")


def deploy_a_good_one_and_roll_back(window: Window) -> None:
    page = window.page
    edit(page, lambda _: GOOD, "say hello louder")
    expect(page.locator("#job")).to_contain_text("succeeded", timeout=LIVE)
    expect(page.locator("#deployment-head")).to_contain_text("Revision 3 runs", timeout=LIVE)
    page.get_by_role("button", name="Put revision 1 back").click()
    expect(page.locator("#deployment-head")).to_contain_text("Revision 1 runs", timeout=LIVE)
    expect(page.locator("#deployment-head .state")).to_have_text("Healthy", timeout=LIVE)
    page.get_by_role("link", name="Revisions", exact=True).click()
    expect(page.locator("#revision-1")).to_contain_text("runs")
    expect(page.locator("#revision-2")).to_contain_text("failed")


GOOD = """\
services:
  web:
    image: nginx:alpine
    environment:
      GREETING: hello
    ports:
      - "80"
    healthcheck:
      test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"]
      interval: 1s
"""


def edit(page: Page, change: object, why: str) -> None:
    """Change the Compose file in the editor and deploy it."""
    page.get_by_role("link", name="Edit and deploy").click()
    field = page.get_by_label("Compose file")
    field.fill(change(field.input_value()))  # type: ignore[operator]
    expect(page.locator("#problems")).to_contain_text("well formed")
    page.get_by_label("Why").fill(why)
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator("#job")).to_be_visible()


def join_a_second_host(window: Window, product: Product, folder: Path) -> None:
    """The page that shows the command waits, and shows the host when it is there."""
    page = window.open("/fleet/join")
    page.get_by_label("Name").fill("second")
    page.get_by_label("Labels").fill("env=prod")
    page.get_by_role("button", name="Make the join command").click()
    page.get_by_role("button", name="Copy the join command").click()
    command = page.evaluate("() => navigator.clipboard.readText()")
    found = TOKEN.search(command)
    assert found and command == page.locator("#join-command").inner_text().strip()
    expect(page.locator("#arrival")).to_contain_text("Waiting for the host")
    stay(page)
    environment = product.environment | {"TOWLINE_AGENT_STATE_FOLDER": str(folder / "second")}
    towline = [sys.executable, "-m", "towline.cli.main", "agent"]
    url = product.url.replace("http:", "https:")
    fingerprint = re.search(r"sha256:[0-9a-f]{64}", page_of_settings(window))
    assert fingerprint
    join = [*towline, "join", "--server", url, "--fingerprint", fingerprint[0], "--token-file", "-"]
    subprocess.run(join, input=found[0], text=True, env=environment, check=True, timeout=60)
    agent = subprocess.Popen([*towline, "run"], env=environment, start_new_session=True)
    try:
        expect(page.locator("#arrival")).to_contain_text("second has joined", timeout=LIVE)
        expect(page.locator("#arrival .state")).to_have_text("Healthy", timeout=LIVE)
        assert stayed(page), "the page was loaded anew: live parts change in place"
        window.picture("story-6-joined")
    finally:
        agent.terminate()
        agent.wait(30)


def page_of_settings(window: Window) -> str:
    """What the settings page says, read beside the page that waits."""
    return window.context.request.get(f"{window.url}/settings").text()


def find_it_all_in_the_audit_log(window: Window) -> None:
    page = window.open("/audit?actor=ada")
    rows = page.locator("#audit tbody")
    for action in ("deployment.deploy", "deployment.rollback", "exec.open", "join_token.create"):
        expect(rows.locator("tr", has_text=action).first).to_contain_text("ada")
    page.get_by_label("Action").fill("deployment.")
    expect(rows).not_to_contain_text("exec.open")
    assert "action=deployment." in page.url
    window.picture("story-7-audit")


def stay(page: Page) -> None:
    page.evaluate("() => { window.stayed = true; }")


def stayed(page: Page) -> bool:
    return bool(page.evaluate("() => window.stayed === true"))

"""Debian's Chromium for tests of pages: signed-in pages that note what the console says, axe, and screenshots."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from tests.support.product import PASSWORD
from tests.testbed import chromium

ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
SERIOUS = {"serious", "critical"}
Scheme = Literal["light", "dark"]
WIDE = (1440, 900)


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """The browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium.arguments())
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """One browser window of one user, and everything that its console complained about."""

    context: BrowserContext
    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.url + path)
        assert answer is not None and answer.status < 400, f"{path} answered {answer and answer.status}"
        return self.page

    def sign_in(self, name: str) -> Page:
        """Sign in by the form, as a user with the password of all tests."""
        page = self.open("/signin")
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/fleet")
        return page

    def problems(self) -> list[str]:
        """Serious findings of axe on the page that is open."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]

    def picture(self, name: str, *, whole: bool = False) -> Path:
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path


@contextmanager
def window(
    browser: Browser, url: str, *, cookie: str = "", scheme: Scheme = "light", size: tuple[int, int] = WIDE,
    scripts: bool = True, **more: Any,
) -> Iterator[Window]:  # fmt: skip
    """A window of its own, with nobody else's cookies."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, java_script_enabled=scripts,
        reduced_motion="reduce", **more,
    )  # fmt: skip
    context.set_default_timeout(10_000)
    if cookie:
        context.add_cookies([{"name": "towline", "value": cookie, "url": url}])
    made = Window(context, context.new_page(), url)
    made.page.on("console", lambda message: _note(made, message))
    made.page.on("pageerror", lambda error: made.complaints.append(f"uncaught: {error}"))
    try:
        yield made
    finally:
        context.close()


# What the browser and the terminal's own library say of a machine that is slow.
_OF_THE_MACHINE = ("GL Driver Message", "task queue exceeded allotted deadline")


def _note(noted: Window, message: ConsoleMessage) -> None:
    if message.type in {"error", "warning"} and not any(words in message.text for words in _OF_THE_MACHINE):
        noted.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

"""Debian's Chromium for the page tests: its path and the arguments it needs; Playwright starts it."""

import shutil

from tests.testbed import processes
from tests.testbed.requirement import Missing

PART = "browser"
COMMANDS = ("chromium", "chromium-browser", "google-chrome")


def ensure() -> str:
    """Path of the browser. Raises: Missing."""
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    raise Missing(PART, "there is no Chromium", "apt-get install chromium")


def arguments() -> list[str]:
    """Arguments for a start on a machine without a display; root has no sandbox in Chromium."""
    words = ["--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"]
    return ["--no-sandbox", *words] if processes.is_root() else words

"""Debian's Chromium for the page tests: its path and the arguments it needs; Playwright starts it."""

import shutil
import subprocess
from pathlib import Path

import playwright

from tests.testbed import processes
from tests.testbed.requirement import Missing

PART = "browser"
COMMANDS = ("chromium", "chromium-browser", "google-chrome")


def ensure() -> str:
    """Path of the browser. Raises: Missing."""
    _look_at_driver()
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    raise Missing(PART, "there is no Chromium", "apt-get install chromium")


def _look_at_driver() -> None:
    """See whether the program that drives the browser starts. Raises: Missing."""
    program = Path(playwright.__file__).parent / "driver" / "node"
    tried = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Missing(PART, f"Playwright's driver does not start: {tried.stderr.strip()}", "apt-get install libatomic1")


def arguments() -> list[str]:
    """Arguments for a start on a machine without a display; root has no sandbox in Chromium."""
    words = ["--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb"]
    return ["--no-sandbox", *words] if processes.is_root() else words

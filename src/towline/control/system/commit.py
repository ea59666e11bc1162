"""Which commit this is: written into the package when it is built, or read from the source tree."""

import os
from functools import cache
from pathlib import Path

BUILT = Path(__file__).resolve().parents[2] / "COMMIT"
SHORT = 12


@cache
def commit() -> str:
    """Return the first twelve digits of the commit; empty when nobody knows."""
    for source in (os.environ.get("TOWLINE_COMMIT", ""), _built(), _from_tree(Path(__file__).resolve().parents[4])):
        if source:
            return source[:SHORT]
    return ""


def _built() -> str:
    return BUILT.read_text().strip() if BUILT.is_file() else ""


def _from_tree(root: Path) -> str:
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = root / ".git" / name
        if loose.is_file():
            return loose.read_text().strip()
        packed = (root / ".git" / "packed-refs").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")

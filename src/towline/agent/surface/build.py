"""Which release this is: version, commit, when it was built, and what it runs on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import towline

PACKAGE = Path(towline.__file__).resolve().parent
COMMIT_FILE = PACKAGE / "COMMIT"
"""Written into the package when it is built; its time is that of the build."""
SHORT = 12


@cache
def release() -> dict[str, Any]:
    """Return what `GET /version` answers, without the moment. Empty words are what nobody knows.

    `go_version` is there for programs that were written for the PipeOps agent, and always empty.
    """
    found = commit()
    return {
        "version": towline.__version__,
        "git_commit": found,
        "build_date": _built_at(),
        "python_version": platform.python_version(),
        "go_version": "",
        "full_version": f"{towline.__version__}+{found}" if found else towline.__version__,
    }


def commit() -> str:
    """Return the first digits of the commit; empty when this is no built release."""
    named = os.environ.get("TOWLINE_COMMIT", "")
    if not named and COMMIT_FILE.is_file():
        named = COMMIT_FILE.read_text().strip()
    return named[:SHORT]


def _built_at() -> str:
    if not COMMIT_FILE.is_file():
        return ""
    return datetime.fromtimestamp(COMMIT_FILE.stat().st_mtime, UTC).isoformat(timespec="seconds")

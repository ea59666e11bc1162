"""Where the test bed keeps things on disk: compiled programs by content, and the state of what it started."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
PROJECT = SOURCE.parent.parent

# Long enough that two contents never meet, short enough to read in a listing.
DIGEST_CHARACTERS = 16


def home() -> Path:
    """Folder of everything the test bed keeps between runs; `TOWLINE_TESTBED_HOME` moves it."""
    chosen = os.environ.get("TOWLINE_TESTBED_HOME")
    return Path(chosen) if chosen else Path.home() / ".cache" / "towline-testbed"


def built(name: str, digest: str) -> Path:
    """Folder of one built thing; a new content gets a new folder, so an old build is never mistaken for it."""
    return home() / f"{name}-{digest}"


def state(part: str) -> Path:
    """Folder of a part that runs: its pid file, its log, its data. Made on first use, private to its owner."""
    folder = home() / "run" / part
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def digest(files: Iterable[Path], *words: str) -> str:
    """Name a content: the files' bytes and any words that change what is built from them."""
    total = hashlib.sha256()
    for chunk in [*(file.read_bytes() for file in files), *(word.encode() for word in words)]:
        total.update(len(chunk).to_bytes(8, "big") + chunk)
    return total.hexdigest()[:DIGEST_CHARACTERS]

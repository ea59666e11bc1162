"""Paths as texts: joining, normalising and comparing without touching a file system.

Host paths are POSIX paths. Symlinks cannot be seen here: the agent resolves them and hands the result to `policy`.
"""

import posixpath
from collections.abc import Iterable

# The longest path that Linux accepts.
MAX_PATH_BYTES = 4096


def resolve(folder: str, path: str) -> str:
    """Give a path from a Compose file as an absolute one; `~` is kept, as only the host knows its home."""
    if path.startswith("~"):
        return path
    joined = posixpath.normpath(posixpath.join(folder, path))
    # POSIX keeps two leading slashes apart; Linux does not.
    return "/" + joined.lstrip("/") if joined.startswith("/") else joined


def is_within(path: str, folder: str) -> bool:
    """Tell whether a normal absolute path is a folder or lies in it."""
    if not path.startswith("/"):
        return False
    return folder == "/" or path == folder or path.startswith(folder.rstrip("/") + "/")


def is_within_any(path: str, folders: Iterable[str]) -> bool:
    return any(is_within(path, folder) for folder in folders)


def relative(path: str, folder: str) -> str:
    """A path in `folder` as seen from it; "." for the folder itself."""
    return posixpath.relpath(path, folder)


def is_remote(text: str) -> bool:
    """Tell whether a context or include is fetched from elsewhere: a URL, an OCI artefact, a git address."""
    lowered = text.strip().lower()
    scheme = lowered.partition("://")[0]
    has_scheme = "://" in lowered and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum()
    is_ssh_address = "@" in lowered.split("/", 1)[0] and ":" in lowered
    return has_scheme or is_ssh_address or lowered.startswith(("github.com/", "gitlab.com/", "oci:", "git:"))

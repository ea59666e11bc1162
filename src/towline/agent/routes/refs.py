"""Names of claims, and the shape of their hosts and paths, the same for every source. Pure.

A ref holds host and path of what it names, so that a yes to one of them is never a yes to another.
"""

from __future__ import annotations

import hashlib
import re

MOST_PATH_CHARACTERS = 200
"""Of a path in a ref; a longer one is named by its beginning and a hash, so that a ref fits into a column."""
_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def ref(source: str, namespace: str, name: str, host: str, path_type: str, path: str) -> str:
    """Return the ref of one host and path of an object."""
    if len(path) > MOST_PATH_CHARACTERS:
        path = f"{path[:MOST_PATH_CHARACTERS]}~{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    return f"{source}/{namespace}/{name}/{host or '*'}/{path_type}{path}"


def clean_host(host: str) -> str:
    """Return a host in lower case without a root dot; empty for `*`, which names none."""
    host = host.strip().lower().removesuffix(".")
    return "" if host == "*" else host


def is_host(host: str) -> bool:
    """Tell whether a cleaned host can be a name, exact or with one `*.` before it."""
    return len(host) <= 253 and _HOST.fullmatch(host) is not None

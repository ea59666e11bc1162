"""Strict rules for the paths of our own API, and the addresses that belong to no one. Pure functions on raw paths.

Paths of published targets are never looked at: their bytes pass as they are.
"""

import re
from urllib.parse import unquote_to_bytes

LINK_PATH = b"/api/v1/agents/link"

_TRICKS = re.compile(
    rb"%(?:2[ef5]|5c|3b|7f|[01][0-9a-f])"  # dot, slash, percent, backslash, semicolon, control characters
    rb"|%(?![0-9a-f]{2})"
    rb"|//|[;\\]"
    rb"|/\.{1,2}(?:/|\Z)",
    re.IGNORECASE,
)

_KUBERNETES_CORE = frozenset(
    b"bindings componentstatuses configmaps endpoints limitranges namespaces nodes persistentvolumeclaims "
    b"persistentvolumes pods podtemplates proxy replicationcontrollers resourcequotas secrets serviceaccounts "
    b"services watch".split()
)
"""First segments behind /api/v1 that only a Kubernetes client asks for (`events` is also one of ours)."""

_STRAY_ROOTS = frozenset({b"api", b"apis", b"version", b"openapi"})

MISSING_PREFIX = (
    "the path has no cluster prefix; put it into the server address, as in https://HOST/k8s/clusters/NAME "
    "(kubectl before 1.34 drops it from --raw, and kubectl proxy needs --append-server-path)"
)


def api_path_problem(path: bytes) -> str | None:
    """Return why a path may not reach the API, or None when it is plain.

    Two readers of one path must never disagree, so everything that some reader normalises is refused.
    """
    if _TRICKS.search(path) is not None:
        return "the path holds an encoded, doubled or relative segment"
    if b"%" in path:
        try:
            unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            return "the path is not UTF-8"
    return None


def is_stray_kubernetes(path: bytes) -> bool:
    """True for a path that a Kubernetes client asks for when the cluster's prefix is missing from its server."""
    segments = [segment for segment in path.split(b"/", 4) if segment]
    if not segments or segments[0] not in _STRAY_ROOTS:
        return False
    if segments[0] != b"api" or segments[1:2] != [b"v1"] or len(segments) == 2:
        return True
    return segments[2] in _KUBERNETES_CORE

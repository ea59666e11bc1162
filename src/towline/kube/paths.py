"""Which paths of a Kubernetes request are accepted: the cluster's prefix, and one reading that nobody can dispute.

The API server routes and authorises on the percent-decoded path, so a rule that looks at the raw one is bypassed by an
encoded slash. Here everything is refused that some reader would normalise; what is left is decoded exactly once. What
a path means is in `access`. Source: kubernetes.md 4.1, items 2 and 3.
"""

import re
from urllib.parse import unquote_to_bytes

from towline.kube.errors import BadPath as BadPath

PREFIX = b"/k8s/clusters/"

MAX_CLUSTER_NAME_BYTES = 63
"""A cluster's name is one DNS label, so that it can be a host name too (RFC 1123 section 2.1)."""

_PREFIXED = re.compile(rb"/k8s/clusters/([a-z0-9](?:[-a-z0-9]{0,%d}[a-z0-9])?)(?=/|\Z)" % (MAX_CLUSTER_NAME_BYTES - 2))
_UNUSUAL = re.compile(rb"[^!\"$&-\[\]-~]")  # control characters, blank, #, %, backslash, and all that is not ASCII
_PROXY_HEAD = re.compile(rb"/api/[^/]+/(?:namespaces/[^/]+/)?(?:pods|services|nodes)/[^/]+/proxy/")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(rb"/\.{1,2}(?:/|\Z)")
_CONTROL = re.compile(rb"[\x00-\x20\x7f#]|%(?:[01][0-9A-Fa-f]|7[fF])")
_BACKSLASH = re.compile(rb"\\|%5[cC]")


def split_prefix(raw_path: bytes) -> tuple[str, bytes] | None:
    """Return (cluster name, the path behind the prefix, at least `/`), or None when there is no such prefix.

    The path is the raw target before its `?`; nothing but the prefix is taken off, nothing is decoded.
    """
    match = _PREFIXED.match(raw_path)
    if match is None:
        return None
    return match[1].decode("ascii"), raw_path[match.end() :] or b"/"


def check_path(path: bytes) -> bytes:
    """Return the once-decoded path of a request, for `access.derive`; what is forwarded are the raw bytes.

    Behind `/proxy/` of pods, services and nodes of the core API the path belongs to a workload: encoded slashes, dots
    and percent signs pass there, because access is decided by what stands before.
    Raises: BadPath.
    """
    if _UNUSUAL.search(path) is None and b"//" not in path and b"/." not in path and path[:1] == b"/":
        return path
    return _decode_unusual(path)


def _decode_unusual(path: bytes) -> bytes:
    if path[:1] != b"/":
        raise BadPath("not_a_path", "the request target must be a path")
    match = _PROXY_HEAD.match(path)
    end = match.end() if match is not None else len(path)
    _refuse_tricks(path)
    _refuse_separators(path[:end])
    decoded = unquote_to_bytes(path)
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("not_utf8", "the path is not UTF-8") from None
    return decoded


def _refuse_tricks(path: bytes) -> None:
    """Refuse what has no place anywhere, not even in the path of a workload."""
    if _BROKEN_ESCAPE.search(path) is not None:
        raise BadPath("bad_escape", "the path holds a malformed percent sequence")
    if _CONTROL.search(path) is not None:
        raise BadPath("control_character", "the path holds a control character, a blank or a fragment")
    if _BACKSLASH.search(path) is not None:
        raise BadPath("backslash", "the path holds a backslash")
    if b"//" in path:
        raise BadPath("empty_segment", "the path holds an empty segment")
    if _DOT_SEGMENT.search(path) is not None:
        raise BadPath("dot_segment", "the path holds a relative segment")


def _refuse_separators(path: bytes) -> None:
    """Refuse escapes that turn into something else than a plain character of a name."""
    lowered = path.lower()
    if b"%2f" in lowered:
        raise BadPath("encoded_slash", "the path holds an encoded slash")
    if b"%25" in path:
        raise BadPath("double_encoding", "the path is encoded twice")
    if b"%2e" in lowered and _DOT_SEGMENT.search(lowered.replace(b"%2e", b".")) is not None:
        raise BadPath("dot_segment", "the path holds an encoded relative segment")

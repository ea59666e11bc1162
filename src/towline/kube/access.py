"""What a request asks for: the tuple that roles are held against, by the API server's own algorithm.

Pure functions on the once-decoded path that `paths.check_path` returns. Who may do it is in `rules`.
Source: kubernetes.md section 5; the server's steps are those of Kubernetes 1.36.
"""

import re
from urllib.parse import unquote_to_bytes

import msgspec

from towline.kube.errors import BadPath as BadPath
from towline.kube.errors import BadRequest as BadRequest

EXEC_FAMILY = frozenset({"exec", "attach", "portforward"})
"""Subresources that open a shell or a connection: always `create`, because a WebSocket asks for them by GET."""

_VERBS = {b"POST": "create", b"GET": "get", b"HEAD": "get", b"PUT": "update", b"PATCH": "patch", b"DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_FALSE = (b"false", b"0")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TERMS = re.compile(r"(?:[^\\,]|\\.|\\\Z)+", re.DOTALL)  # split at commas that are not escaped
_TERM = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\([\\,=])")


class AccessTuple(msgspec.Struct, frozen=True, gc=False):
    """One request as roles, audit and the API server see it.

    `path` is the whole decoded path; for a request that is not about a resource it is all there is beside the verb,
    which then is the method in lower case.
    """

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = "/"
    is_resource: bool = True

    @property
    def kind(self) -> str:
        """Resource and subresource as RBAC writes them, e.g. `pods/log`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @property
    def is_exec_family(self) -> bool:
        """True for exec, attach and port-forward."""
        return self.subresource in EXEC_FAMILY

    @property
    def is_proxy(self) -> bool:
        """True when the answer comes from a workload or a kubelet and not from the API server."""
        return self.subresource == "proxy"

    @property
    def is_upgrade_verb(self) -> bool:
        """True when a request like this may become a byte pipe; see `heads.upgrade_wanted`."""
        return self.subresource in EXEC_FAMILY or self.subresource == "proxy"


def derive(method: bytes, path: bytes, query: bytes) -> AccessTuple:
    """Return the access tuple of a request.

    Args: path: once decoded, from `check_path`. query: raw, without its `?`.
    Raises: BadPath: not UTF-8. BadRequest: the old `proxy` form, a method without a verb, or a watch of nothing.
    """
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPath("not_utf8", "the path is not UTF-8") from None
    parts = text.strip("/").split("/")
    first = parts[0]
    if len(parts) < 3 or not (first == "api" or (first == "apis" and len(parts) > 3)):
        return AccessTuple(_lower(method), path=text, is_resource=False)
    at = 2 if first == "api" else 3
    group = "" if first == "api" else parts[1]
    verb, rest = _verb(method, parts[at:])
    namespace, rest = _namespace(rest)
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if not name:
        verb, name = _without_name(verb, query)
    if subresource in EXEC_FAMILY:
        verb = "create"
    return AccessTuple(verb, group, parts[at - 1], rest[0], subresource, namespace, name, text)


def _lower(method: bytes) -> str:
    return method.decode("ascii", "replace").lower()


def _verb(method: bytes, parts: list[str]) -> tuple[str, list[str]]:
    if parts[0] == "proxy":
        raise BadRequest("old_proxy", "the old form of proxy requests is not served")
    if parts[0] == "watch":
        if len(parts) == 1:
            raise BadRequest("watch_of_nothing", "the path names nothing to watch")
        if method not in (b"GET", b"HEAD"):
            raise BadRequest("bad_method", "the old form of watches is read by GET")
        return "watch", parts[1:]
    verb = _VERBS.get(method)
    if verb is None:
        raise BadRequest("bad_method", "this method means nothing to the Kubernetes API")
    return verb, parts


def _namespace(parts: list[str]) -> tuple[str, list[str]]:
    if parts[0] != "namespaces" or len(parts) == 1:
        return "", parts
    if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        return parts[1], parts[2:]
    return parts[1], parts


def _without_name(verb: str, query: bytes) -> tuple[str, str]:
    if verb == "delete":
        return "deletecollection", ""
    if verb != "get":
        return verb, ""
    if not query or (b"watch" not in query and b"fieldSelector" not in query and b"%" not in query):
        return "list", ""
    watch = first_value(query, b"watch")
    selector = first_value(query, b"fieldSelector")
    is_watch = watch is not None and watch.lower() not in _FALSE
    return "watch" if is_watch else "list", _selected_name(selector) if selector else ""


def first_value(query: bytes, key: bytes) -> bytes | None:
    """Return the first value of a query parameter as Go reads it, or None.

    A pair that holds `;` or a malformed escape is ignored, as the API server ignores it.
    """
    for pair in query.split(b"&"):
        if b";" in pair or (b"%" in pair and _BROKEN_ESCAPE.search(pair) is not None):
            continue
        name, _, value = pair.partition(b"=")
        if name == key or (b"%" in name and _unescaped(name) == key):
            return _unescaped(value)
    return None


def _unescaped(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text


def _selected_name(selector: bytes) -> str:
    """Return X of a field selector that demands `metadata.name=X`, or nothing when it is malformed."""
    found: str | None = None
    for term in _TERMS.findall(selector.decode("utf-8", "replace")):
        match = _TERM.fullmatch(term)
        if match is None or (value := _unescape(match[3])) is None:
            return ""
        if found is None and match[1] == "metadata.name" and match[2] != "!=":
            found = value
    if found is None or found in (".", "..") or "/" in found or "%" in found:
        return ""
    return found


def _unescape(value: str) -> str | None:
    if "\\" not in value and "=" not in value:
        return value
    plain = _ESCAPED.sub("", value)
    if "\\" in plain or "=" in plain or "," in plain:
        return None
    return _ESCAPED.sub(r"\1", value)

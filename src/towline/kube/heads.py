"""Which fields of a Kubernetes request and answer travel on, and which ones only we may add.

Removal first, identity last: nothing that a client sends, its Connection field included, can stand in for or take away
what we say (Rancher CVE-2021-31999). Everybody names Host and framing for his own hop, so Host, Content-Length,
Transfer-Encoding, Expect, Connection and Upgrade never come out of here unless the caller put them in.
Pure functions on lists of fields, in which repeated lines stay repeated. Source: kubernetes.md 4.1, items 5 to 13.
"""

import functools
import re
from collections.abc import Iterable, Sequence

from towline.kube.access import EXEC_FAMILY, AccessTuple
from towline.kube.errors import BadAnswer as BadAnswer
from towline.kube.identity import Identity, impersonation

Fields = Sequence[tuple[bytes, bytes, bytes]]
"""(lower-case name, name as sent, value without surrounding blanks)"""
Line = tuple[bytes, bytes]
"""(name, value)"""

NAMES_CACHE_SIZE = 1024  # field names seen lately; bounded so that random names cost no memory

_IMPERSONATION = b"impersonate-"
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"host",
        b"expect",
        b"http2-settings",
    }
)
"""Of one hop only: connection, framing, and what a client waits for (RFC 9110 section 7.6.1)."""
_NOT_IN_REQUESTS = _HOP | frozenset(
    {
        b"authorization",
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"origin",
        b"via",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-real-ip",
        b"x-request-id",
        b"x-rewrite-url",
    }
)
_NOT_IN_REQUESTS_PREFIXES = (_IMPERSONATION, b"x-remote-", b"x-forwarded-", b"x-original-", b"x-towline-", b"proxy-")
_NOT_IN_ANSWERS = _HOP | frozenset(
    {
        b"alt-svc",
        b"clear-site-data",
        b"public-key-pins",
        b"refresh",
        b"service-worker-allowed",
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"www-authenticate",
    }
)
"""What a workload or an API server could do to our whole origin, beside the fields of one hop."""
_NOT_IN_ANSWERS_PREFIXES = (b"access-control-", b"proxy-", b"x-towline-")

_NOTHING: frozenset[bytes] = frozenset()
_UPGRADES = {b"websocket": frozenset({b"GET"}), b"spdy/3.1": frozenset({b"GET", b"POST"})}
_SANDBOX: list[Line] = [(b"Content-Security-Policy", b"sandbox"), (b"X-Content-Type-Options", b"nosniff")]
_PAGE = re.compile(rb"\s*(?:text/html|image/svg|text/xml|application/(?:xhtml\+)?xml)", re.IGNORECASE)
_NOT_IN_LOCATION = re.compile(rb"[^!-\[\]-~]")  # blanks, control characters, backslash, non-ASCII
_UPWARDS = re.compile(rb"(?:\A|/)(?:\.|%2e){1,2}(?:/|%2f|%5c|\Z)", re.IGNORECASE)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_WEB_SCHEME = re.compile(rb"https?://[^/]", re.IGNORECASE)


def claims_impersonation(fields: Fields) -> bool:
    """True when a client sent Impersonate-* in any spelling: answered with 403, never passed on, never dropped."""
    return any(name.replace(b"_", b"-").startswith(_IMPERSONATION) for name, _, _ in fields)


@functools.lru_cache(maxsize=NAMES_CACHE_SIZE)
def _leaves_request(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    return plain in _NOT_IN_REQUESTS or plain.startswith(_NOT_IN_REQUESTS_PREFIXES)


@functools.lru_cache(maxsize=NAMES_CACHE_SIZE)
def _leaves_answer(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    return plain in _NOT_IN_ANSWERS or plain.startswith(_NOT_IN_ANSWERS_PREFIXES)


@functools.lru_cache(maxsize=64)
def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(part.strip(b" \t").lower().replace(b"_", b"-") for part in value.split(b","))


def _named(fields: Fields) -> frozenset[bytes]:
    """Return what all Connection lines name."""
    values = [value for name, _, value in fields if name == b"connection"]
    if not values:
        return _NOTHING
    return _tokens(values[0]) if len(values) == 1 else _tokens(b",".join(values))


def towards_agent(fields: Fields) -> list[Line]:
    """Return the fields of a client's request that travel through the tunnel, as sent and in their order.

    The caller adds X-Request-Id, his framing, and Connection with Upgrade when `upgrade_wanted`.
    """
    named = _named(fields)
    return [
        (sent, value)
        for name, sent, value in fields
        if not _leaves_request(name) and not (named and name.replace(b"_", b"-") in named)
    ]


def upgrade_lines(upgrade: bytes | None) -> list[Line]:
    """Return our own Connection and Upgrade fields, or none."""
    return [] if upgrade is None else [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]


def towards_api(
    fields: Fields,
    *,
    authorization: bytes,
    host: bytes,
    identity: Identity,
    request_id: str,
    own: Iterable[Line] = (),
) -> list[Line]:
    """Return all fields of the request that an agent sends to its API server; append nothing to it.

    Args: authorization: the whole value, with its scheme. own: framing and upgrade lines of this hop.
    Raises: BadIdentity.
    """
    lines = towards_api_direct(fields, authorization=authorization, host=host, own=own)
    lines += impersonation(identity, request_id)
    return lines


def towards_api_direct(fields: Fields, *, authorization: bytes, host: bytes, own: Iterable[Line] = ()) -> list[Line]:
    """Return the fields of a request that the agent makes with its own rights: an explicit choice, never a default."""
    return [(b"Host", host), *towards_agent(fields), *own, (b"Authorization", authorization)]


def upgrade_wanted(access: AccessTuple, method: bytes, upgrade: bytes | None) -> bool:
    """True when an Upgrade field is passed on; every other one is dropped and the request stays an ordinary one.

    Only a 101 makes a byte pipe of it. WebSockets begin with GET (RFC 6455 section 4.1), SPDY with POST or GET.
    """
    if upgrade is None or not access.is_resource:
        return False
    if access.subresource not in EXEC_FAMILY and access.subresource != "proxy":
        return False
    return method in _UPGRADES.get(upgrade.lower(), ())


def answer(fields: Fields, *, prefix: bytes, access: AccessTuple) -> list[Line]:
    """Return the fields of an API server's answer that reach the client; framing is the caller's.

    Args: prefix: `/k8s/clusters/NAME`, or empty on a host of its own. A location on the API server itself has lost its
    origin on the agent's side (`without_origin`): nobody else knows what the API server is called there.
    Raises: BadAnswer: it redirects to somewhere else; the client gets 502.
    """
    named = _named(fields)
    lines: list[Line] = []
    is_page, has_location = access.subresource == "proxy", False
    for name, sent, value in fields:
        if _leaves_answer(name) or (named and name.replace(b"_", b"-") in named):
            continue
        if name == b"location":
            if has_location:
                raise BadAnswer("the answer holds two locations")
            has_location = True
            value = _location(value, prefix, access)
        elif name == b"content-type" and not is_page:
            is_page = _PAGE.match(value) is not None
        lines.append((sent, value))
    return [line for line in lines if line[0].lower() != b"x-content-type-options"] + _SANDBOX if is_page else lines


def switched(fields: Fields) -> list[Line]:
    """Return the fields of a 101: as they came, but no cookie of a workload."""
    return [(sent, value) for name, sent, value in fields if name not in (b"set-cookie", b"set-cookie2")]


def without_origin(value: bytes, origins: Iterable[bytes]) -> bytes:
    """Return a location on the API server as a path; any other one as it is.

    Args: origins: how the agent names its API server, such as `https://10.96.0.1:443` and `https://10.96.0.1`.
    """
    for origin in origins:
        rest = value[len(origin) :]
        if value[: len(origin)].lower() != origin.lower() or rest[:2] == b"//":
            continue
        if not rest or rest[:1] in b"/?#":
            return rest if rest[:1] == b"/" else b"/" + rest
    return value


def _location(value: bytes, prefix: bytes, access: AccessTuple) -> bytes:
    if not value or _NOT_IN_LOCATION.search(value) is not None:
        raise BadAnswer("the answer redirects to a malformed address")
    if value[:2] == b"//" or _SCHEME.match(value) is not None:
        if access.subresource == "proxy" and _WEB_SCHEME.match(value) is not None:
            return value
        raise BadAnswer("the answer redirects away from the cluster")
    if _UPWARDS.search(value.partition(b"?")[0].partition(b"#")[0]) is not None:
        raise BadAnswer("the answer redirects to a relative path")
    return prefix + value if value[:1] == b"/" else value

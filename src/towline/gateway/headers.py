"""Which fields of a request travel to an upstream, and which ones the edge adds.

What a client may not say is removed before our own fields are added, so that nothing of a client's, its Connection
field included, can stand in for or remove what we say (Rancher CVE-2021-31999). Pure functions.
"""

import enum
import functools

from towline.gateway.interfaces import Peer
from towline.wire.http1 import Framing, RequestHead
from towline.wire.http1_build import Line
from towline.wire.http1_fields import HOP_BY_HOP

NAME_CACHE_SIZE = 1024  # field names seen lately; bounded so that random names cost no memory

_OURS = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"forwarded",
    b"http2-settings",
    b"x-real-ip",
    b"x-request-id",
    b"x-original-url",
    b"x-rewrite-url",
}
_OURS_PREFIXES = (b"x-forwarded-", b"x-towline-", b"proxy-")
_IDENTITY_PREFIXES = (b"impersonate-", b"x-remote-")


class Verdict(enum.Enum):
    """What happens to a field that a client sent."""

    PASS = 0
    DROP = 1
    DROP_IDENTITY = 2


@functools.lru_cache(maxsize=NAME_CACHE_SIZE)
def judge(name: bytes) -> Verdict:
    """Return whether a field of this lower-case name may travel on.

    Names with an underscore are dropped: many servers cannot tell `x_forwarded_for` from `x-forwarded-for`.
    """
    if name.replace(b"_", b"-").startswith(_IDENTITY_PREFIXES):
        return Verdict.DROP_IDENTITY
    if name in _OURS or b"_" in name or name.startswith(_OURS_PREFIXES):
        return Verdict.DROP
    return Verdict.PASS


def upstream_lines(
    head: RequestHead, peer: Peer, request_id: bytes, *, host: bytes | None, is_api: bool
) -> tuple[list[Line], bool]:
    """Return the fields of the upstream request, and whether the client tried to send an identity."""
    sent_host = b""
    identity = False
    named = head.connection
    kept: list[Line] = []
    for lower, name, value in head.fields:
        verdict = judge(lower)
        if verdict is Verdict.PASS:
            if lower not in named:
                kept.append((name, value))
        elif verdict is Verdict.DROP_IDENTITY:
            identity = True
        elif lower == b"host":
            sent_host = value
    if peer.trusted_proxy:
        sent_host = head.authority
    address = peer.address.encode("ascii")
    lines: list[Line] = [(b"Host", host or sent_host), *kept]
    lines.append((b"X-Forwarded-For", address))
    lines.append((b"X-Forwarded-Proto", peer.scheme.encode("ascii")))
    lines.append((b"X-Forwarded-Host", sent_host))
    lines.append((b"X-Request-Id", request_id))
    if is_api:
        lines.append((b"X-Towline-Peer", address))
    _add_framing(lines, head)
    return lines, identity


def _add_framing(lines: list[Line], head: RequestHead) -> None:
    if head.framing is Framing.CHUNKED:
        lines.append((b"Transfer-Encoding", b"chunked"))
    elif head.framing is Framing.LENGTH:
        lines.append((b"Content-Length", b"%d" % head.content_length))
    elif head.get(b"content-length") is not None:
        lines.append((b"Content-Length", b"0"))
    if head.upgrade is not None:
        lines.append((b"Connection", b"Upgrade"))
        lines.append((b"Upgrade", head.upgrade))

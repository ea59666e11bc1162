"""Which fields of a message travel on, and which ones the edge adds.

What a client may not say is left out before our own fields are added, so that nothing of a client's, its Connection
field included, can stand in for or remove what we say (Rancher CVE-2021-31999). Pure functions.
"""

from towline.gateway.cookies import host_only
from towline.gateway.interfaces import Peer
from towline.wire.http1 import Framing, RequestHead, ResponseHead
from towline.wire.http1_fields import HOP_BY_HOP
from towline.wire.http1_lines import IDENTITY_PREFIXES

_NONE = Framing.NONE
_FRAMES = HOP_BY_HOP | {b"content-length"}
OWN_COOKIES = b"__Host-towline"
"""Begins the names of all cookies of ours: the dashboard's, and those of visits to published services."""


def upstream_head(head: RequestHead, peer: Peer, request_id: str, *, host: bytes | None, is_api: bool) -> bytes:
    """Return the head of the upstream request: the client's plain lines as sent, and what only we may say.

    Args: host: what the target sees as Host, when a route replaces it. is_api: the API learns the peer by a field of
    its own; targets never do.
    """
    public_host = head.authority if peer.trusted_proxy else head.host_field
    block = head.lines.plain_block(head.connection)
    if not is_api and OWN_COOKIES in block:
        block = without_own_cookies(block)  # whoever runs the target could use them elsewhere on the same host
    parts = [
        b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (head.method, head.target, host or public_host),
        block,
        b"X-Request-Id: %s\r\nX-Forwarded-Host: %s\r\n" % (request_id.encode("ascii"), public_host),
    ]
    if is_api:
        parts.append(b"%sX-Towline-Peer: %s\r\n" % (peer.lines, peer.address.encode("ascii")))
    else:
        port = head.port or (443 if peer.scheme == "https" else 80)
        parts.append(b'%s"%s"\r\nX-Forwarded-Port: %d\r\n' % (peer.forwarded, public_host, port))
    if head.expects_continue:
        parts.append(b"Expect: 100-continue\r\n")
    if head.framing is not _NONE or head.content_length_field:
        parts.append(_framing(head))
    if head.upgrade is not None:
        parts.append(b"Connection: Upgrade\r\nUpgrade: %s\r\n" % head.upgrade)
    parts.append(b"\r\n")
    return b"".join(parts)


def without_own_cookies(block: bytes) -> bytes:
    """Return whole field lines without the cookies that are meant for us alone."""
    lines = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"cookie":
            pairs = [pair.strip() for pair in value.split(b";")]
            kept = [pair for pair in pairs if pair and not pair.startswith(OWN_COOKIES)]
            line = b"Cookie: " + b"; ".join(kept) if kept else b""
        if line:
            lines.append(line + b"\r\n")
    return b"".join(lines)


def _framing(head: RequestHead) -> bytes:
    if head.framing is Framing.CHUNKED:
        return b"Transfer-Encoding: chunked\r\n"
    return b"Content-Length: %d\r\n" % head.content_length


def claims_identity(head: RequestHead) -> bool:
    """True when a client sent a field by which proxies name a user, in any spelling."""
    if len(head.lines.marked) <= 1:  # its Host
        return False
    return any(name.replace(b"_", b"-").startswith(IDENTITY_PREFIXES) for name, _, _ in head.lines.marked)


def answer_lines(answer: ResponseHead, zone: bytes = b"") -> bytes:
    """Return the lines of an answer that travel on: nothing about one hop, nothing about framing.

    Args: zone: domain that no cookie may be for; the same at each call with one answer. Empty: none.
    """
    if answer.passed_on is not None:
        return answer.passed_on
    block = answer.lines.plain_block(answer.connection)
    for name, _, line in answer.lines.marked:
        if name not in _FRAMES and name not in answer.connection:
            block += line + b"\r\n"
    if zone:
        block = host_only(block, zone)
    answer.passed_on = block
    return block


def status_line(answer: ResponseHead) -> bytes:
    """Return the first line of an answer; an empty reason is allowed (RFC 9112 section 4)."""
    return b"HTTP/1.1 %d %s\r\n" % (answer.status, answer.reason)

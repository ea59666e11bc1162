"""Writing HTTP/1.1 heads: clean framing, and nothing that a field value could break out of.

Which fields to send is the caller's decision; here they become bytes. Reading is in `http1`.
"""

import re
from collections.abc import Iterable

_NOT_IN_TARGET = re.compile(rb"[^\x21-\x7e]")

REASONS = {
    100: b"Continue",
    101: b"Switching Protocols",
    200: b"OK",
    204: b"No Content",
    301: b"Moved Permanently",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}

Line = tuple[bytes, bytes]
"""(name, value)"""


def build_request_head(method: bytes, target: bytes, lines: Iterable[Line]) -> bytes:
    """Return a request head; `target` is sent byte for byte."""
    if _NOT_IN_TARGET.search(target) is not None:
        raise ValueError("a request target must not hold blanks or line ends")
    return _head(b"%s %s HTTP/1.1\r\n" % (method, target), lines)


def build_response_head(status: int, reason: bytes, lines: Iterable[Line]) -> bytes:
    """Return a response head; an empty reason is allowed (RFC 9112 section 4)."""
    return _head(b"HTTP/1.1 %d %s\r\n" % (status, reason), lines)


def _head(first: bytes, lines: Iterable[Line]) -> bytes:
    fields = [b"%s: %s\r\n" % line for line in lines]
    head = b"".join([first, *fields, b"\r\n"])
    if head.count(b"\n") != len(fields) + 2 or head.count(b"\r") != len(fields) + 2:
        raise ValueError("a header field must not hold a line end")
    return head


def build_answer(status: int, body: bytes, content_type: bytes, lines: Iterable[Line] = (), *, close: bool) -> bytes:
    """Return a whole short answer that somebody on this hop made up himself."""
    fields: list[Line] = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *lines,
    ]
    if close:
        fields.append((b"connection", b"close"))
    return build_response_head(status, REASONS.get(status, b""), fields) + body

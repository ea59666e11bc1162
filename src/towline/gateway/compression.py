"""Answers made smaller on their way to the client, for routes that ask for it. Whether one may be is decided here too.

Off by default: it costs the event loop a millisecond for each 32 KiB, and pages that mix secrets with what a visitor
chose can be guessed at by their length (the BREACH attack).
"""

import re
import zlib

from towline.gateway.route_policy import name_of
from towline.wire.http1 import RequestHead, ResponseHead
from towline.wire.http1_body import BodyReader
from towline.wire.http1_fields import Fields

LEVEL = 5  # what most servers take: a fifth of the time of 9, for two parts in a hundred more bytes
WINDOW_BITS = 31  # 15 bits of window, and the frame of gzip (zlib.h, deflateInit2)
LEAST_BYTES = 256
"""Shorter bodies grow by the frame."""

_TYPES = re.compile(
    rb"(?:text/[a-z0-9.+-]+|application/(?:json|javascript|xml|manifest\+json|wasm|[a-z0-9.-]+\+(?:json|xml))|image/svg\+xml)"
    rb"(?:\s*;|\Z)",
    re.IGNORECASE,
)
_GZIP = re.compile(rb"(?:\A|[,\s])(?:gzip|\*)\s*(?:;\s*q=(0(?:\.\d*)?|1(?:\.0*)?))?\s*(?:,|\Z)", re.IGNORECASE)


def may_compress(head: RequestHead, answer: ResponseHead) -> bool:
    """Tell whether an answer may be sent as gzip (RFC 9110 sections 8.4 and 12.5.3; RFC 9111 section 5.2.2.6)."""
    if answer.status != 200 or head.method == b"HEAD":
        return False
    if answer.content_length is not None and answer.content_length < LEAST_BYTES:
        return False
    accepted = _GZIP.search(head.get(b"accept-encoding") or b"")
    if accepted is None or (accepted[1] or b"1").rstrip(b"0.") == b"":
        return False
    if answer.get(b"content-encoding") is not None or b"no-transform" in (answer.get(b"cache-control") or b"").lower():
        return False
    return _TYPES.match(answer.get(b"content-type") or b"") is not None


def compressed_lines(block: bytes) -> bytes:
    """Return the field lines of an answer that is sent as gzip: another representation, which has no ranges."""
    lines = []
    for line in block.split(b"\r\n"):
        name = name_of(line)
        if not line or name == b"accept-ranges":
            continue
        if name == b"etag" and b"W/" not in line[:9]:
            line = b"ETag: W/" + line.partition(b":")[2].strip()
        lines.append(line + b"\r\n")
    return b"".join([*lines, b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"])


class CompressingReader:
    """Reads a body and returns it as gzip; each piece that arrives can be read by the client at once."""

    __slots__ = ("_gzip", "_inner")

    def __init__(self, inner: BodyReader) -> None:
        self._inner = inner
        self._gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS)

    @property
    def is_done(self) -> bool:
        """True when the whole body has been read."""
        return self._inner.is_done

    @property
    def rest(self) -> bytes:
        """What followed the body."""
        return self._inner.rest

    @property
    def trailers(self) -> Fields:
        """What stood behind a chunked body."""
        found: Fields = getattr(self._inner, "trailers", [])
        return found

    def feed(self, data: bytes) -> list[bytes]:
        pieces = self._inner.feed(data)
        if self._inner.is_done:
            return [*map(self._gzip.compress, pieces), self._gzip.flush()]
        if not pieces:
            return []
        return [*map(self._gzip.compress, pieces), self._gzip.flush(zlib.Z_SYNC_FLUSH)]

    def finish(self) -> bytes:
        """Return the end of a body that ended with its connection."""
        return self._gzip.flush()

"""Strict HTTP/1.1 heads, read without input or output.

Here live the typed heads and the two parsers that both ends of the tunnel use: bytes in, `RequestHead` or
`ResponseHead` out, or a `HeadError` that says which status the sender deserves. llhttp (through httptools) judges the
whole head and is strict about framing; the guard around it is strict about what llhttp lets through: request lines,
Host, sizes and counts. Cutting heads out of a connection's bytes is in `http1_buffer`, bodies are in `http1_body`,
writing heads in `http1_build`, field grammar in `http1_fields`.

Nothing here opens sockets, reads a clock, or decides where a request goes.

Sources: RFC 9110 and RFC 9112; what stock servers let through is listed in docs/design/edge.md.
"""

import enum
import re
from dataclasses import dataclass

import httptools

from towline.wire.http1_buffer import DEFAULT_LIMITS, HeadError, HeadLimits, RequestBuffer, ResponseBuffer
from towline.wire.http1_fields import NO_TOKENS, FieldError, Fields, parse_host, parse_length, parse_tokens
from towline.wire.http1_lines import Lines

__all__ = [
    "DEFAULT_LIMITS",
    "Framing",
    "HeadError",
    "HeadLimits",
    "RequestBuffer",
    "RequestHead",
    "ResponseBuffer",
    "ResponseHead",
    "parse_request_head",
    "parse_response_head",
]

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{0,31}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_SLASH = ord("/")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")


class Framing(enum.Enum):
    """How the end of a body is known (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"


_NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE


@dataclass(slots=True)
class RequestHead:
    """One accepted request head.

    `target` is byte for byte what the client sent and always starts with a slash. `host` is the lower-case name
    without a trailing dot; `host_field` is the whole field as sent.
    """

    method: bytes
    target: bytes
    minor: int
    lines: Lines
    host_field: bytes
    host: str
    port: int | None
    framing: Framing
    content_length: int
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None
    connection: frozenset[bytes]
    content_length_field: bool = False
    """A Content-Length was sent; when it is zero, the request still says that it has no body."""

    @property
    def path(self) -> bytes:
        """The target without its query, as sent."""
        return self.target.partition(b"?")[0]

    @property
    def authority(self) -> bytes:
        """The normalised host, with the port when one was named."""
        return self.host.encode("ascii") + (b":%d" % self.port if self.port is not None else b"")

    @property
    def fields(self) -> Fields:
        """All fields as (lower-case name, name as sent, value), in the order of arrival; split at each call."""
        return self.lines.fields

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field, by its lower-case name."""
        return next((value for lower, _, value in self.lines.fields if lower == name), None)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.host} {self.path.decode('ascii')} {self.framing.value}>"


@dataclass(slots=True)
class ResponseHead:
    """One accepted response head; how its body ends also depends on the request (`framing_for`)."""

    status: int
    reason: bytes
    minor: int
    lines: Lines
    content_length: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bytes | None
    connection: frozenset[bytes]
    passed_on: bytes | None = None
    """The lines that a proxy passes on, kept by whoever made them: the same answer is often met again."""

    def framing_for(self, method: bytes) -> Framing:
        """Return how the body of this answer to `method` ends (RFC 9112 section 6.3)."""
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            return _NONE
        if self.chunked:
            return _CHUNKED
        if self.content_length is not None:
            return _LENGTH if self.content_length else _NONE
        return _UNTIL_CLOSE

    @property
    def fields(self) -> Fields:
        """All fields as (lower-case name, name as sent, value), in the order of arrival; split at each call."""
        return self.lines.fields

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field, by its lower-case name."""
        return next((value for lower, _, value in self.lines.fields if lower == name), None)


_MEANINGFUL = frozenset({b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"connection"})


def _split(data: bytes, parser_type: type, start: int, limits: HeadLimits) -> Lines:
    """Let llhttp judge the whole head, then split its lines; on what it accepts, splitting is simple."""
    try:
        parser_type(None).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # the head ended and asks for an upgrade: what follows is ours to read
    except httptools.HttpParserInvalidMethodError:
        raise HeadError(501, "unknown_method", "the method is not known here") from None
    except httptools.HttpParserError as error:
        raise HeadError(400, "bad_head", f"malformed head: {str(error).lower()}") from None
    lines = Lines(data, start)
    if lines.exceed(limits.fields):
        raise HeadError(431, "too_many_fields", "too many header fields")
    return lines


def _gather(lines: Lines) -> dict[bytes, bytes]:
    """Return the fields that frame and route a message, by lower-case name; only Connection may be repeated."""
    found: dict[bytes, bytes] = {}
    for lower, value, _ in lines.marked:
        if lower in _MEANINGFUL:
            if lower not in found:
                found[lower] = value
            elif lower == b"connection":
                found[lower] += b"," + value
            else:
                raise HeadError(400, "repeated_field", f"more than one {lower.decode()} field")
    return found


def parse_request_head(
    data: bytes, limits: HeadLimits = DEFAULT_LIMITS, before: RequestHead | None = None
) -> RequestHead:
    """Parse one whole request head, its empty line included.

    Args: before: the accepted head of the request before, on the same connection and under the same limits. Clients
    repeat their field lines; lines that are the same byte for byte are not judged a second time.
    Raises: HeadError: with the status to answer; nothing of the request may be used.
    """
    match = _REQUEST_LINE.match(data)
    if match is None:
        raise HeadError(400, "bad_request_line", "malformed request line")
    method, target, major, minor_digit = match.groups()
    if major != b"1" or minor_digit not in b"01":
        raise HeadError(505, "bad_version", "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method == b"CONNECT":
        raise HeadError(405, "connect_refused", "CONNECT is not served here")
    if target[0] != _SLASH or b"#" in target:
        raise HeadError(400, "bad_target", "the request target must be a path")
    minor = 1 if minor_digit == b"1" else 0
    if before is not None and _repeats(before, method, minor, data, match.end()):
        return _plain_head(method, target, minor, before.lines, before.host_field)
    lines = _split(data, httptools.HttpRequestParser, match.end(), limits)
    meaning = _gather(lines)
    host_field = meaning.get(b"host", b"")
    try:
        host, port = parse_host(host_field)
        if len(meaning) == 1:  # nothing but a Host: most requests
            return _plain_head(method, target, minor, lines, host_field)
        framing, length = _request_framing(meaning, minor)
        connection = parse_tokens(meaning.get(b"connection"))
    except FieldError as error:
        raise HeadError(400, error.code, str(error)) from None
    upgrade = meaning.get(b"upgrade") if minor and b"upgrade" in connection else None
    expects = b"expect" in meaning and _expects_continue(meaning[b"expect"], minor)
    return RequestHead(
        method,
        target,
        minor,
        lines,
        host_field,
        host,
        port,
        framing,
        length,
        _stays_open(minor, connection),
        expects,
        upgrade,
        connection,
        b"content-length" in meaning,
    )


def _repeats(before: RequestHead, method: bytes, minor: int, data: bytes, start: int) -> bool:
    """Tell whether a head differs from an accepted one of nothing but a Host in its target alone.

    llhttp takes every target that our request line lets through, so its verdict is the same as well.
    """
    if before.connection or before.framing is not _NONE or before.content_length_field or before.expects_continue:
        return False
    return method == before.method and minor == before.minor and before.lines.are(data, start)


def _plain_head(method: bytes, target: bytes, minor: int, lines: Lines, host_field: bytes) -> RequestHead:
    host, port = parse_host(host_field)
    return RequestHead(
        method, target, minor, lines, host_field, host, port, _NONE, 0, minor == 1, False, None, NO_TOKENS
    )


def _request_framing(meaning: dict[bytes, bytes], minor: int) -> tuple[Framing, int]:
    length, encoding = meaning.get(b"content-length"), meaning.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None or not minor or encoding.lower() != b"chunked":
            raise FieldError("bad_framing", "a body is framed by one Content-Length or by chunked, not otherwise")
        return _CHUNKED, 0
    if length is None:
        return _NONE, 0
    size = parse_length(length)
    return (_LENGTH if size else _NONE), size


def _expects_continue(value: bytes, minor: int) -> bool:
    if not minor:
        return False
    if value.lower() != b"100-continue":
        raise HeadError(417, "bad_expect", "only 100-continue can be expected")
    return True


def _stays_open(minor: int, connection: frozenset[bytes]) -> bool:
    if b"close" in connection:
        return False
    return minor == 1 or b"keep-alive" in connection


def parse_response_head(data: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> ResponseHead:
    """Parse one whole response head, its empty line included.

    Raises: HeadError: the answer cannot be passed on; a proxy says 502 and closes that connection.
    """
    match = _STATUS_LINE.match(data)
    if match is None:
        raise HeadError(400, "bad_status_line", "malformed status line")
    minor = 1 if match[1] == b"1" else 0
    lines = _split(data, httptools.HttpResponseParser, match.end(), limits)
    meaning = _gather(lines)
    encoding = meaning.get(b"transfer-encoding")
    try:
        length = parse_length(meaning[b"content-length"]) if b"content-length" in meaning else None
        connection = parse_tokens(meaning.get(b"connection"))
        if encoding is not None and (length is not None or not minor or encoding.lower() != b"chunked"):
            raise FieldError("bad_framing", "the answer is framed in two ways or in an unknown one")
    except FieldError as error:
        raise HeadError(400, error.code, str(error)) from None
    return ResponseHead(
        int(match[2]),
        match[3] or b"",
        minor,
        lines,
        length,
        encoding is not None,
        _stays_open(minor, connection),
        meaning.get(b"upgrade"),
        connection,
    )

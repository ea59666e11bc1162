"""Strict HTTP/1.1 heads, read without input or output.

Here live the limits, the typed heads, and the two readers that both ends of the tunnel use: bytes in, `RequestHead` or
`ResponseHead` out, or a `HeadError` that says which status the sender deserves. llhttp (through httptools) splits the
fields and is strict about framing; the guard around it is strict about what llhttp lets through: request lines, Host,
sizes and counts. Bodies are in `http1_body`, writing heads in `http1_build`, field grammar in `http1_fields`.

Nothing here opens sockets, reads a clock, or decides where a request goes.

Sources: RFC 9110 and RFC 9112; what stock servers let through is listed in docs/design/edge.md.
"""

import enum
import re
from dataclasses import dataclass, field
from typing import ClassVar

import httptools

from towline.wire.http1_fields import FieldError, Fields, parse_host, parse_length, parse_tokens

MAX_HEAD_BYTES = 64 * 1024  # request line and fields; kubectl label selectors and large cookies fit, floods do not
MAX_FIELDS = 100  # browsers send about 20; each field costs a Python object
MAX_METHOD_BYTES = 32  # the longest registered method has 17 bytes

_HEAD_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{0,31}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_BROKEN_LINE = re.compile(rb"(?<!\r)\n|\r[^\n]|\x00")
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class HeadError(Exception):
    """A message that must not be acted upon; the connection closes after the answer.

    Attributes: status: what a server answers for a bad request (a proxy answers 502 for a bad response).
    code: stable word for logs and metrics.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def __repr__(self) -> str:
        return f"<HeadError {self.status} {self.code}: {self}>"


class Framing(enum.Enum):
    """How the end of a body is known (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Sizes that a head may have; exceeding one is 414 or 431, never a buffer that grows."""

    head_bytes: int = MAX_HEAD_BYTES
    fields: int = MAX_FIELDS


DEFAULT_LIMITS = HeadLimits()


@dataclass(slots=True)
class RequestHead:
    """One accepted request head.

    `target` is byte for byte what the client sent and always starts with a slash. `fields` are (lower-case name,
    name as sent, value) in the order of arrival. `host` is the lower-case name without a trailing dot.
    """

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    host: str
    port: int | None
    framing: Framing
    content_length: int
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None
    connection: frozenset[bytes]

    @property
    def path(self) -> bytes:
        """The target without its query, as sent."""
        return self.target.partition(b"?")[0]

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field, by its lower-case name."""
        return next((value for lower, _, value in self.fields if lower == name), None)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.host} {self.path.decode('ascii')} {self.framing.value}>"


@dataclass(slots=True)
class ResponseHead:
    """One accepted response head; how its body ends also depends on the request (`framing_for`)."""

    status: int
    reason: bytes
    minor: int
    fields: Fields
    content_length: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bytes | None
    connection: frozenset[bytes]

    @property
    def is_interim(self) -> bool:
        """True for 1xx answers that another answer follows; 101 is the last HTTP on its connection."""
        return self.status < 200 and self.status != 101

    def framing_for(self, method: bytes) -> Framing:
        """Return how the body of this answer to `method` ends (RFC 9112 section 6.3)."""
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            return Framing.NONE
        if self.chunked:
            return Framing.CHUNKED
        if self.content_length is not None:
            return Framing.LENGTH if self.content_length else Framing.NONE
        return Framing.UNTIL_CLOSE

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field, by its lower-case name."""
        return next((value for lower, _, value in self.fields if lower == name), None)


class HeadBuffer:
    """Bytes of a connection, from which whole heads are cut; use one of the two kinds below.

    What follows a head (a body, the next pipelined head) stays inside until `take` or the next `cut`.
    """

    __slots__ = ("_data", "_limits", "_position", "_scanned")
    _start: ClassVar[re.Pattern[bytes]]

    def __init__(self, limits: HeadLimits = DEFAULT_LIMITS) -> None:
        self._data = b""
        self._position = 0
        self._scanned = 0
        self._limits = limits

    def __len__(self) -> int:
        return len(self._data) - self._position

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        if self._position == len(self._data):
            self._data = data
            self._scanned = 0
        else:
            self._data = self._data[self._position :] + data
            self._scanned -= self._position
        self._position = 0

    def take(self) -> bytes:
        """Remove and return everything that is left."""
        data = self._data[self._position :] if self._position else self._data
        self._data = b""
        self._position = self._scanned = 0
        return data

    def cut(self) -> bytes | None:
        """Remove and return the next head with its empty line, or None until all of it is there.

        Raises: HeadError: it can no longer become a head that we accept.
        """
        start, data = self._position, self._data
        end = data.find(_HEAD_END, max(start, self._scanned - 3))
        size = (end + 4 if end >= 0 else len(data)) - start
        if size > self._limits.head_bytes:
            raise _too_large(data, start)
        if end < 0:
            self._check_unfinished()
            return None
        self._position = self._scanned = end + 4
        return data[start : end + 4]

    def _check_unfinished(self) -> None:
        data, start = self._data, self._position
        found = _BROKEN_LINE.search(data, max(start, self._scanned - 1))
        self._scanned = len(data)
        if found is not None:
            raise HeadError(400, "bad_line", "a line does not end with CRLF, or holds a NUL byte")
        if start < len(data) and self._start.match(data[start : start + MAX_METHOD_BYTES + 1]) is None:
            raise HeadError(400, "bad_start", "this is not the start of an HTTP/1 message")


class RequestBuffer(HeadBuffer):
    """A buffer that heads of requests are cut from."""

    __slots__ = ()
    _start = re.compile(rb"[A-Z][A-Z-]{0,%d}(?: |\Z)" % (MAX_METHOD_BYTES - 1))


class ResponseBuffer(HeadBuffer):
    """A buffer that heads of answers are cut from."""

    __slots__ = ()
    _start = re.compile(rb"HTTP/1\.[01] |(?:H|HT|HTT|HTTP|HTTP/|HTTP/1|HTTP/1\.|HTTP/1\.[01])\Z")


def _too_large(data: bytes, start: int) -> HeadError:
    if data.find(b"\r\n", start, start + MAX_HEAD_BYTES // 2) < 0:
        return HeadError(414, "target_too_long", "the request target is too long")
    return HeadError(431, "head_too_large", "the header fields are too large")


class _Collector:
    """Receives fields from llhttp; also the place where one head's meaning is gathered."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), name, value.strip(b" \t")))


@dataclass(slots=True)
class _Meaning:
    """The fields that frame and route a message, each seen at most as often as it may be."""

    host: bytes | None = None
    length: bytes | None = None
    encoding: bytes | None = None
    upgrade: bytes | None = None
    expect: bytes | None = None
    connection: list[bytes] = field(default_factory=list)


_SINGLE_FIELDS = {
    b"host": "host",
    b"content-length": "length",
    b"transfer-encoding": "encoding",
    b"upgrade": "upgrade",
    b"expect": "expect",
}


def _gather(fields: Fields) -> _Meaning:
    meaning = _Meaning()
    for lower, _, value in fields:
        if lower == b"connection":
            meaning.connection.append(value)
        elif lower in _SINGLE_FIELDS:
            if getattr(meaning, _SINGLE_FIELDS[lower]) is not None:
                raise HeadError(400, "repeated_field", f"more than one {lower.decode()} field")
            setattr(meaning, _SINGLE_FIELDS[lower], value)
    return meaning


def _split(data: bytes, parser_type: type, limits: HeadLimits) -> Fields:
    """Let llhttp judge the head and split its fields."""
    collector = _Collector()
    parser = parser_type(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # the head ended and asks for an upgrade: what follows is ours to read
    except httptools.HttpParserInvalidMethodError:
        raise HeadError(501, "unknown_method", "the method is not known here") from None
    except httptools.HttpParserError as error:
        raise HeadError(400, "bad_head", _plain(error)) from None
    if len(collector.fields) > limits.fields:
        raise HeadError(431, "too_many_fields", "too many header fields")
    return collector.fields


def _plain(error: Exception) -> str:
    return f"malformed head: {str(error).lower()}"


def parse_request_head(data: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> RequestHead:
    """Parse one whole request head, its empty line included.

    Raises: HeadError: with the status to answer; nothing of the request may be used.
    """
    method, target, minor = _request_line(data)
    fields = _split(data, httptools.HttpRequestParser, limits)
    meaning = _gather(fields)
    if meaning.host is None:
        raise HeadError(400, "bad_host", "exactly one Host field is needed")
    try:
        host, port = parse_host(meaning.host)
        framing, length = _request_framing(meaning, minor)
        connection = parse_tokens(meaning.connection)
    except FieldError as error:
        raise HeadError(400, error.code, str(error)) from None
    return RequestHead(
        method=method,
        target=target,
        minor=minor,
        fields=fields,
        host=host,
        port=port,
        framing=framing,
        content_length=length,
        keep_alive=_stays_open(minor, connection),
        expects_continue=_expects_continue(meaning, minor),
        upgrade=meaning.upgrade if minor and b"upgrade" in connection else None,
        connection=connection,
    )


def _request_line(data: bytes) -> tuple[bytes, bytes, int]:
    match = _REQUEST_LINE.match(data)
    if match is None:
        raise HeadError(400, "bad_request_line", "malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError(505, "bad_version", "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method == b"CONNECT":
        raise HeadError(405, "connect_refused", "CONNECT is not served here")
    if target[:1] != b"/" or b"#" in target:
        raise HeadError(400, "bad_target", "the request target must be a path")
    return method, target, minor[0] - 48


def _request_framing(meaning: _Meaning, minor: int) -> tuple[Framing, int]:
    if meaning.encoding is not None:
        if meaning.length is not None or not minor or meaning.encoding.lower() != b"chunked":
            raise FieldError("bad_framing", "a body is framed by one Content-Length or by chunked, not otherwise")
        return Framing.CHUNKED, 0
    if meaning.length is None:
        return Framing.NONE, 0
    length = parse_length(meaning.length)
    return (Framing.LENGTH if length else Framing.NONE), length


def _expects_continue(meaning: _Meaning, minor: int) -> bool:
    if meaning.expect is None or not minor:
        return False
    if meaning.expect.lower() != b"100-continue":
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
    minor = match[1][0] - 48
    fields = _split(data, httptools.HttpResponseParser, limits)
    meaning = _gather(fields)
    try:
        length = None if meaning.length is None else parse_length(meaning.length)
        connection = parse_tokens(meaning.connection)
        if meaning.encoding is not None and (length is not None or not minor or meaning.encoding.lower() != b"chunked"):
            raise FieldError("bad_framing", "the answer is framed in two ways or in an unknown one")
    except FieldError as error:
        raise HeadError(400, error.code, str(error)) from None
    return ResponseHead(
        status=int(match[2]),
        reason=match[3] or b"",
        minor=minor,
        fields=fields,
        content_length=length,
        chunked=meaning.encoding is not None,
        keep_alive=_stays_open(minor, connection),
        upgrade=meaning.upgrade,
        connection=connection,
    )


def has_bad_escape(target: bytes) -> bool:
    """True when a percent sign is not followed by two hexadecimal digits."""
    return _BAD_PERCENT.search(target) is not None

"""The grammar of single HTTP fields: Host, lengths, token lists, and which fields never travel on.

Pure functions on bytes. Whole heads are in `http1`.
"""

import functools
import ipaddress
import re

Field = tuple[bytes, bytes, bytes]
"""(lower-case name, name as sent, value without surrounding blanks)"""
Fields = list[Field]

MAX_HOST_BYTES = 253 + 1 + 6  # longest DNS name, its trailing dot, and a port (RFC 1035 section 2.3.4)
MAX_LENGTH_DIGITS = 18  # below 2**63 without a comparison; an exabyte is enough
HOST_CACHE_SIZE = 1024  # names seen lately; bounded so that random names cost no memory

_NAME = re.compile(rb"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_PORT = re.compile(rb"[1-9][0-9]{0,4}")
_DIGITS = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")

HOP_BY_HOP = frozenset(
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
    }
)
"""Fields that speak to the next hop only (RFC 9110 section 7.6.1, with the ones of RFC 2616 that are still sent)."""

FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})
"""Fields that decide where a message ends or goes; behind the body they can only be an attack."""

NEVER_IN_TRAILERS = (HOP_BY_HOP | FRAMING) | {
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"cache-control",
    b"expect",
    b"max-forwards",
    b"location",
    b"www-authenticate",
}
"""Fields that frame, route or authorise, and so are not passed on after the body (RFC 9110 section 6.5.1)."""


class FieldError(Exception):
    """A field value that breaks its grammar; `code` is a stable word for logs and metrics."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@functools.lru_cache(maxsize=HOST_CACHE_SIZE)
def parse_host(value: bytes) -> tuple[str, int | None]:
    """Return (lower-case name or address without a trailing dot, port if one was named).

    IPv6 addresses come back in their brackets, in the short form.
    Raises: FieldError: anything but a DNS name, an IPv4 address or a bracketed IPv6 address (RFC 9110 section 7.2).
    """
    if not 0 < len(value) <= MAX_HOST_BYTES:
        raise FieldError("bad_host", "the Host field is empty or too long")
    if value[:1] == b"[":
        name, bracket, rest = value.partition(b"]")
        if not bracket or (rest and rest[:1] != b":"):
            raise FieldError("bad_host", "malformed address in the Host field")
        return _address(name[1:]), _port(rest[1:]) if rest else None
    name, colon, port = value.partition(b":")
    if _NAME.fullmatch(name) is None or len(name) > 254:
        raise FieldError("bad_host", "the Host field does not hold a host name")
    return name.decode("ascii").lower().removesuffix("."), _port(port) if colon else None


def _address(value: bytes) -> str:
    if b"%" in value:
        raise FieldError("bad_host", "an address with a zone is of no use in the Host field")
    try:
        return f"[{ipaddress.IPv6Address(value.decode('ascii')).compressed}]"
    except ValueError:
        raise FieldError("bad_host", "malformed address in the Host field") from None


def _port(value: bytes) -> int:
    if _PORT.fullmatch(value) is None or int(value) > 65535:
        raise FieldError("bad_host", "malformed port in the Host field")
    return int(value)


def parse_length(value: bytes) -> int:
    """Return a Content-Length; digits only, no list, no sign (RFC 9110 section 8.6)."""
    if _DIGITS.fullmatch(value) is None:
        raise FieldError("bad_framing", "malformed Content-Length")
    return int(value)


NO_TOKENS: frozenset[bytes] = frozenset()


def parse_tokens(value: bytes | None) -> frozenset[bytes]:
    """Return the lower-case tokens of a list field such as Connection; several lines are joined by commas before."""
    return NO_TOKENS if value is None else _tokens(value)


@functools.lru_cache(maxsize=64)
def _tokens(value: bytes) -> frozenset[bytes]:
    tokens = frozenset(part.strip(b" \t").lower() for part in value.split(b",")) - {b""}
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise FieldError("bad_connection", "malformed Connection field")
    return tokens


def parse_field_line(line: bytes) -> Field:
    """Parse one field line without its CRLF, as it stands in trailers."""
    match = _FIELD_LINE.fullmatch(line)
    if match is None or match[1].lower() in FRAMING:
        raise FieldError("bad_trailer", "malformed or forbidden trailer field")
    return match[1].lower(), match[1], match[2].strip(b" \t")


def is_token(value: bytes) -> bool:
    """True for a method, field name or protocol name (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None

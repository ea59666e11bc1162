"""Reads the first message of a TLS connection: the name and the protocols that a client asks for. No bytes are changed.

Strict, and bounded: lengths have to fit in each other, and nothing is read beyond `MAX_HELLO_BYTES`. Only what routing
needs is looked at; the rest is for TLS itself.
Source: RFC 8446 sections 4.1.2 and 5.1 (record, handshake, ClientHello), RFC 6066 section 3 (server name), RFC 7301
section 3.1 (protocols).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_HELLO_BYTES = 16 * 1024
"""Of records together. The largest ordinary one, with post-quantum keys and a session ticket, stays below 3 KiB."""
MAX_RECORD_BYTES = 2**14
RECORD_HEAD_BYTES = 5
MESSAGE_HEAD_BYTES = 4

_RECORD_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME, _HOST_NAME, _PROTOCOLS = 0, 0, 16
_MAJOR_VERSION = 3
_RANDOM_BYTES, _LONGEST_SESSION = 32, 32


class HelloError(ValueError):
    """The bytes are no ClientHello."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for. Nothing of it is proved."""

    server_name: str | None
    """As it was sent; any ASCII, perhaps no host name at all."""
    protocols: tuple[str, ...] = ()


def parse(data: bytes) -> ClientHello | None:
    """Return what the client asks for; None while bytes are missing. Raises: HelloError.

    `data` is what arrived so far, from the first byte on; what follows the ClientHello is ignored.
    """
    message = _message(data)
    return None if isinstance(message, int) else _read_hello(_Reader(message))


def missing(data: bytes) -> int:
    """Return how many bytes have to come at least before another look is worth it. Raises: HelloError.

    A hello that comes a byte at a time, in records of one byte, would else be read from the start for each of them.
    """
    message = _message(data)
    return message if isinstance(message, int) else 0


def _message(data: bytes) -> bytes | int:
    """Return the first handshake message, out of as many records as it takes, or how many bytes it lacks at least."""
    body, at, wanted = b"", 0, None
    while wanted is None or len(body) < wanted:
        if at + RECORD_HEAD_BYTES > len(data):
            _check_length(data)
            return _lacking(body, wanted)
        if data[at] != _RECORD_HANDSHAKE or data[at + 1] != _MAJOR_VERSION:
            raise HelloError("not a TLS handshake record")
        length = int.from_bytes(data[at + 3 : at + RECORD_HEAD_BYTES], "big")
        if not 0 < length <= MAX_RECORD_BYTES:
            raise HelloError("a record of impossible length")
        end = at + RECORD_HEAD_BYTES + length
        body += data[at + RECORD_HEAD_BYTES : end]
        if wanted is None and len(body) >= MESSAGE_HEAD_BYTES:
            wanted = _length(body)
        if end > len(data) and (wanted is None or len(body) < wanted):
            _check_length(data)
            return _lacking(body, wanted)
        at = end
    return body[MESSAGE_HEAD_BYTES:wanted]


def _lacking(body: bytes, wanted: int | None) -> int:
    return max(1, (wanted or MESSAGE_HEAD_BYTES) - len(body))


def _length(body: bytes) -> int:
    if body[0] != _CLIENT_HELLO:
        raise HelloError("the first message is no ClientHello")
    length = MESSAGE_HEAD_BYTES + int.from_bytes(body[1:MESSAGE_HEAD_BYTES], "big")
    if length > MAX_HELLO_BYTES:
        raise HelloError("a ClientHello that is too long")
    return length


def _check_length(data: bytes) -> None:
    if len(data) >= MAX_HELLO_BYTES:
        raise HelloError("no end of the ClientHello in sight")


class _Reader:
    """Cuts fields with a length in front out of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def is_done(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise HelloError("a length reaches beyond its message")
        piece, self._at = self._data[self._at : end], end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def field(self, size: int) -> bytes:
        """Take what a length of `size` bytes announces."""
        return self.take(self.number(size))


def _read_hello(message: _Reader) -> ClientHello:
    message.take(2 + _RANDOM_BYTES)  # legacy version, random
    if len(message.field(1)) > _LONGEST_SESSION:
        raise HelloError("a session id that is too long")
    ciphers = message.field(2)
    if not ciphers or len(ciphers) % 2 or not message.field(1):
        raise HelloError("no cipher suites or compression methods")
    name: str | None = None
    protocols: tuple[str, ...] = ()
    seen = set()
    for kind, content in _extensions(message):
        if kind in seen:
            raise HelloError("an extension comes twice")  # RFC 8446 section 4.2
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _name(content)
        elif kind == _PROTOCOLS:
            protocols = _protocols(content)
    return ClientHello(name, protocols)


def _extensions(message: _Reader) -> Iterator[tuple[int, bytes]]:
    if message.is_done():
        return  # TLS 1.2 clients may send none
    block = _Reader(message.field(2))
    if not message.is_done():
        raise HelloError("bytes behind the extensions")
    while not block.is_done():
        yield block.number(2), block.field(2)


def _name(content: bytes) -> str | None:
    reader = _Reader(content)
    names = _Reader(reader.field(2))
    found: str | None = None
    while not names.is_done():
        kind, value = names.number(1), names.field(2)
        if kind != _HOST_NAME:
            continue
        if found is not None or not value or not value.isascii():
            raise HelloError("a server name that is none")
        found = value.decode("ascii")
    if not reader.is_done():
        raise HelloError("bytes behind the server name")
    return found


def _protocols(content: bytes) -> tuple[str, ...]:
    reader = _Reader(content)
    entries = _Reader(reader.field(2))
    found = []
    while not entries.is_done():
        value = entries.field(1)
        if not value:
            raise HelloError("an empty protocol name")
        found.append(value.decode("latin-1"))
    if not reader.is_done() or not found:
        raise HelloError("a list of protocols that is none")
    return tuple(found)

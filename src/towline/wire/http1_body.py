"""Bodies of HTTP/1.1 messages: where they end, without input or output.

Three readers with one shape: `feed` returns the pieces of the body that arrived; `is_done` and `rest` tell where it
ended. Chunked bodies are decoded strictly, because every lenience here is a way to smuggle a request.

Source: RFC 9112 sections 6 and 7.
"""

import re
from typing import Protocol

from towline.wire.http1 import Framing, HeadError
from towline.wire.http1_fields import NEVER_IN_TRAILERS, FieldError, Fields, parse_field_line

MAX_CHUNK_LINE_BYTES = 1024  # size and extensions; nobody uses extensions, so long ones are an attack
MAX_EXTENSION_BYTES = 16 * 1024  # of all chunks of one body together
MAX_TRAILER_BYTES = 16 * 1024  # all trailer lines together
MAX_TRAILERS = 32

LAST_CHUNK = b"0\r\n\r\n"

_EXTENSION = rb""";[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-\[\]-~]|\\[\t -~])*"))?"""
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:%s)*)" % _EXTENSION)  # no blanks, as llhttp has it


class BodyReader(Protocol):
    """What a connection needs to know about the body that it is reading."""

    @property
    def is_done(self) -> bool: ...
    @property
    def rest(self) -> bytes: ...

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the parts of the body in them; empty while only framing arrived."""


class LengthReader:
    """A body of a known number of bytes."""

    __slots__ = ("is_done", "remaining", "rest")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.is_done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return [data]
        body = data if size == self.remaining else data[: self.remaining]
        self.rest = data[self.remaining :]
        self.remaining = 0
        self.is_done = True
        return [body] if body else []


class UntilCloseReader:
    """The body of an answer that ends with its connection; never done by itself."""

    __slots__ = ("is_done", "rest")

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        return [data]


class ChunkedReader:
    """Decodes a chunked body; `trailers` are there once it is done.

    Raises (from feed): HeadError: the framing is wrong; nothing after the last good piece can be trusted.
    """

    __slots__ = ("_extension_bytes", "_line", "_remaining", "_trailer_bytes", "is_done", "rest", "trailers")

    _LINE = 0  # `_remaining` while a chunk line is awaited
    _TRAILERS = -1
    _AFTER_DATA = -2

    def __init__(self) -> None:
        self.is_done = False
        self.rest = b""
        self.trailers: Fields = []
        self._remaining = self._LINE
        self._line = b""
        self._extension_bytes = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        if self._line:
            data, self._line = self._line + data, b""
        position, size = 0, len(data)
        while position < size and not self.is_done:
            if self._remaining > 0:
                piece = data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining = self._remaining - len(piece) or self._AFTER_DATA
                continue
            end = self._line_end(data, position)
            if end < 0:
                self._line = data[position:]
                break
            self._take_line(data[position:end])
            position = end + 2
        if self.is_done:
            self.rest = data[position:]
        return pieces

    def _line_end(self, data: bytes, position: int) -> int:
        """Return where the line at `position` ends, or -1 while it may still come."""
        limit = 2 if self._remaining == self._AFTER_DATA else MAX_CHUNK_LINE_BYTES
        if self._remaining == self._TRAILERS:
            limit = MAX_TRAILER_BYTES
        end = data.find(b"\r\n", position, position + limit)
        line_feed = data.find(b"\n", position, end if end >= 0 else position + limit)
        if line_feed >= 0:
            raise HeadError(400, "bad_chunk", "a line of the chunked body does not end with CRLF")
        if end < 0 and len(data) - position >= limit:
            if self._remaining == self._TRAILERS:
                raise HeadError(431, "trailers_too_large", "the trailer fields are too large")
            raise HeadError(400, "bad_chunk", "malformed or overlong chunk line")
        return end

    def _take_line(self, line: bytes) -> None:
        if self._remaining == self._AFTER_DATA:
            self._remaining = self._LINE  # `_line_end` lets nothing but the empty line through here
        elif self._remaining == self._TRAILERS:
            self._take_trailer(line)
        else:
            self._remaining = self._chunk_size(line) or self._TRAILERS

    def _chunk_size(self, line: bytes) -> int:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise HeadError(400, "bad_chunk", "malformed chunk size")
        if match[2]:
            self._extension_bytes += len(match[2])
            if self._extension_bytes > MAX_EXTENSION_BYTES:
                raise HeadError(400, "bad_chunk", "too many chunk extensions")
        return int(match[1], 16)

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.is_done = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES or len(self.trailers) >= MAX_TRAILERS:
            raise HeadError(431, "trailers_too_large", "the trailer fields are too large")
        try:
            self.trailers.append(parse_field_line(line))
        except FieldError as error:
            raise HeadError(400, error.code, str(error)) from None


def body_reader(framing: Framing, length: int = 0) -> BodyReader:
    """Return the reader for a body that is framed this way."""
    if framing is Framing.CHUNKED:
        return ChunkedReader()
    if framing is Framing.UNTIL_CLOSE:
        return UntilCloseReader()
    return LengthReader(length if framing is Framing.LENGTH else 0)


def encode_chunk(pieces: list[bytes]) -> bytes:
    """Frame pieces as one chunk; no pieces give no bytes, because an empty chunk would end the body."""
    size = sum(map(len, pieces))
    return b"".join([b"%x\r\n" % size, *pieces, b"\r\n"]) if size else b""


def encode_last_chunk(trailers: Fields) -> bytes:
    """End a chunked body; trailers that frame, route or authorise are left out."""
    lines = [b"%s: %s\r\n" % (name, value) for lower, name, value in trailers if lower not in NEVER_IN_TRAILERS]
    return b"".join([b"0\r\n", *lines, b"\r\n"]) if lines else LAST_CHUNK

"""Cuts whole HTTP/1.1 heads out of the bytes of a connection, within limits. What a head means is in `http1`."""

import re
from dataclasses import dataclass
from typing import ClassVar

MAX_HEAD_BYTES = 64 * 1024  # request line and fields; kubectl label selectors and large cookies fit, floods do not
MAX_FIELDS = 100  # browsers send about 20; each field costs a Python object
MAX_METHOD_BYTES = 32  # the longest registered method has 17 bytes

_HEAD_END = b"\r\n\r\n"
_BROKEN_LINE = re.compile(rb"(?<!\r)\n|\r[^\n]|\x00")


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


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Sizes that a head may have; exceeding one is 414 or 431, never a buffer that grows."""

    head_bytes: int = MAX_HEAD_BYTES
    fields: int = MAX_FIELDS


DEFAULT_LIMITS = HeadLimits()


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

    def feed_and_cut(self, data: bytes) -> bytes | None:
        """Add bytes and cut a head, as `feed` and `cut` do; quick when they begin with a whole head.

        Raises: HeadError.
        """
        if self._position == len(self._data):
            size = data.find(_HEAD_END) + 4
            if 4 <= size <= self._limits.head_bytes:
                self._data = data
                self._position = self._scanned = size
                return data[:size]
        self.feed(data)
        return self.cut()

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

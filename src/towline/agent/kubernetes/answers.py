"""Where the answers of an API server end, while their bytes pass untouched.

Knowing it is what keeps a stream safe: a 101 counts only as the answer to the upgrade that was asked for, never as
bytes of a body that happen to look like one. One line does not pass as it came: a location on the API server itself
becomes a path, since nobody beyond the agent knows what the API server is called. No input or output here.
"""

from __future__ import annotations

from collections.abc import Sequence

from towline.kube.heads import without_origin
from towline.wire.http1 import HeadError, ResponseBuffer, ResponseHead, parse_response_head
from towline.wire.http1_body import BodyReader, body_reader

SWITCHING_PROTOCOLS = 101
_LOCATION = b"location"
UNAUTHORIZED = 401


class NotTaken(Exception):
    """The API server does not take the agent's credentials. Its answer says so to the wrong one, and is kept."""


class Answers:
    """The answers of one connection: one final answer for each request, interim ones before it.

    Args: origins: how locations name the API server itself.
    """

    __slots__ = ("_body", "_buffer", "_is_own", "_method", "_origins", "has_switched", "may_switch")

    def __init__(self, origins: Sequence[bytes] = ()) -> None:
        self._origins = origins
        self._buffer = ResponseBuffer()
        self._method: bytes | None = None
        self._is_own = True
        self._body: BodyReader | None = None
        self.may_switch = False
        """The last request asked for an upgrade."""
        self.has_switched = False

    def __repr__(self) -> str:
        state = "switched" if self.has_switched else "awaited" if self.is_awaited else "none"
        return f"<Answers {state}>"

    @property
    def is_awaited(self) -> bool:
        """True from a request until the last byte of its answer."""
        return self._method is not None

    def expect(self, method: bytes, *, may_switch: bool, is_own: bool = True) -> None:
        """A request was sent. `is_own`: the API server answers itself, and not a workload behind it."""
        self._method = method
        self._is_own = is_own
        self.may_switch = may_switch

    def feed(self, data: bytes) -> bytes:
        """Take bytes; returns what may be passed on: all of it but a head that is not whole.

        Raises: HeadError: the answer cannot be followed, or nobody asked for it. NotTaken.
        """
        if self._body is None:
            return self._take_heads(data)
        self._body.feed(data)
        if self._body.is_done:
            self._end(self._body.rest)
        return data

    def _take_heads(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        while data:
            if self._method is None:
                raise HeadError(400, "unsolicited", "the API server sent bytes that nobody asked for")
            raw = self._buffer.feed_and_cut(data)
            if raw is None:
                break
            data = self._buffer.take()
            head = parse_response_head(raw)
            if head.status == UNAUTHORIZED and self._is_own:
                raise NotTaken
            passed.append(raw if head.get(_LOCATION) is None else _with_paths(raw, self._origins))
            if head.status == SWITCHING_PROTOCOLS:
                passed.append(self._switch(data))
                break
            if head.status >= 200:
                passed.append(self._begin_body(head, data))
                break
        return b"".join(passed)

    def _switch(self, rest: bytes) -> bytes:
        if not self.may_switch:
            raise HeadError(400, "unasked_upgrade", "the API server switched protocols without being asked")
        self.has_switched = True
        self._method = None
        return rest

    def _begin_body(self, head: ResponseHead, rest: bytes) -> bytes:
        assert self._method is not None
        self._body = body_reader(head.framing_for(self._method), head.content_length or 0)
        self._body.feed(rest)
        if self._body.is_done:
            self._end(self._body.rest)
        return rest

    def _end(self, rest: bytes) -> None:
        self._body = self._method = None
        if rest:
            raise HeadError(400, "unsolicited", "the API server sent bytes behind its answer")


def _with_paths(raw: bytes, origins: Sequence[bytes]) -> bytes:
    """Return a head whose locations on the API server itself are paths."""
    first, *lines = raw.split(b"\r\n")
    for at, line in enumerate(lines):
        name, colon, value = line.partition(b":")
        if colon and name.lower() == _LOCATION:
            lines[at] = name + b": " + without_origin(value.strip(b" \t"), origins)
    return b"\r\n".join([first, *lines])

"""One stream's requests to the API server and their answers, as a machine without input or output.

Bytes of both sides go in; what passes on to which side comes out. States:

    OPEN       requests one after the other; bodies and answers pass as they come
    SWITCHING  an upgrade was asked for: not one byte more passes to the API server before its 101
    PIPE       after the 101: raw bytes both ways
    ENDING     the agent gave the last answer itself, or an upgrade failed: nothing passes any more

Source: RFC 9112; the rules are those of docs/design/kubernetes-agent.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from towline.agent.kubernetes.answers import Answers, NotTaken
from towline.wire.http1 import Framing, HeadError, RequestBuffer, RequestHead, parse_request_head
from towline.wire.http1_body import BodyReader, ChunkedReader, body_reader


class State(enum.Enum):
    OPEN = "open"
    SWITCHING = "switching"
    PIPE = "pipe"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Passed:
    """What a request becomes."""

    head: bytes
    is_upgrade: bool = False
    is_proxied: bool = False
    """A workload behind the API server answers."""


@dataclass(frozen=True, slots=True)
class Denied:
    """An answer of the agent's own; makes the bytes, told whether the stream ends with it."""

    answer: Callable[[bool], bytes]
    ends: bool = False
    """The stream is of no further use."""


Judge = Callable[[RequestHead], Passed | Denied]


@dataclass(slots=True)
class Moved:
    """What to write now."""

    to_api: bytes = b""
    to_opener: bytes = b""


class Conversation:
    """See the module. After a HeadError both sides must be dropped, except in `from_opener` while `is_quiet`."""

    __slots__ = ("_answers", "_body", "_heads", "_held", "_judge", "_not_taken", "state")

    def __init__(self, judge: Judge, not_taken: Callable[[], bytes], origins: Sequence[bytes] = ()) -> None:
        """`not_taken` makes the last answer of a stream whose API server does not take the agent's credentials."""
        self._judge = judge
        self._not_taken = not_taken
        self._heads = RequestBuffer()
        self._answers = Answers(origins)
        self._body: BodyReader | None = None
        self._held = b""
        self.state = State.OPEN

    def __repr__(self) -> str:
        return f"<Conversation {self.state.value} {self._answers!r}>"

    @property
    def is_quiet(self) -> bool:
        """True between two requests: an answer of our own would stand where it belongs."""
        return self.state is State.OPEN and self._body is None and not self._answers.is_awaited

    def from_opener(self, data: bytes) -> Moved:
        """Take bytes of the opener. Raises: HeadError: they are no requests, or two at once."""
        match self.state:
            case State.PIPE:
                return Moved(to_api=data)
            case State.SWITCHING:
                self._held += data  # the opener is paused; this is what was on its way
                return Moved()
            case State.ENDING:
                return Moved()
            case State.OPEN:
                return self._take_requests(data)

    def from_api(self, data: bytes) -> Moved:
        """Take bytes of the API server. Raises: HeadError: they are no answer to what was asked."""
        if self.state is State.PIPE:
            return Moved(to_opener=data)
        if self.state is State.ENDING:
            return Moved()
        try:
            moved = Moved(to_opener=self._answers.feed(data))
        except NotTaken:
            self.state = State.ENDING
            return Moved(to_opener=self._not_taken())
        if self._answers.has_switched:
            self.state = State.PIPE
            moved.to_api, self._held = self._held, b""
        elif self.state is State.SWITCHING and not self._answers.is_awaited:
            self.state = State.ENDING
        return moved

    def _take_requests(self, data: bytes) -> Moved:
        moved = Moved()
        while data and self.state is State.OPEN:
            data = self._take_head(data, moved) if self._body is None else self._take_body(self._body, data, moved)
        self._held = data if self.state is State.SWITCHING else b""
        return moved

    def _take_body(self, body: BodyReader, data: bytes, moved: Moved) -> bytes:
        body.feed(data)
        if not body.is_done:
            moved.to_api += data
            return b""
        if isinstance(body, ChunkedReader) and body.trailers:
            raise HeadError(400, "trailers", "trailers are not passed to an API server")
        self._body = None
        moved.to_api += data[: len(data) - len(body.rest)]
        return body.rest

    def _take_head(self, data: bytes, moved: Moved) -> bytes:
        raw = self._heads.feed_and_cut(data)
        if self._answers.is_awaited:
            raise HeadError(400, "pipelined", "a request came before the answer to the one before it")
        if raw is None:
            return b""
        rest = self._heads.take()
        head = parse_request_head(raw)
        if not head.minor:
            raise HeadError(505, "bad_version", "only HTTP/1.1 is spoken here")
        verdict = self._judge(head)
        if isinstance(verdict, Denied):
            return self._deny(verdict, head, rest, moved)
        self._pass(verdict, head, moved)
        return rest

    def _deny(self, verdict: Denied, head: RequestHead, rest: bytes, moved: Moved) -> bytes:
        """Answer in place of the API server; a stream ends where the request's body would have to be skipped."""
        ends = verdict.ends or head.framing is not Framing.NONE or head.upgrade is not None or not head.keep_alive
        moved.to_opener += verdict.answer(ends)
        if ends:
            self.state = State.ENDING
        return rest

    def _pass(self, verdict: Passed, head: RequestHead, moved: Moved) -> None:
        if verdict.is_upgrade and head.framing is not Framing.NONE:
            raise HeadError(400, "upgrade_with_body", "a request for an upgrade has no body")
        moved.to_api += verdict.head
        self._answers.expect(head.method, may_switch=verdict.is_upgrade, is_own=not verdict.is_proxied)
        if verdict.is_upgrade:
            self.state = State.SWITCHING
        elif head.framing is not Framing.NONE:
            self._body = body_reader(head.framing, head.content_length)

"""One request that a PipeOps agent carries as a message, and its answer as it comes: HTTP/1.1 in chunks.

How an answer ends that the agent has cut after its 30 s depends on what was asked: a watch ends as an API server's own
time-out ends one, a followed log says so in words, everything else is cut where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from towline.aio.clock import Clock
from towline.aio.streams import StreamError
from towline.control.logging import get_logger
from towline.control.protocols.pipeops.translation import CannotCarry, Carried, answer_head, has_body, own_answer
from towline.wire import pipeops_messages as messages
from towline.wire.http1_body import LAST_CHUNK, encode_chunk

if TYPE_CHECKING:
    from towline.control.protocols.pipeops.request_line import RequestLine

TIME_LIMIT: Final = 29.0
"""Seconds after which an end is the agent's own time limit, which is 30."""

OUT_OF_TIME: Final = "the agent ends every request after 30 s"
LOG_CUT: Final = (
    "towline: the log is cut here: an agent without yamux ends every request after 30 s; ask again with --since\n"
)
_TIME_WORDS: Final = ("deadline exceeded", "Client.Timeout")
"""How Go says so."""

_log = get_logger("pipeops")


class Exchange:
    """Implements `requests.Asker` and `request_line.Running`."""

    goes_on = False

    def __init__(self, line: RequestLine, asked: Carried, clock: Clock) -> None:
        self.request_id = ""
        """Set by whoever begins it."""
        self._line = line
        self._asked = asked
        self._clock = clock
        self._began_at = clock.monotonic()
        self._code = 0
        self._is_over = False
        self._is_text = False

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self._asked.method} {self._code or 'waiting'}>"

    # -- the agent ---------------------------------------------------------------------------------

    def answered(self, status: int, headers: messages.Headers) -> None:
        if self._is_over:
            return
        if self._code:
            self._line.cut("the agent answered twice")
            return
        try:
            head = answer_head(self._asked, status, headers)
        except CannotCarry as error:
            self._say(error.code, error.reason)
            self._over()
            return
        self._code = status
        kinds = next((values for name, values in headers.items() if name.lower() == "content-type"), ())
        self._is_text = any(kind.startswith("text/plain") for kind in kinds)
        self._line.write(head)

    def arrived(self, data: bytes) -> None:
        if self._is_over:
            return
        if not self._code:
            self._line.cut("the agent sent a body without a head")
        elif has_body(self._asked, self._code):
            self._line.write(encode_chunk([data]))

    def framed(self, kind: int, payload: bytes) -> None:
        self._line.cut("the agent sent frames of a WebSocket that nobody asked for")

    def ended(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if not self._code:
            self._say(502, "the agent ended an answer that it had not begun")
        elif has_body(self._asked, self._code):
            self._line.write(LAST_CHUNK)
        self._line.finish()

    def failed(self, error: StreamError) -> None:
        if self._is_over:
            return
        out_of_time = self._is_time_limit(error)
        _log.info("answer cut by the agent", request=self.request_id, out_of_time=out_of_time, why=str(error))
        if self._code and out_of_time and self._asked.is_watch:
            self.ended()
            return
        self._is_over = True
        if not self._code:
            self._say(504, OUT_OF_TIME) if out_of_time else self._say(502, error.reason)
            self._line.finish()
        else:
            if out_of_time and self._asked.is_followed_log and self._is_text:
                self._line.write(encode_chunk([LOG_CUT.encode()]))
            self._line.end_early()

    def _is_time_limit(self, error: StreamError) -> bool:
        if any(word in error.reason for word in _TIME_WORDS):
            return True
        return self._clock.monotonic() - self._began_at >= TIME_LIMIT

    # -- the opener --------------------------------------------------------------------------------

    def fed(self, data: bytes) -> None:
        self._line.cut("a request came before the answer to the one before it")

    def cancel(self) -> None:
        self._line.fallback.abandon(self.request_id)

    def _say(self, code: int, reason: str) -> None:
        self._line.write(own_answer(code, reason, path=self._asked.path, is_head=self._asked.is_head))

    def _over(self) -> None:
        self._is_over = True
        self.cancel()
        self._line.finish()

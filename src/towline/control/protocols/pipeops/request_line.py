"""One line to the API server behind a PipeOps agent without yamux: HTTP/1.1 requests, one after the other.

What runs on it at the moment is an `exchange.Exchange`, or an upgrade (`fallback_sockets.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from towline.aio.clock import Timer
from towline.control.logging import get_logger
from towline.control.protocols.pipeops.exchange import Exchange
from towline.control.protocols.pipeops.fallback_sockets import NO_SPDY, Refusal, Upgrade
from towline.control.protocols.pipeops.translation import CannotCarry, Carried, carried, own_answer
from towline.wire.http1 import Framing, HeadError, RequestBuffer, RequestHead, parse_request_head
from towline.wire.http1_body import BodyReader, body_reader

if TYPE_CHECKING:
    from towline.control.protocols.pipeops.fallback import Fallback

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Largest body of a request: an API server takes 3 MiB. It is sent whole: a chunk for a request that the agent has
given up would block everything that the agent reads, for ever."""

ALL_BODIES_BYTES: Final = 32 * 1024 * 1024
"""Of all bodies of one agent's requests that are not answered yet."""

SILENCE_TIMEOUT: Final = 1.0
"""Seconds without a byte of the answer after which a line whose opener has ended its side is over, as over TLS."""

DRAIN_TIMEOUT: Final = 5.0
"""Seconds that the opener has to take a last answer."""

TOO_LARGE: Final = f"an agent without yamux carries bodies of up to {MAX_BODY_BYTES // 2**20} MiB"

BODIES_FULL: Final = "too many large requests wait for this agent"

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = get_logger("pipeops")


class Running(Protocol):
    """What a line does at the moment."""

    def fed(self, data: bytes) -> None:
        """The opener sends more."""

    def cancel(self) -> None:
        """Nobody waits for it any more."""


class RequestLine(asyncio.Protocol):
    """One line: requests one after the other, as the stand-in sends them."""

    def __init__(self, fallback: Fallback) -> None:
        self.fallback = fallback
        self._transport: asyncio.Transport
        self._heads = RequestBuffer()
        self._asked: Carried | None = None
        self._body: BodyReader | None = None
        self._gathered = bytearray()
        self._counted = 0
        self._running: Running | None = None
        self._is_ending = False
        self._is_deaf = False
        self._was_heard = False
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<RequestLine {self._running or 'idle'}>"

    # -- for what runs on it -----------------------------------------------------------------------

    @property
    def unread(self) -> int:
        """Bytes of answers that the stand-in has not taken."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Answer. An answer that nobody reads ends the line."""
        if self._transport.is_closing() or self._is_deaf:
            return
        self._was_heard = True
        self._transport.write(data)
        if self.fallback.is_behind(self.unread):
            self.cut("its reader is too slow: the agent cannot be asked to wait, and no more is kept")

    def finish(self, *, close: bool = False) -> None:
        """The answer is whole."""
        self._running = None
        self._release()
        if self._is_ending or self._transport.is_closing():
            self._transport.close()
        elif close:
            self._is_deaf = True  # a close would throw away what the opener has not read yet
            self.resume()
            self._transport.write_eof()
            self._stop_timer()
            self._timer = self.fallback.clock.call_later(DRAIN_TIMEOUT, self._transport.close)

    def replace(self, make: Callable[[], Running]) -> None:
        """Go on with something else, or with the answer that it cannot be carried."""
        try:
            self._running = make()
        except CannotCarry as error:
            self._refuse(error)

    def cut(self, reason: str) -> None:
        """End the line in the middle of an answer, so that it never looks whole."""
        _log.warning("request cut", reason=reason, request=repr(self._running))
        self._transport.abort()

    def end_early(self) -> None:
        """The same, after what was written has been read."""
        self._transport.close()

    def pause(self) -> None:
        """Take nothing of the opener for now."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Take on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- requests ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.fallback.lines.add(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing() or self._is_deaf:
            return
        if self._running is not None:
            self._running.fed(data)
            return
        try:
            if self._body is None:
                self._take_head(data)
            else:
                self._take_body(self._body, data)
        except CannotCarry as error:
            self._refuse(error)
        except HeadError as error:
            self._refuse(CannotCarry(error.status, str(error)))

    def _take_head(self, data: bytes) -> None:
        raw = self._heads.feed_and_cut(data)
        if raw is None:
            return
        rest = self._heads.take()
        self._asked = None
        head = parse_request_head(raw)
        self._asked = carried(head)
        if head.framing is not Framing.NONE:
            self._begin_body(head, rest)
            return
        if head.upgrade is None:
            self._ask(self._asked, b"")
        else:
            self._upgrade(self._asked, head)
        if rest and self._running is not None:
            self._running.fed(rest)

    def _begin_body(self, head: RequestHead, rest: bytes) -> None:
        if head.content_length > MAX_BODY_BYTES:
            raise CannotCarry(413, TOO_LARGE)
        self._body = body_reader(head.framing, head.content_length)
        if head.expects_continue:
            self.write(_CONTINUE)
        if rest:
            self._take_body(self._body, rest)

    def _take_body(self, body: BodyReader, data: bytes) -> None:
        for piece in body.feed(data):
            self._gathered += piece
            self._count(len(piece))
        if body.is_done:
            assert self._asked is not None
            whole = bytes(self._gathered)
            self._body, self._gathered = None, bytearray()
            self._ask(self._asked, whole)

    def _count(self, size: int) -> None:
        self._counted += size
        self.fallback.bodies_bytes += size
        if len(self._gathered) > MAX_BODY_BYTES:
            raise CannotCarry(413, TOO_LARGE)
        if self.fallback.bodies_bytes > ALL_BODIES_BYTES:
            raise CannotCarry(429, BODIES_FULL)

    def _ask(self, asked: Carried, body: bytes) -> None:
        exchange = Exchange(self, asked, self.fallback.clock)
        exchange.request_id = self.fallback.begin(asked.request(body), exchange)
        self._running = exchange

    def _upgrade(self, asked: Carried, head: RequestHead) -> None:
        assert head.upgrade is not None
        if head.upgrade.lower() == b"websocket":
            self._running = Upgrade(self, asked, head)
        else:
            self._running = Refusal(self, asked, CannotCarry(400, NO_SPDY))

    def _refuse(self, error: CannotCarry) -> None:
        """Answer here. The line is of no further use, since what the opener still sends would be skipped."""
        _log.info("request not carried", code=error.code, reason=error.reason)
        asked = self._asked
        path, is_head = (asked.path, asked.is_head) if asked is not None else ("/api/v1", False)
        self._body, self._gathered = None, bytearray()
        self.write(own_answer(error.code, error.reason, path=path, is_head=is_head, close=True))
        self.finish(close=True)

    def _release(self) -> None:
        self.fallback.bodies_bytes -= self._counted
        self._counted = 0

    # -- its end -----------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The opener asks nothing more, or is gone, which looks the same on a pair of sockets."""
        self._is_ending = True
        if self._running is None:
            return False
        self._await_silence()
        return True

    def _await_silence(self) -> None:
        self._was_heard = False
        self._timer = self.fallback.clock.call_later(SILENCE_TIMEOUT, self._judge_silence)

    def _judge_silence(self) -> None:
        if self._was_heard or self.unread:
            self._await_silence()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.fallback.lines.discard(self)
        running, self._running = self._running, None
        self._release()
        if running is not None:
            running.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

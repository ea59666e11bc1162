"""One WebSocket of a tunnel, for both ends: messages, liveness, limits, closing. It knows neither yamux nor the link.

picows does the framing (`framing.py`). Messages are sent with `send_reuse_external_bytearray` alone: its `send` gives
uvloop a view of a buffer that the next send overwrites (messages over 8 KiB from the server).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from towline.aio.clock import REAL_CLOCK, Clock, Timer
from towline.tunnel.errors import (
    ABNORMAL_CLOSE,
    NO_CODE,
    NORMAL_CLOSE,
    POLICY_VIOLATION,
    TOO_BIG,
    WEBSOCKET_PROTOCOL_ERROR,
    Closed,
)
from towline.tunnel.framing import PING_INTERVAL, LinkProtocol
from towline.wire import link

MAX_FRAGMENTS = 1024
"""Frames of one message. Proxies fragment rarely; a million empty fragments is an attack."""

HEADROOM = 14
"""Bytes that picows wants free in front of a message for the longest frame header."""

SEND_HIGH_BYTES = 128 * 1024
"""Unsent bytes in the process at which writing stops: what a control message may have to wait behind."""

SEND_LOW_BYTES = 32 * 1024
"""Unsent bytes at which it goes on: some are left, so that the line never runs dry."""

KERNEL_UNSENT_BYTES = 128 * 1024
"""Unsent bytes in the kernel (TCP_NOTSENT_LOWAT), for the same reason; bytes in flight are not limited."""

QUIET_INTERVAL = 18.0
"""Seconds without a single byte after which either end asks: a little later than the agent's next ping is due."""

SILENCE_TIMEOUT = 25.0
"""Seconds without a single byte after which the line is dead: seven for the answer to that question."""

MAX_PINGS_PER_INTERVAL = 64
"""Pings of the peer in one ping interval; it needs two at most."""

CLOSE_TIMEOUT = 5.0
"""Seconds until a peer that does not take our last bytes is cut off."""

SMOOTHING = 8
"""A longer round trip moves the estimate by this fraction, a shorter one at once: a queue is no distance."""

_PING = struct.Struct(">Q")


class ChannelEvents(Protocol):
    """Who uses a channel."""

    def text_arrived(self, text: bytes) -> None:
        """A whole text message."""

    def binary_arrived(self, data: memoryview) -> None:
        """Part of the byte stream that binary messages are; valid only during the call."""

    def writable(self) -> None:
        """`paused` became false."""

    def channel_closed(self, closed: Closed) -> None:
        """The channel is gone; called once, and only after it was open."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What one peer may send; the defaults are those of our own link."""

    text_bytes: int = link.MAX_MESSAGE_BYTES
    """Of one text message."""
    fragments: int = MAX_FRAGMENTS
    """Of one message."""
    pings: int = MAX_PINGS_PER_INTERVAL
    """Between two of our own pings."""


class Channel(WSListener):
    """The WebSocket, seen from above."""

    def __init__(
        self,
        *,
        clock: Clock = REAL_CLOCK,
        ping_interval: float = PING_INTERVAL,
        quiet_interval: float = QUIET_INTERVAL,
        silence_timeout: float = SILENCE_TIMEOUT,
        limits: MessageLimits = MessageLimits(),
    ) -> None:
        """The last three are those of our own link unless the peer is of another kind."""
        self.paused = False
        """While true nothing but `close` may be sent; `writable` tells when it is over."""
        self.closed: Closed | None = None
        self.round_trip = 0.0
        """Seconds, smoothed towards the shortest; 0 until the first pong."""
        self.last_round_trip = 0.0
        self.messages_in = 0
        self.on_open: Callable[[], None] | None = None
        """Called once when the handshake of the WebSocket is complete."""
        self.protocol: LinkProtocol | None = None
        """Set by whoever made the connection, before it opens."""
        self._events: ChannelEvents | None = None
        self._clock = clock
        self._ping_interval = ping_interval
        self._quiet_interval = quiet_interval
        self._silence_timeout = silence_timeout
        self.limits = limits
        self._asked: deque[tuple[int, Callable[[], None]]] = deque()
        self._transport: WSTransport | None = None
        self._timer: Timer | None = None
        self._ping_number = 0
        self._ping_due_at = 0.0
        self._pinged_at = float("-inf")
        self._ping_sent_at: float | None = None
        self._peer_pings = 0
        self._owed_pong: bytes | None = None
        self._fragment_kind: WSMsgType | None = None
        self._fragments = 0
        self._text = bytearray()

    def __repr__(self) -> str:
        state = str(self.closed) if self.closed else "paused" if self.paused else "open"
        return f"<Channel {state} rtt={self.round_trip * 1000:.1f}ms>"

    # -- for the layer above -----------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._transport is not None and self.closed is None

    @property
    def transport(self) -> WSTransport:
        """picows' transport.

        Raises: RuntimeError: the handshake is not complete.
        """
        if self._transport is None:
            raise RuntimeError("the WebSocket is not open yet")
        return self._transport

    def lift_budget(self) -> None:
        """Stop counting what the peer sends; see `LinkProtocol.budget_bytes`."""
        if self.protocol is not None:
            self.protocol.budget_bytes = None

    def attach(self, events: ChannelEvents) -> None:
        """Say who gets the messages; before the first one can arrive."""
        self._events = events

    def send_binary(self, buffer: bytearray) -> None:
        """Send a binary message that begins HEADROOM bytes into the buffer; the buffer is scribbled on."""
        self.transport.send_reuse_external_bytearray(WSMsgType.BINARY, buffer, HEADROOM)

    def send_text(self, text: bytes) -> None:
        """Send a text message."""
        self.transport.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(HEADROOM) + text, HEADROOM)

    async def answers(self, timeout: float) -> bool:
        """Tell whether the peer answers a ping within some seconds."""
        if not self.is_open or self.paused:
            return False
        answered = asyncio.Event()
        self.confirm(answered.set)
        try:
            async with asyncio.timeout(timeout):
                await answered.wait()
        except TimeoutError:
            return False
        return self.is_open

    def confirm(self, arrived: Callable[[], None]) -> None:
        """Call a function when the peer has read all that was sent before: when it answers a ping sent behind it.

        Nothing is called when the connection ends first.
        """
        self._asked.append((self._ping_number + 1, arrived))
        self._send_ping(self._clock.monotonic())

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        """Say goodbye and close; what was sent before still goes out, for CLOSE_TIMEOUT at most."""
        if self.closed is not None:
            return
        closed = Closed(code, reason)
        if self._transport is not None and not self._transport.is_disconnected:
            _send_close(self._transport, code, reason)
            self._transport.disconnect()
            self._clock.call_later(CLOSE_TIMEOUT, self._transport.underlying_transport.abort)
        self._finish(closed)

    def abort(self, reason: str) -> None:
        """Drop the connection without a word: the peer is gone or hostile."""
        if self._transport is not None:
            self._transport.disconnect(False)
        self._finish(Closed(ABNORMAL_CLOSE, reason))

    # -- for picows --------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        _tune(transport.underlying_transport)
        if self.closed is not None:
            transport.disconnect(False)
            return
        self._ping_due_at = self._clock.monotonic()
        self._tick()
        if self.on_open is not None:
            self.on_open()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.closed is not None or self._events is None:
            return
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(WEBSOCKET_PROTOCOL_ERROR, "reserved bits are set")
        elif kind is WSMsgType.BINARY and frame.fin and self._fragment_kind is None:
            self.messages_in += 1
            self._events.binary_arrived(frame.get_payload_as_memoryview())
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._data_frame(kind, frame)
        elif kind is WSMsgType.PING:
            self._ping_arrived(frame.get_payload_as_bytes())
        elif kind is WSMsgType.PONG:
            self._pong_arrived(frame.get_payload_as_bytes())
        else:
            self._close_arrived(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._finish(Closed(ABNORMAL_CLOSE, "the connection was lost", by_peer=True))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.closed is not None:
            return
        if self._owed_pong is not None:
            pong, self._owed_pong = self._owed_pong, None
            self.transport.send_pong(pong)
        if self._events is not None:
            self._events.writable()

    # -- messages ----------------------------------------------------------------------------

    def _data_frame(self, kind: WSMsgType, frame: WSFrame) -> None:
        continues = kind is WSMsgType.CONTINUATION
        if continues != (self._fragment_kind is not None):
            self.close(WEBSOCKET_PROTOCOL_ERROR, "fragments out of order")
            return
        whole_kind = self._fragment_kind if continues else kind
        self._fragments += 1
        if self._fragments > self.limits.fragments:
            self.close(POLICY_VIOLATION, f"more than {self.limits.fragments} fragments")
            return
        self._fragment_kind = None if frame.fin else whole_kind
        if whole_kind is WSMsgType.TEXT:
            self._text_fragment(frame)
        elif self._events is not None:
            self._events.binary_arrived(frame.get_payload_as_memoryview())
        if frame.fin:
            self._fragments = 0
            self.messages_in += 1

    def _text_fragment(self, frame: WSFrame) -> None:
        if len(self._text) + frame.payload_size > self.limits.text_bytes:
            self.close(TOO_BIG, f"a text message over {self.limits.text_bytes} bytes")
            return
        if frame.fin and not self._text:
            text = frame.get_payload_as_bytes()
        else:
            self._text += frame.get_payload_as_memoryview()
            if not frame.fin:
                return
            text = bytes(self._text)
            self._text = bytearray()
        if self._events is not None:
            self._events.text_arrived(text)

    def _close_arrived(self, frame: WSFrame) -> None:
        code = int(cast(int, frame.get_close_code())) or NO_CODE
        reason = bytes(frame.get_close_message() or b"").decode("utf-8", "replace")
        if self._transport is not None:
            _send_close(self._transport, NORMAL_CLOSE if code == NO_CODE else code, "")
            self._transport.disconnect()
        self._finish(Closed(code, reason, by_peer=True))

    # -- liveness ----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Send a ping when one is due, and drop a silent line; then wait for whichever comes next."""
        if self.closed is not None or self.protocol is None:
            return
        now = self._clock.monotonic()
        dead_at = self.protocol.heard_at + self._silence_timeout
        if now >= dead_at:
            self.abort(f"nothing was heard for {self._silence_timeout:g} seconds")
            return
        quiet_at = self.protocol.heard_at + self._quiet_interval
        if now >= self._ping_due_at or now >= quiet_at > self._pinged_at:
            self._send_ping(now)
        moments = [moment for moment in (quiet_at, self._ping_due_at, dead_at) if moment > now]
        self._timer = self._clock.call_later(min(moments) - now, self._tick)

    def _send_ping(self, now: float) -> None:
        self._pinged_at = now
        self._ping_due_at = now + self._ping_interval
        self._peer_pings = 0
        if not self.paused:
            self._ping_number += 1
            self._ping_sent_at = now
            self.transport.send_ping(_PING.pack(self._ping_number))

    def _ping_arrived(self, payload: bytes) -> None:
        self._peer_pings += 1
        if self._peer_pings > self.limits.pings:
            self.close(POLICY_VIOLATION, "too many pings")
        elif self.paused:
            self._owed_pong = payload
        else:
            self.transport.send_pong(payload)

    def _pong_arrived(self, payload: bytes) -> None:
        if self._asked and len(payload) == _PING.size:
            self._confirmed(_PING.unpack(payload)[0])
        if self._ping_sent_at is None or payload != _PING.pack(self._ping_number):
            return
        sample = max(0.0, self._clock.monotonic() - self._ping_sent_at)
        self._ping_sent_at = None
        self.last_round_trip = sample
        if not self.round_trip or sample < self.round_trip:
            self.round_trip = sample
        else:
            self.round_trip += (sample - self.round_trip) / SMOOTHING

    def _confirmed(self, number: int) -> None:
        """The peer answered this ping: what went before any of its number or less has arrived."""
        while self._asked and self._asked[0][0] <= min(number, self._ping_number):
            self._asked.popleft()[1]()

    def _finish(self, closed: Closed) -> None:
        if self.closed is not None:
            return
        self.closed = closed
        if self._timer is not None:
            self._timer.cancel()
        events, self._events = self._events, None
        if events is not None:
            events.channel_closed(closed)


def _send_close(transport: WSTransport, code: int, reason: str) -> None:
    """A close frame holds 125 bytes, two of them the code (RFC 6455, section 5.5); picows takes any code."""
    short = reason.encode()[:123].decode("utf-8", "ignore").encode()
    transport.send_close(cast(WSCloseCode, code), short)


def _tune(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=SEND_HIGH_BYTES, low=SEND_LOW_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)

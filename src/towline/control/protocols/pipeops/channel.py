"""The WebSocket of a PipeOps agent: the timers and limits of the real one, and where its binary messages end.

What is sent over it is `connection.py`'s.
"""

from __future__ import annotations

from typing import Final, Protocol

from picows import WSFrame, WSMsgType, WSTransport

from towline.aio.clock import Clock
from towline.tunnel.framing import SERVER_PING_INTERVAL
from towline.tunnel.websocket import Channel, ChannelEvents, MessageLimits
from towline.wire import pipeops

QUIET_INTERVAL: Final = 22.0
"""Seconds without a byte after which we ask: the agent pings every 10 s, so two of its pings are missing."""

SILENCE_TIMEOUT: Final = 45.0
"""Seconds without a byte after which the line is dead: right after a reconnect an agent can be mute for 35."""

FRAGMENTS: Final = 4096
"""Frames of one message: the agent's library flushes one every 4 KiB."""

PINGS: Final = 6_000
"""Pings between two of ours: the agent has one more pinger after each reconnect, and each pings every 10 s."""

LIMITS: Final = MessageLimits(text_bytes=pipeops.MAX_MESSAGE_BYTES, fragments=FRAGMENTS, pings=PINGS)
_BINARY_KINDS = (WSMsgType.BINARY, WSMsgType.CONTINUATION)


class Events(ChannelEvents, Protocol):
    """Who uses such a channel."""

    def binary_ended(self) -> None:
        """The binary bytes that arrived so far are a whole message."""


class PipeOpsChannel(Channel):
    """A channel that tells where binary messages end."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(
            clock=clock,
            ping_interval=SERVER_PING_INTERVAL,
            quiet_interval=QUIET_INTERVAL,
            silence_timeout=SILENCE_TIMEOUT,
            limits=LIMITS,
        )
        self._binary_ended = _nobody

    def listen(self, events: Events) -> None:
        """Say who gets the messages; before the first one can arrive."""
        self.attach(events)
        self._binary_ended = events.binary_ended

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        super().on_ws_frame(transport, frame)
        if frame.fin and frame.msg_type in _BINARY_KINDS and self.closed is None:
            self._binary_ended()


def _nobody() -> None:
    """Nobody listens yet."""

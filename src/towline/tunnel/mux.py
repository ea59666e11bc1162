"""Runs the yamux machine over a channel: events to the owners of streams, bytes out when there is room.

Bytes go out after every few writes and at the end of each turn of the event loop, so that what streams write
together shares a message and a system call. What streams carry is not known here (`opening.py`); nor are control
messages (`session.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import Broken, EndedThere, StreamError
from towline.tunnel.errors import TunnelClosed
from towline.tunnel.transport import GONE, Receiver, StreamTransport
from towline.tunnel.websocket import HEADROOM, Channel
from towline.wire.yamux import Yamux
from towline.wire.yamux_frames import NORMAL
from towline.wire.yamux_model import Data, Ended, Event, Failed, Limits, Opened, Ponged, Reset, Stream, WentAway

MESSAGE_BYTES = 64 * 1024
"""A message is sent when it holds this much: two full frames; a third may reach over it."""

EAGER_WRITES = 6
"""Writes of one turn after which the line gets them at once, so that the other side works meanwhile: 128 requests that
arrive together would else wait for the last of them. Between four and eight it makes no difference (`make bench`)."""

GO_AWAY_TIMEOUT = 1.0
"""Seconds that a peer which went away with an error has to close the connection itself."""

_log = logging.getLogger("towline.tunnel.mux")


class Mux:
    """All streams of one tunnel.

    Args: accept: makes the owner of a stream that the peer opened; None when it may not open any. failed: the peer
    broke the protocol, or went away with an error: the tunnel must be closed.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        is_client: bool,
        accept: Callable[[Stream], Receiver] | None,
        failed: Callable[[str], None],
        limits: Limits | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.yamux = Yamux(is_client=is_client, accepts=accept is not None, limits=limits, monotonic=clock.monotonic)
        self.clock = clock
        self.on_pong: Callable[[], None] | None = None
        """Called with each answer to a ping of yamux's own."""
        self._channel = channel
        self._accept = accept
        self._failed = failed
        self._scheduled = False
        self._writes = 0
        self._is_telling = False
        self._closing: set[StreamTransport] = set()
        self._lost: StreamError | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Mux {self.yamux!r} over {self._channel!r}>"

    def open(self) -> Stream:
        """Open a stream; the caller sets its `owner` at once. Raises: TooManyStreams, TunnelClosed."""
        if self._lost is not None:
            raise TunnelClosed(self._lost.reason)  # nobody would ever tell its owner
        stream = self.yamux.open()
        self.schedule()
        return stream

    def close_when_sent(self, transport: StreamTransport) -> None:
        """Finish a transport as soon as its last byte has been handed to the line."""
        self._closing.add(transport)
        self.schedule()

    def schedule(self) -> None:
        """Send what there is at the end of this turn of the event loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_turn)

    def wrote(self) -> None:
        """Send at the end of this turn, or now when much was written in it: the other side may begin meanwhile."""
        self._writes += 1
        if self._writes >= EAGER_WRITES and not self._is_telling:
            self.flush()
        else:
            self.schedule()

    def receive(self, data: memoryview) -> None:
        """Take bytes from the channel."""
        self.yamux.round_trip = self._channel.round_trip
        for event in self.yamux.receive(data):
            if type(event) is Data:
                try:
                    event.stream.owner.data_arrived(event.payload)
                except Exception as error:
                    self._owner_failed(event.stream, error)
            else:
                self._dispatch(event)
        if self.yamux.has_output:
            self.schedule()

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send one message if there is room, and see to the next one in the next turn.

        One per turn costs bulk nothing, and lets what arrives meanwhile go first: with sixteen of them a short answer
        beside four bulk streams took seven times as long.
        """
        self._writes = 0
        channel, yamux = self._channel, self.yamux
        if yamux.has_output and not channel.paused and channel.is_open:
            out = bytearray(HEADROOM)
            yamux.take(out, MESSAGE_BYTES)
            if len(out) > HEADROOM:
                channel.send_binary(out)
            if yamux.drained:
                self._tell_drained()
            if yamux.has_output and not channel.paused:
                self.schedule()
        if self._closing:
            self._finish_sent()

    def lose(self, error: StreamError) -> None:
        """The channel is gone: every stream ends with this error."""
        self._lost = error
        for stream in self.yamux.streams:
            self._tell_lost(stream, error)
        self._closing.clear()

    def _dispatch(self, event: Event) -> None:
        match event:
            case Opened(stream=stream):
                stream.owner = self._accept(stream) if self._accept is not None else GONE
            case Ended(stream=stream):
                try:
                    stream.owner.end_arrived()
                except Exception as error:
                    self._owner_failed(stream, error)
            case Reset(stream=stream, broken_rule=rule):
                self._tell_lost(stream, Broken(rule) if rule else EndedThere("the other side reset the stream"))
            case WentAway(code=code) if code != NORMAL:
                # Its close frame, which says why, is right behind.
                reason = f"the peer went away with yamux code {code}"
                self.clock.call_later(GO_AWAY_TIMEOUT, self._failed, reason)
            case Failed(reason=reason):
                self.flush()
                self._failed(reason)
            case Ponged() if self.on_pong is not None:
                self.on_pong()
            case _:
                """A pong, or a go-away that only forbids new streams: nothing to do."""

    def _tell_lost(self, stream: Stream, error: StreamError) -> None:
        if stream.owner is not None:
            stream.owner.lost(error)

    def _tell_drained(self) -> None:
        self._is_telling = True  # who writes now because there is room again waits for the next turn
        drained = self.yamux.drained
        while drained:
            stream = drained.pop()
            try:
                stream.owner.room_arrived()
            except Exception as error:
                self._owner_failed(stream, error)
        self._is_telling = False

    def _finish_sent(self) -> None:
        for transport in [t for t in self._closing if t.stream.end_sent or t.stream.gone]:
            self._closing.discard(transport)
            transport.finish(None)

    def _owner_failed(self, stream: Stream, error: Exception) -> None:
        """One protocol raised: its stream ends, the tunnel goes on."""
        _log.error("stream %d: its protocol failed", stream.id, exc_info=error)
        owner = stream.owner
        self.yamux.reset(stream)
        self.schedule()
        owner.lost(Broken(f"{type(error).__name__} in the receiver of the stream"))

"""One stream of a tunnel as an asyncio transport: callbacks for what arrives, water marks for what is written.

The hot path of the gateway. States are yamux's (`wire/yamux.py`); the answer to the stream's header is taken off
before (`opening.py`). What receives a stream's events is its `owner`, exchanged as the stream goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from towline.aio.streams import StreamError
from towline.wire.yamux_model import LOW_WATER_BYTES, Stream

if TYPE_CHECKING:
    from towline.tunnel.mux import Mux

HIGH_WATER_BYTES = 64 * 1024
"""Written bytes that wait for credit or for the line before the writer is told to pause: two frames."""

LINGER_TIMEOUT = 30.0
"""Seconds that a closed stream waits for the other side's end before it is reset, so that no slot is lost."""


class Receiver(Protocol):
    """Gets the events of one stream; `Stream.owner` holds it."""

    def data_arrived(self, payload: bytes) -> None: ...
    def end_arrived(self) -> None: ...
    def room_arrived(self) -> None: ...
    def lost(self, error: StreamError) -> None: ...


class StreamTransport(asyncio.Transport):
    """Looks like a TCP transport to its protocol.

    `connection_lost` gets None after `close` or `abort` here, else a `StreamError` that says who ended it.
    Extra info: `answer` (once it came), `target`, `stream_id`, `session`.
    """

    __slots__ = (
        "_closing",
        "_end_waits",
        "_held",
        "_high",
        "_info",
        "_lost",
        "_mux",
        "_owed",
        "_paused",
        "_protocol",
        "_stream",
        "_write_paused",
    )

    def __init__(self, mux: Mux, stream: Stream, protocol: asyncio.BaseProtocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._info = extra
        self._mux = mux
        self._stream = stream
        self._protocol = cast(asyncio.Protocol, protocol)
        self._held: deque[bytes] | None = None
        self._owed = 0
        self._paused = False
        self._write_paused = False
        self._end_waits = False
        self._closing = False
        self._lost = False
        self._high = HIGH_WATER_BYTES

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "paused" if self._paused else "open"
        return f"<StreamTransport {state} {self._stream!r}>"

    # -- what protocols call -----------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        stream = self._stream
        self._mux.yamux.write(stream, data if type(data) is bytes else bytes(data))
        self._mux.wrote()
        if stream.queued_bytes > self._high and not self._write_paused:
            self._write_paused = True
            stream.wants_room = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._mux.yamux.finish(self._stream)
        self._mux.schedule()

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            owed, self._owed = self._owed, 0
            if owed and self._mux.yamux.consume(self._stream, owed):
                self._mux.schedule()
            if self._held or self._end_waits:
                asyncio.get_running_loop().call_soon(self._deliver_held)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def close(self) -> None:
        """Send what was written, then end both directions; bytes that still arrive are dropped."""
        if self._closing:
            return
        self._closing = True
        stream, mux = self._stream, self._mux
        self._held = None
        mux.yamux.finish(stream)
        mux.close_when_sent(self)
        if not stream.gone:
            stream.owner = Closing(mux, stream, self)

    def abort(self) -> None:
        """Drop the stream; the other side sees a reset."""
        self._mux.yamux.reset(self._stream)
        self._mux.schedule()
        self._stream.owner = GONE
        self.finish(None)

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return self._stream.queued_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return LOW_WATER_BYTES, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the high mark; the low one is fixed, as the writer works in frames."""
        self._high = max(LOW_WATER_BYTES, HIGH_WATER_BYTES if high is None else high)

    # -- what the mux calls ------------------------------------------------------------------

    @property
    def stream(self) -> Stream:
        return self._stream

    def note(self, name: str, value: Any) -> None:
        """Add extra info."""
        self._info[name] = value

    def data_arrived(self, payload: bytes) -> None:
        if self._paused or self._held:
            self.hold(payload)
            return
        self._take(payload)

    def _take(self, payload: bytes) -> None:
        """Hand bytes over. Whoever pauses because of them still has them: their credit waits until it goes on."""
        self._protocol.data_received(payload)
        if self._paused:
            self._owed += len(payload)
        elif self._mux.yamux.consume(self._stream, len(payload)):
            self._mux.schedule()

    @property
    def held_bytes(self) -> int:
        """What waits here for its reader."""
        return sum(map(len, self._held)) if self._held else 0

    def hold(self, payload: bytes) -> None:
        """Keep bytes until reading goes on; their credit is not given back, so a window is the most there is."""
        if self._held is None:
            self._held = deque()
        self._held.append(payload)

    def hold_end(self) -> None:
        """Keep the end until what is held has been read."""
        self._end_waits = True

    def end_arrived(self) -> None:
        if self._paused or self._held:
            self.hold_end()
        elif not self._protocol.eof_received():
            self.close()

    def room_arrived(self) -> None:
        if self._write_paused:
            self._write_paused = False
            self._protocol.resume_writing()

    def lost(self, error: StreamError) -> None:
        self._stream.owner = GONE
        self.finish(error)

    def finish(self, error: StreamError | None) -> None:
        """Tell the protocol, once, that it is over."""
        self._closing = True
        self._held = None
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    def begin_with(self, payloads: Iterable[bytes], *, ended: bool) -> None:
        """Hand over, soon, what came before there was a protocol, and the end if that has come."""
        for payload in payloads:
            self.hold(payload)
        if ended:
            self.hold_end()
        if self._held or self._end_waits:
            asyncio.get_running_loop().call_soon(self._deliver_held)

    def _deliver_held(self) -> None:
        while self._held and not self._paused:
            self._take(self._held.popleft())
        if self._end_waits and not self._held and not self._paused and not self._closing:
            self._end_waits = False
            self.end_arrived()


class Closing:
    """Receives a stream that was closed here, until the other side has ended it too."""

    __slots__ = ("_mux", "_stream", "_timer", "_transport")

    def __init__(self, mux: Mux, stream: Stream, transport: StreamTransport) -> None:
        self._mux = mux
        self._stream = stream
        self._transport = transport
        self._timer = None if stream.ended_there else mux.clock.call_later(LINGER_TIMEOUT, self._give_up)

    def data_arrived(self, payload: bytes) -> None:
        """Dropped, without credit. A reset would overtake what the other side still holds of what we sent."""

    def end_arrived(self) -> None:
        self._cancel()

    def room_arrived(self) -> None:
        """Nobody writes any more."""

    def lost(self, error: StreamError) -> None:
        self._cancel()
        self._transport.finish(error)

    def _give_up(self) -> None:
        self._cancel()
        if not self._stream.gone:
            self._mux.yamux.reset(self._stream)
            self._mux.schedule()
            self._transport.finish(None)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Gone:
    """Receives what is left of a stream whose protocol was told that it is over."""

    __slots__ = ()

    def data_arrived(self, payload: bytes) -> None:
        """Dropped."""

    def end_arrived(self) -> None:
        """Known."""

    def room_arrived(self) -> None:
        """Nobody writes any more."""

    def lost(self, error: StreamError) -> None:
        """Known."""


GONE = _Gone()

"""The yamux state machine, one object per session, for both roles: bytes in, events out; commands in, bytes out.

What is here: stream states, credit, and what happens to a peer that breaks the rules. What is not: the order in which
frames go out (`yamux_writer.py`), sockets, time and callbacks. The caller feeds `receive`, acts on the events in order,
moves what `take` gives to the connection whenever there is room, and tells with `consume` what its reader has taken.

A stream, seen from here (SYN and ACK ride on the first frame that goes out):

    open --finish()--> finished here --FIN arrives--> gone
    open --FIN arrives--> ended there --finish()--> gone
    any  --reset(), RST arrives, rule broken--> gone

Every broken rule resets its stream; MAX_STRIKES of them, or one that leaves the framing in doubt, end the session
with a go-away. Source: hashicorp/yamux, spec.md; ours alone: limits, the growing window, the order of the writer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from towline.wire import yamux_frames as frames
from towline.wire.yamux_frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    MAX_CREDIT_BYTES,
    MAX_STREAM_ID,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
)
from towline.wire.yamux_model import (
    MAX_REMEMBERED_RESETS,
    MIN_ROUND_TRIP_TO_GROW,
    Data,
    Ended,
    Event,
    Failed,
    Limits,
    Opened,
    Ponged,
    Reset,
    Stream,
    TooManyStreams,
    WentAway,
)
from towline.wire.yamux_writer import Writer


class Yamux:
    """One session.

    Args: is_client: the client opens odd stream ids, the server even ones. accepts: whether the peer may open
    streams at all. monotonic: seconds, used only to see how fast a window was drained.
    """

    def __init__(
        self,
        *,
        is_client: bool,
        accepts: bool = True,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self.round_trip = 0.0
        """Seconds, set by the caller when it measured one; 0 keeps every window at its first size."""
        self.failure: str | None = None
        self.strikes = 0
        self.frames_in = 0
        self._accepts = accepts
        self._monotonic = monotonic
        self._streams: dict[int, Stream] = {}
        self._next_id = 1 if is_client else 2
        self._last_peer_id = 0
        self._peer_parity = 0 if is_client else 1
        self._going_away_here = False
        self._going_away_there = False
        self._resets: dict[int, None] = {}
        self._extra_window = 0
        self._partial = b""
        self._body_left = 0
        self._body_stream: Stream | None = None
        self._body_ends = False
        self._writer = Writer(self.limits.max_frame_bytes, self._forget)

    def __repr__(self) -> str:
        state = f"failed: {self.failure}" if self.failure else "open"
        return f"<Yamux {state} streams={len(self._streams)} strikes={self.strikes}>"

    # -- questions ------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Every stream that is not gone."""
        return tuple(self._streams.values())

    @property
    def can_open(self) -> bool:
        """Whether `open` would succeed."""
        return not (
            self.failure is not None
            or self._going_away_there
            or self._going_away_here
            or len(self._streams) >= self.limits.max_streams
            or self._next_id > MAX_STREAM_ID
        )

    @property
    def has_output(self) -> bool:
        """Whether `take` would give bytes."""
        return self._writer.has_output

    @property
    def drained(self) -> list[Stream]:
        """Streams that wanted room and have it; the caller empties the list after each `take`."""
        return self._writer.drained

    # -- commands -------------------------------------------------------------------------

    def open(self) -> Stream:
        """Begin a stream. Its SYN goes out with the first bytes written, or alone when there are none by then.

        Raises: TooManyStreams: see `can_open`.
        """
        if not self.can_open:
            raise TooManyStreams(f"{len(self._streams)} of {self.limits.max_streams} streams are open")
        stream = Stream(self._next_id, SYN)
        self._next_id += 2
        self._streams[stream.id] = stream
        self._writer.enqueue(stream)
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Queue bytes. The caller watches `queued_bytes`; bytes for a gone or finished stream are dropped."""
        if stream.gone or stream.finished_here or not data:
            return
        stream._queue.append(data)
        stream.queued_bytes += len(data)
        if not stream._in_ring and stream._out_window:
            self._writer.enqueue(stream)

    def finish(self, stream: Stream) -> None:
        """Finish our direction after what is queued."""
        if stream.gone or stream.finished_here:
            return
        stream.finished_here = True
        self._writer.enqueue(stream)

    def reset(self, stream: Stream) -> None:
        """Drop the stream at once, its queue included."""
        if stream.gone:
            return
        if stream._first_flags & SYN:
            self._forget(stream)
            return
        self._writer.control(frames.window_update(stream.id, 0, RST | stream._first_flags))
        self._remember_reset(stream.id)
        self._forget(stream)

    def consume(self, stream: Stream, count: int) -> bool:
        """Give back credit for bytes that the reader took; returns whether there is now something to send."""
        stream._uncredited += count
        if stream._uncredited * 2 < stream.window_bytes or stream.gone or stream.ended_there:
            return False
        credit = stream._uncredited + self._growth(stream)
        stream._uncredited = 0
        stream._in_window += credit
        self._writer.credit(stream, credit)
        return True

    def ping(self, opaque: int) -> None:
        """Ask for a `Ponged` with this 32-bit number."""
        self._writer.control(frames.ping(opaque))

    def go_away(self, code: int = frames.NORMAL) -> None:
        """Refuse new streams from now on; those that are open go on."""
        if not self._going_away_here:
            self._going_away_here = True
            self._writer.control(frames.go_away(code))

    def take(self, out: bytearray, budget: int) -> None:
        """Append frames to `out` until it holds about `budget` bytes or nothing can be sent."""
        self._writer.take(out, budget)

    # -- bytes in -------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Parse what arrived, cut anywhere; returns what happened, in order. `data` may be reused afterwards."""
        events: list[Event] = []
        view = memoryview(data)
        at, end = 0, len(view)
        streams = self._streams
        while at < end and self.failure is None:
            if self._body_left:
                at = self._receive_body(view, at, end, events)
                continue
            if self._partial or end - at < HEADER_BYTES:
                missing = HEADER_BYTES - len(self._partial)
                self._partial += bytes(view[at : at + missing])
                at += missing
                if len(self._partial) < HEADER_BYTES:
                    break
                header, self._partial = self._partial, b""
                version, kind, flags, stream_id, length = HEADER.unpack(header)
            else:
                version, kind, flags, stream_id, length = HEADER.unpack_from(view, at)
                at += HEADER_BYTES
            self.frames_in += 1
            if kind == DATA and not flags and not version:
                stream = streams.get(stream_id)
                if stream is not None and length <= stream._in_window and not stream.ended_there:
                    stream._in_window -= length
                    stop = at + length
                    if length and stop <= end:
                        events.append(Data(stream, bytes(view[at:stop])))
                        at = stop
                    else:
                        self._body_stream, self._body_left, self._body_ends = stream, length, False
                    continue
            self._receive_header(version, kind, flags, stream_id, length, events)
        if self._writer.overflowed:
            self._fail("the peer sends without reading", events)
        return events

    def _receive_body(self, view: memoryview, at: int, end: int, events: list[Event]) -> int:
        stop = min(end, at + self._body_left)
        stream = self._body_stream
        if stream is not None and not stream.gone:
            events.append(Data(stream, bytes(view[at:stop])))
        self._body_left -= stop - at
        if not self._body_left and self._body_ends and stream is not None:
            self._ended(stream, events)
        return stop

    def _receive_header(
        self, version: int, kind: int, flags: int, stream_id: int, length: int, events: list[Event]
    ) -> None:
        if version != frames.VERSION:
            self._fail(f"yamux version {version}", events)
        elif kind == DATA:
            self._receive_data(flags, stream_id, length, events)
        elif kind == WINDOW_UPDATE:
            self._receive_credit(flags, stream_id, length, events)
        elif kind == PING:
            self._receive_ping(flags, length, events)
        elif kind == GO_AWAY:
            self._receive_go_away(length, events)
        else:
            self._fail(f"unknown frame type {kind}", events)

    def _receive_data(self, flags: int, stream_id: int, length: int, events: list[Event]) -> None:
        stream = self._addressed(flags, stream_id, events, carries_data=True)
        self._body_stream, self._body_left, self._body_ends = stream, length, False
        if stream is None:
            return
        if stream.ended_there:
            self._break_rule(stream, "data after the end", events)
        elif length > stream._in_window:
            self._break_rule(stream, f"{length} bytes with a credit of {stream._in_window}", events)
        else:
            stream._in_window -= length
            self._body_ends = bool(flags & FIN)
            if self._body_ends and not length:
                self._ended(stream, events)

    def _receive_credit(self, flags: int, stream_id: int, delta: int, events: list[Event]) -> None:
        stream = self._addressed(flags, stream_id, events, carries_data=False)
        if stream is None:
            return
        if stream._out_window + delta > MAX_CREDIT_BYTES:
            self._break_rule(stream, "credit over 32 bits", events)
            return
        stream._out_window += delta
        if stream._queue and delta:
            self._writer.enqueue(stream)
        if flags & FIN:
            self._ended(stream, events)

    def _addressed(self, flags: int, stream_id: int, events: list[Event], *, carries_data: bool) -> Stream | None:
        """Find the stream that a frame is for; None when the frame is to be dropped."""
        stream = self._open_there(stream_id, events) if flags & SYN else self._streams.get(stream_id)
        if stream is None and not flags & SYN:
            self._resets_or_strike(flags, stream_id, carries_data, events)
        elif stream is not None and flags & RST:
            self._forget(stream)
            events.append(Reset(stream))
            return None
        return stream

    def _resets_or_strike(self, flags: int, stream_id: int, carries_data: bool, events: list[Event]) -> None:
        if stream_id in self._resets:
            if flags & (RST | FIN):
                del self._resets[stream_id]
        elif carries_data and not flags & RST:
            self._writer.control(frames.window_update(stream_id, 0, RST))
            self._strike(f"data for stream {stream_id}, which is not open", events)
        elif not self._was_open(stream_id):
            self._strike(f"frame for stream {stream_id}, which never was open", events)

    def _was_open(self, stream_id: int) -> bool:
        """Late credit and late ends for a stream that is gone on both sides are normal."""
        if stream_id % 2 == self._peer_parity:
            return stream_id <= self._last_peer_id
        return 0 < stream_id < self._next_id

    def _open_there(self, stream_id: int, events: list[Event]) -> Stream | None:
        known = self._streams.get(stream_id)
        if known is not None:
            self._break_rule(known, "opened twice", events)
        elif stream_id % 2 != self._peer_parity or stream_id <= self._last_peer_id:
            self._refuse(stream_id)
            self._strike(f"stream id {stream_id} is not the peer's next", events)
        elif not self._accepts:
            self._refuse(stream_id)
            self._strike("this side accepts no streams", events)
        elif self._going_away_here or len(self._streams) >= self.limits.max_streams:
            self._last_peer_id = stream_id
            self._refuse(stream_id)
        else:
            return self._accept(stream_id, events)
        return None

    def _accept(self, stream_id: int, events: list[Event]) -> Stream:
        self._last_peer_id = stream_id
        stream = Stream(stream_id, ACK)
        self._streams[stream_id] = stream
        self._writer.enqueue(stream)
        events.append(Opened(stream))
        return stream

    def _receive_ping(self, flags: int, opaque: int, events: list[Event]) -> None:
        if flags & SYN:
            self._writer.control(frames.ping(opaque, ACK))
        elif flags & ACK:
            events.append(Ponged(opaque))

    def _receive_go_away(self, code: int, events: list[Event]) -> None:
        self._going_away_there = True
        events.append(WentAway(code))

    def _ended(self, stream: Stream, events: list[Event]) -> None:
        if stream.gone or stream.ended_there:
            return
        stream.ended_there = True
        events.append(Ended(stream))
        if stream.end_sent:
            self._forget(stream)

    # -- rules ----------------------------------------------------------------------------

    def _break_rule(self, stream: Stream, rule: str, events: list[Event]) -> None:
        self._body_stream = None
        self.reset(stream)
        events.append(Reset(stream, rule))
        self._strike(f"stream {stream.id}: {rule}", events)

    def _refuse(self, stream_id: int) -> None:
        self._remember_reset(stream_id)
        self._writer.control(frames.window_update(stream_id, 0, RST))

    def _strike(self, rule: str, events: list[Event]) -> None:
        self.strikes += 1
        if self.strikes > self.limits.max_strikes:
            self._fail(f"too many broken rules, the last: {rule}", events)

    def _fail(self, reason: str, events: list[Event]) -> None:
        if self.failure is None:
            self.failure = reason
            self._writer.control(frames.go_away(frames.PROTOCOL_ERROR), always=True)
            events.append(Failed(reason))

    def _remember_reset(self, stream_id: int) -> None:
        resets = self._resets
        resets[stream_id] = None
        if len(resets) > MAX_REMEMBERED_RESETS:
            del resets[next(iter(resets))]

    def _forget(self, stream: Stream) -> None:
        stream.gone = True
        stream._queue.clear()
        stream.queued_bytes = 0
        self._extra_window -= stream._grown_bytes
        self._streams.pop(stream.id, None)

    def _growth(self, stream: Stream) -> int:
        """How much wider the window of a stream gets half of which was drained within one round trip."""
        now = self._monotonic()
        quick = now - stream._last_credit_at < self.round_trip
        stream._last_credit_at = now
        if not quick or self.round_trip < MIN_ROUND_TRIP_TO_GROW:
            return 0
        room = min(
            self.limits.max_window_bytes - stream.window_bytes,
            self.limits.max_extra_window_bytes - self._extra_window,
        )
        growth = max(0, min(stream.window_bytes, room))
        stream._grown_bytes += growth
        self._extra_window += growth
        return growth

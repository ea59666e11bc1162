"""The fair writer of a yamux session: which frame goes out next. What may be written is decided in `yamux.py`.

Control frames go first, then credit, then streams that were silent until now, then the others in turn, one frame
each: a short answer waits for one frame of every busy stream at most, and usually for none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from towline.wire.yamux_frames import DATA, FIN, HEADER, HEADER_BYTES, WINDOW_UPDATE
from towline.wire.yamux_model import LOW_WATER_BYTES, MAX_WAITING_CONTROL_FRAMES, Stream

_NO_HEADER = bytes(HEADER_BYTES)


class Writer:
    """Queues of one session. `forget` is called with a stream whose last frame has gone out."""

    __slots__ = ("_control", "_credits", "_forget", "_fresh", "_max_frame_bytes", "_ring", "drained", "overflowed")

    def __init__(self, max_frame_bytes: int, forget: Callable[[Stream], None]) -> None:
        self.drained: list[Stream] = []
        self.overflowed = False
        """More control frames wait than a peer that reads would ever leave there."""
        self._max_frame_bytes = max_frame_bytes
        self._forget = forget
        self._control: deque[bytes] = deque()
        self._credits: deque[Stream] = deque()
        self._fresh: deque[Stream] = deque()
        self._ring: deque[Stream] = deque()

    @property
    def has_output(self) -> bool:
        return bool(self._control or self._credits or self._fresh or self._ring)

    def control(self, frame: bytes, *, always: bool = False) -> None:
        """Queue a frame that belongs to no stream's data; dropped, and noted, when too many wait."""
        if always or len(self._control) < MAX_WAITING_CONTROL_FRAMES:
            self._control.append(frame)
        else:
            self.overflowed = True

    def credit(self, stream: Stream, count: int) -> None:
        """Queue a window update; several for one stream become one."""
        if not stream._credit_due:
            self._credits.append(stream)
        stream._credit_due += count

    def enqueue(self, stream: Stream) -> None:
        """Give a stream a turn."""
        if not stream._in_ring:
            stream._in_ring = True
            self._fresh.append(stream)

    def take(self, out: bytearray, budget: int) -> None:
        """Append frames to `out` until it holds about `budget` bytes or nothing can be sent."""
        control = self._control
        while control:
            out += control.popleft()
        while self._credits:
            _take_credit(self._credits.popleft(), out)
        fresh, ring = self._fresh, self._ring
        while len(out) < budget:
            if fresh:
                stream, was_fresh = fresh.popleft(), True
            elif ring:
                stream, was_fresh = ring.popleft(), False
            else:
                return
            # A fresh stream keeps a turn in a busy ring, so that many small writes do not stay fresh for ever.
            if self._take_frame(stream, out) or (was_fresh and ring and not stream.gone):
                ring.append(stream)
            else:
                stream._in_ring = False

    def _take_frame(self, stream: Stream, out: bytearray) -> bool:
        """Append one frame; returns whether the stream could send another one."""
        if stream.gone:
            return False
        queue = stream._queue
        if not queue:
            self._take_bare_frame(stream, out)
            return False
        window = stream._out_window
        if not window:
            return False
        at = len(out)
        out += _NO_HEADER
        size = _take_body(queue, min(window, self._max_frame_bytes), out)
        stream._out_window = window - size
        stream.queued_bytes -= size
        flags = stream._first_flags
        stream._first_flags = 0
        ends = stream.finished_here and not queue
        HEADER.pack_into(out, at, 0, DATA, flags | FIN if ends else flags, stream.id, size)
        if stream.wants_room and stream.queued_bytes <= LOW_WATER_BYTES:
            stream.wants_room = False
            self.drained.append(stream)
        if ends:
            self._sent_end(stream)
        return bool(queue) and stream._out_window > 0

    def _take_bare_frame(self, stream: Stream, out: bytearray) -> None:
        """Append a SYN, ACK or FIN that finds no data to ride on, if there is one."""
        ends = stream.finished_here and not stream.end_sent
        flags = stream._first_flags | FIN if ends else stream._first_flags
        if flags:
            out += HEADER.pack(0, WINDOW_UPDATE, flags, stream.id, 0)
            stream._first_flags = 0
        if ends:
            self._sent_end(stream)

    def _sent_end(self, stream: Stream) -> None:
        stream.end_sent = True
        if stream.ended_there:
            self._forget(stream)


def _take_body(queue: deque[bytes | memoryview], room: int, out: bytearray) -> int:
    """Move at most `room` bytes, small chunks together; returns how many."""
    chunk = queue[0]
    size = len(chunk)
    if size > room:
        view = memoryview(chunk)
        out += view[:room]
        queue[0] = view[room:]
        return room
    out += queue.popleft()
    while queue and size + len(queue[0]) <= room:
        chunk = queue.popleft()
        size += len(chunk)
        out += chunk
    return size


def _take_credit(stream: Stream, out: bytearray) -> None:
    if not stream.gone:
        out += HEADER.pack(0, WINDOW_UPDATE, stream._first_flags, stream.id, stream._credit_due)
        stream._first_flags = 0
    stream._credit_due = 0

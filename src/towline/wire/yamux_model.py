"""What the yamux machine and its callers share: limits, events and the state of one stream. No behaviour here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from towline.wire.yamux_frames import INITIAL_WINDOW_BYTES

MAX_STREAMS = 512
"""Open streams of one session: at one window each, 128 MiB is the worst that one agent can make us hold."""

MAX_FRAME_BYTES = 32 * 1024
"""Largest body that we send: 256 KiB saves a third of the CPU per byte but makes every other stream wait longer."""

MAX_STRIKES = 16
"""Broken rules that reset only their stream. A peer with a bug in one stream survives, one that probes does not."""

MAX_WAITING_CONTROL_FRAMES = 1024
"""Pongs and resets that wait for a peer that sends but does not read: 12 KiB, then the session ends."""

MAX_REMEMBERED_RESETS = 512
"""Streams that we reset, whose frames may still be on their way: those are dropped without a strike."""

MAX_WINDOW_BYTES = 4 * 1024 * 1024
"""Largest window of a stream that keeps draining: 80 MB/s at 50 ms round trip."""

MAX_EXTRA_WINDOW_BYTES = 32 * 1024 * 1024
"""Growth that all streams of a session share, so that the worst case stays one number."""

LOW_WATER_BYTES = 32 * 1024
"""Queue at which a stream that `wants_room` is reported: one frame is still there to keep the link busy."""

MIN_ROUND_TRIP_TO_GROW = 0.001
"""Seconds. Below it the first window allows 250 MB/s, and growing would only delay the other streams."""


class Opened(msgspec.Struct, gc=False):
    """The peer opened a stream. Reset it to refuse."""

    stream: Stream


class Data(msgspec.Struct, gc=False):
    """Bytes of a stream, at least one. Report them with `consume` when the reader has them."""

    stream: Stream
    payload: bytes


class Ended(msgspec.Struct, gc=False):
    """The peer finished its direction."""

    stream: Stream


class Reset(msgspec.Struct, gc=False):
    """The stream is gone. `broken_rule` is empty when the peer reset it."""

    stream: Stream
    broken_rule: str = ""


class Ponged(msgspec.Struct, gc=False):
    """The answer to our `ping`."""

    opaque: int


class WentAway(msgspec.Struct, gc=False):
    """The peer accepts no new streams. With a code other than `NORMAL` it is about to close."""

    code: int


class Failed(msgspec.Struct, gc=False):
    """The peer broke the protocol; a go-away is on its way out. Nothing follows: close the connection."""

    reason: str


Event: TypeAlias = Opened | Data | Ended | Reset | Ponged | WentAway | Failed


class TooManyStreams(Exception):
    """No further stream can be opened in this session now."""


class Stream:
    """The state of one stream. Callers may read it and hang their own object on `owner`; only the machine writes."""

    __slots__ = (
        "_credit_due",
        "_first_flags",
        "_grown_bytes",
        "_in_ring",
        "_in_window",
        "_last_credit_at",
        "_out_window",
        "_queue",
        "_uncredited",
        "end_sent",
        "ended_there",
        "finished_here",
        "gone",
        "id",
        "owner",
        "queued_bytes",
        "wants_room",
    )

    def __init__(self, stream_id: int, first_flags: int) -> None:
        self.id = stream_id
        self.owner: Any = None
        self.queued_bytes = 0
        """Bytes written and not yet taken."""
        self.wants_room = False
        """Set it to find the stream in `drained` when its queue has shrunk to LOW_WATER_BYTES."""
        self.finished_here = False
        self.ended_there = False
        self.gone = False
        self._first_flags = first_flags
        self._queue: deque[bytes | memoryview] = deque()
        self._in_ring = False
        self._out_window = INITIAL_WINDOW_BYTES
        self._in_window = INITIAL_WINDOW_BYTES
        self._grown_bytes = 0
        self._uncredited = 0
        self._credit_due = 0
        self._last_credit_at = float("-inf")
        self.end_sent = False
        """Everything written, and the end behind it, has been taken."""

    def __repr__(self) -> str:
        here = "finished" if self.finished_here else "open"
        there = "ended" if self.ended_there else "open"
        state = "gone" if self.gone else f"{here}/{there}"
        return f"<Stream {self.id} {state} queued={self.queued_bytes} credit={self._out_window}>"

    @property
    def window_bytes(self) -> int:
        """What the peer may have in flight to us: the first window and its growth."""
        return INITIAL_WINDOW_BYTES + self._grown_bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may use; the constants above are the defaults and say why."""

    max_streams: int = MAX_STREAMS
    max_frame_bytes: int = MAX_FRAME_BYTES
    max_strikes: int = MAX_STRIKES
    max_window_bytes: int = MAX_WINDOW_BYTES
    max_extra_window_bytes: int = MAX_EXTRA_WINDOW_BYTES

"""What a command prints: gathered into chunks in the order of arrival, bounded, counted beyond the bound."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from towline.aio.clock import REAL_CLOCK, Clock, Timer
from towline.compose.text import clean
from towline.wire import orders

GATHER_INTERVAL = 0.1
"""Seconds that text waits for more: one event for all of it."""

MOST_CHUNKS = 20_000
"""Chunks of one command: a log that grows by one line a second is followed for more than five hours."""

LONGEST_LAST_LINE = 1_000
"""Characters of the line that tells why a command failed."""

Keep = Callable[[str, str], None]
"""Takes a stage (`stdout`, `stderr`) and a safe text of at most MAX_OUTPUT_CHUNK characters."""


class Output:
    """Both outputs of one command. Call `close` at its end."""

    def __init__(self, keep: Keep, limit_bytes: int = orders.OUTPUT_BYTES, *, clock: Clock = REAL_CLOCK) -> None:
        self._keep = keep
        self._room = limit_bytes
        self._clock = clock
        self._chunks = MOST_CHUNKS
        self._stage = orders.STDOUT
        self._text = ""
        self._timer: Timer | None = None
        self._decoders = {stage: codecs.getincrementaldecoder("utf-8")("replace") for stage in self._stages}
        self.bytes = dict.fromkeys(self._stages, 0)
        """What was printed by stage, kept or not."""
        self.truncated = False
        self.last_error_line = ""

    _stages = (orders.STDOUT, orders.STDERR)

    def __repr__(self) -> str:
        return f"<Output {self.bytes}{' truncated' if self.truncated else ''}>"

    @property
    def is_full(self) -> bool:
        """True when nothing more is kept: what ends of itself is still counted, what follows may stop."""
        return self._room <= 0 or self._chunks <= 0

    def line(self, text: str) -> None:
        """Print a line."""
        self.write(orders.STDOUT, text.encode() + b"\n")

    def error(self, text: str) -> None:
        """Print a line on the standard error."""
        self.write(orders.STDERR, text.encode() + b"\n")

    def write(self, stage: str, data: bytes) -> None:
        """Print bytes as they come; a character may be cut between two calls."""
        self.bytes[stage] += len(data)
        if self._room < len(data) or self._chunks <= 0:
            self.truncated = True
        if self.is_full:
            return
        data = data[: self._room]
        self._room -= len(data)
        if stage != self._stage:
            self.flush()
            self._stage = stage
        self._text += self._decoders[stage].decode(data)
        self._cut()
        if self._text and self._timer is None:
            self._timer = self._clock.call_later(GATHER_INTERVAL, self.flush)

    def flush(self) -> None:
        """Hand over what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._text = self._text, ""
        if text:
            self._hand_over(text)

    def close(self) -> None:
        """Hand over all that is left."""
        rest = self._decoders[self._stage].decode(b"", True)
        self._text += rest
        self.flush()

    def _cut(self) -> None:
        """Hand over whole chunks, at the end of a line where there is one."""
        while len(self._text) > orders.MAX_OUTPUT_CHUNK:
            end = self._text.rfind("\n", 0, orders.MAX_OUTPUT_CHUNK) + 1 or orders.MAX_OUTPUT_CHUNK
            text, self._text = self._text[:end], self._text[end:]
            self._hand_over(text)

    def _hand_over(self, text: str) -> None:
        # Escaping makes text longer, at most sixfold; the pieces are cut again so that none is lost on the way.
        safe = clean(text, limit=len(text) * 24)
        if self._stage == orders.STDERR:
            lines = [line for line in safe.splitlines() if line.strip()]
            self.last_error_line = lines[-1][:LONGEST_LAST_LINE] if lines else self.last_error_line
        for begin in range(0, len(safe), orders.MAX_OUTPUT_CHUNK):
            if self._chunks <= 0:
                self.truncated = True
                return
            self._chunks -= 1
            self._keep(self._stage, safe[begin : begin + orders.MAX_OUTPUT_CHUNK])

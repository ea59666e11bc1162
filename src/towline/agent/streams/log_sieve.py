"""Which lines of one container go to the reader: order, where to begin, where to end, what they must hold. Pure.

The two outputs of a container are stamped before they are written, so that a line can stand behind one of a slightly
later stamp. It is then given its predecessor's stamp: stamps never fall, which is what makes a cursor exact. Whoever
reads again begins ORDER_SLACK earlier and comes to the same stamps.
"""

from __future__ import annotations

from towline.agent.streams.log_lines import Line
from towline.agent.streams.log_times import PREFIX_BYTES, STAMP_BYTES, BadMoment, Cursor, earlier

ORDER_SLACK = 1.0
"""Seconds by which lines are out of order at most; what lies further back is a clock that was set."""


class Sieve:
    """The sieve of one container, for as long as its log is sent.

    Args: since: stamp; lines up to and with it are left out. until: stamp of the last lines that are wanted. text:
        what a line must hold behind its stamp. cursor: the reader has had so much; counts only lines that hold the
        text, as the reader has seen no others.
    """

    def __init__(
        self, *, since: bytes = b"", until: bytes = b"", text: bytes = b"", cursor: Cursor | None = None
    ) -> None:
        self.until = until
        self._text = text
        self._cursor = cursor if cursor is not None and cursor.stamp > since else None
        self._floor = self._cursor.stamp if self._cursor else since
        self._counts_all = False
        self._left = 0
        self._is_below = False
        self._first = b""
        self._last = b""
        self._same = 0
        self._met = False
        self._gap = False
        self.retry()

    def __repr__(self) -> str:
        return f"<Sieve at {self._last.decode()}/{self._same}>"

    @property
    def is_resumed(self) -> bool:
        """True when lines from a known one on are wanted, rather than a tail."""
        return self._cursor is not None

    @property
    def has_passed(self) -> bool:
        """Whether there was any line behind the one where to begin."""
        return bool(self._last) and not self._is_below

    @property
    def begin(self) -> bytes:
        """Stamp to read from; empty: from the beginning."""
        return earlier(self._floor, ORDER_SLACK) if self._floor else b""

    @property
    def is_unsure(self) -> bool:
        """Whether what was read began at or behind the cursor's line: one before it proves that none is missing."""
        return self._cursor is not None and self._first >= self._floor

    def found_gap(self) -> bool:
        """Tell once whether the cursor's line was not there any more: lines behind it may be missing as well."""
        found, self._gap = self._gap, False
        return found

    def begin_behind(self, stamp: bytes) -> None:
        """Leave out everything up to a moment."""
        self._cursor, self._floor = None, stamp
        self.retry()

    def rewind(self) -> None:
        """The log will be read again from `begin`: leave out what has passed."""
        if self.has_passed:
            self._cursor = Cursor(self._last, self._same)
            self._counts_all = True
            self._floor = self._last
        self.retry()

    def retry(self) -> None:
        """What was sifted since the last `rewind` was thrown away and will be read again."""
        self._left = self._cursor.count if self._cursor else 0
        self._is_below = bool(self._floor)
        self._first = b""
        self._last = b""
        self._same = 0
        self._met = self._gap = False

    def sift(self, lines: list[Line]) -> list[Line]:
        """Return the lines that go to the reader."""
        if not lines:
            return []
        self._first = self._first or lines[0][1][:STAMP_BYTES]
        kept: list[Line] = []
        last, same, floor, until, text = self._last, self._same, self._floor, self.until, self._text
        below = self._is_below
        for each in lines:
            line = each[1]
            stamp = line[:STAMP_BYTES]
            if stamp > last:
                last, same = stamp, 1
                below = below and stamp <= floor
                if stamp == floor:
                    self._met = True
            elif stamp == last:
                same += 1
            elif _is_late(stamp, last):
                same += 1
                line = last + line[STAMP_BYTES:]
                each = (each[0], line)
            else:
                last, same, below = stamp, 1, False
            if below:
                below = self._is_known(last, line)
                if below:
                    continue
            if (until and last > until) or (text and line.find(text, PREFIX_BYTES) < 0):
                continue
            kept.append(each)
        self._last, self._same, self._is_below = last, same, below
        if self._cursor is not None and not self._met and not below:
            self._met = self._gap = True
        return kept

    def _is_known(self, stamp: bytes, line: bytes) -> bool:
        """Tell whether the reader has had a line that does not lie behind the floor."""
        if stamp < self._floor or self._cursor is None:
            return True
        if not self._left:
            return False
        if self._counts_all or line.find(self._text, PREFIX_BYTES) >= 0:
            self._left -= 1
        return True


def _is_late(stamp: bytes, last: bytes) -> bool:
    """Tell whether a line only lost a race, rather than the clock having been set back."""
    try:
        return stamp >= earlier(last, ORDER_SLACK)
    except BadMoment:
        return False

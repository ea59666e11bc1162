"""Turns the log stream's frames into lines, and remembers where each container's log was read up to.

A cursor is `TIMESTAMP/COUNT`: so many lines of that very timestamp were printed, so that a new connection goes on
without loss and without doubles. No sockets here.
"""

import re
from collections.abc import Iterator

import msgspec

from towline.wire.streams import EVENT, SOURCE, STDERR, STDOUT, Frame, FrameReader, LogSource

UNSAFE = re.compile(rb"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\x9b")
"""Control characters that could steer a terminal; colours (SGR) stay."""
PREFIX_COLOURS = (36, 35, 33, 32, 94, 95)


class LogPrinter:
    """Cuts frames into printable blocks. One instance for all connections of one `towline logs`."""

    def __init__(self, *, timestamps: bool = False, names: bool = True, colours: bool = False) -> None:
        self.cursors: dict[str, str] = {}
        self._timestamps, self._names, self._colours = timestamps, names, colours
        self._reader = FrameReader()
        self._sources: dict[int, LogSource] = {}
        self._colour_of: dict[str, int] = {}

    def reconnected(self) -> None:
        """Forget the half frame and the numbers of the last connection; keep the cursors."""
        self._reader = FrameReader()
        self._sources.clear()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (STDOUT or STDERR or EVENT, text) blocks, each of whole lines."""
        for frame in self._reader.feed(data):
            if frame.kind == SOURCE:
                self._sources[frame.source] = msgspec.json.decode(frame.body, type=LogSource)
            elif frame.kind in (STDOUT, STDERR) and frame.source in self._sources:
                yield frame.kind, self._block(frame)
            elif frame.kind == EVENT:
                yield EVENT, self._event(frame)

    def _block(self, frame: Frame) -> bytes:
        source = self._sources[frame.source]
        lines = frame.body.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if not lines:
            return b""
        self._remember(source.container, lines)
        prefix = self._prefix(source)
        if self._timestamps:
            text = b"".join([prefix + line + b"\n" for line in lines])
        else:
            text = b"".join([prefix + line[line.find(b" ") + 1 :] + b"\n" for line in lines])
        return UNSAFE.sub(b"", text) if self._colours else text

    def _remember(self, container: str, lines: list[bytes]) -> None:
        last = lines[-1].partition(b" ")[0]
        count = 0
        for line in reversed(lines):
            if not line.startswith(last):
                break
            count += 1
        held, _, held_count = self.cursors.get(container, "/0").partition("/")
        stamp = last.decode("ascii", "replace")
        if held == stamp and count == len(lines):
            count += int(held_count)
        self.cursors[container] = f"{stamp}/{count}"

    def _prefix(self, source: LogSource) -> bytes:
        if not self._names:
            return b""
        name = source.service or source.name
        if not self._colours:
            return f"{name} | ".encode()
        colour = self._colour_of.setdefault(name, PREFIX_COLOURS[len(self._colour_of) % len(PREFIX_COLOURS)])
        return f"\x1b[{colour}m{name} | \x1b[0m".encode()

    def _event(self, frame: Frame) -> bytes:
        source = self._sources.get(frame.source)
        text = msgspec.json.decode(frame.body).get("text", "")
        return UNSAFE.sub(b"", f"-- {source.name if source else ''} {text}\n".encode())

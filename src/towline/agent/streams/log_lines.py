"""From what the engine gives to whole lines: cutting, and joining what the engine split. Pure, and on the hot path.

A line is `STAMP SPACE text NEWLINE` as bytes, 64 KiB at most. The engine splits lines at 16 KiB into entries; each has
a stamp of its own in front, all of one line the same one, and only the last ends with a newline.
Source: Docker Engine API, "Attach to a container", "Stream format"; moby daemon/logger/copier.go.
"""

from __future__ import annotations

import struct
from itertools import groupby
from operator import itemgetter

import msgspec

from towline.agent.streams.log_times import PREFIX_BYTES, full_stamp
from towline.wire import streams

MAX_LINE_BYTES = 64 * 1024
"""With its stamp and newline. A longer line is cut; what is left out is not held either."""

BLOCK_BYTES = 64 * 1024
"""Largest body of a frame: a quarter of a window, so that a slow reader holds little and a fast one never waits."""

CUT_NOTE = b" (line cut)\n"

ENTRY_BYTES = 16 * 1024
"""Text of an entry that the engine split off."""

_HEAD = struct.Struct(">BxxxI")
_ERROR = 3
"""The engine's own words about the log, instead of one of the two outputs."""

Line = tuple[int, bytes]
"""Kind of frame, STDOUT or STDERR, and the line."""


class Joiner:
    """Puts lines together that the engine split."""

    def __init__(self) -> None:
        self.open: dict[int, bytearray] = {}
        """Per output: the line that has not ended."""

    def add(self, lines: list[Line], kind: int, entry: bytes) -> None:
        """Take one entry; append to `lines` what is whole now."""
        held = self.open.pop(kind, None)
        if held is not None and not entry.startswith(bytes(held[:PREFIX_BYTES])):
            lines.append((kind, _ended(held)))  # its container stopped in the middle of a line
            held = None
        held = bytearray(entry) if held is None else _extended(held, entry[PREFIX_BYTES:])
        if entry.endswith(b"\n"):
            lines.append((kind, _ended(held)))
        else:
            self.open[kind] = held

    def flush(self) -> list[Line]:
        """Return the lines that will never end."""
        lines = [(kind, _ended(held)) for kind, held in self.open.items()]
        self.open.clear()
        return lines


class FrameCutter:
    """Cuts the engine's stream of frames, one entry in each."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """What the engine said about the log; the caller empties it."""
        self._rest = b""
        self._joiner = Joiner()

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the lines that are whole."""
        if self._rest:
            data = self._rest + data
        lines: list[Line] = []
        at, end, unpack, opened = 0, len(data), _HEAD.unpack_from, self._joiner.open
        while end - at >= 8:
            kind, length = unpack(data, at)
            stop = at + 8 + length
            if stop > end:
                break
            if not opened and data[stop - 1] == 10 and length <= MAX_LINE_BYTES and kind < _ERROR:
                lines.append((kind, data[at + 8 : stop]))
            elif kind == _ERROR:
                self.errors.append(data[at + 8 : stop].decode("utf-8", "replace").strip())
            else:
                self._joiner.add(lines, kind, data[at + 8 : stop])
            at = stop
        self._rest = data[at:]
        return lines

    def flush(self) -> list[Line]:
        """Return what is left when the container has stopped."""
        return self._joiner.flush()


class TerminalCutter:
    """Cuts the raw stream of a container with a terminal."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the lines that are whole."""
        *whole, rest = (self._rest + data).split(b"\n")
        # A line that never ends must not fill the memory; one that is cut keeps its beginning.
        self._rest = rest if len(rest) <= 2 * MAX_LINE_BYTES else rest[: 2 * MAX_LINE_BYTES]
        return [(streams.STDOUT, _terminal_line(line)) for line in whole]

    def flush(self) -> list[Line]:
        """Return what is left when the container has stopped."""
        rest, self._rest = self._rest, b""
        return [(streams.STDOUT, _terminal_line(rest))] if len(rest) > PREFIX_BYTES else []


class _Entry(msgspec.Struct, gc=False):
    """One line of a json-file log."""

    log: str = ""
    stream: str = ""
    time: str = ""


class FileCutter:
    """Cuts a file of the engine's `json-file` driver; fed with whole lines of the file."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.errors: list[str] = []
        self._is_terminal = is_terminal
        self._joiner = Joiner()
        self._decoder = msgspec.json.Decoder(_Entry)

    def feed(self, data: bytes) -> list[Line]:
        """Take lines of the file; returns the lines of the log. Lines that are no entries are left out."""
        lines: list[Line] = []
        opened = self._joiner.open
        for entry in self._entries(data):
            kind = streams.STDERR if entry.stream == "stderr" else streams.STDOUT
            line = f"{full_stamp(entry.time)} {entry.log}".encode()
            if not opened and line[-1] == 10 and len(line) <= MAX_LINE_BYTES:
                lines.append((kind, line))
            else:
                self._joiner.add(lines, kind, line)
        return [(kind, _ended_terminal(line)) for kind, line in lines] if self._is_terminal else lines

    def flush(self) -> list[Line]:
        """Return what is left at the end of the file."""
        return self._joiner.flush()

    def _entries(self, data: bytes) -> list[_Entry]:
        try:
            return self._decoder.decode_lines(data)
        except msgspec.DecodeError:
            entries = []
            for line in data.split(b"\n"):
                try:
                    entries.append(self._decoder.decode(line))
                except msgspec.DecodeError:
                    continue
            return entries


Cutter = FrameCutter | TerminalCutter | FileCutter


def frames(lines: list[Line], source: int) -> list[bytes]:
    """Pack lines into frames: runs of one output together, none larger than a block."""
    packed = []
    for kind, run in groupby(lines, key=itemgetter(0)):
        block: list[bytes] = []
        size = 0
        for _, line in run:
            if size + len(line) > BLOCK_BYTES:
                packed.append(streams.encode_frame(kind, b"".join(block), source))
                block, size = [], 0
            block.append(line)
            size += len(line)
        packed.append(streams.encode_frame(kind, b"".join(block), source))
    return packed


def _extended(held: bytearray, part: bytes) -> bytearray:
    if len(held) <= MAX_LINE_BYTES:
        held += part
    return held


def _ended(held: bytearray) -> bytes:
    line = bytes(held) if held.endswith(b"\n") else bytes(held) + b"\n"
    return line if len(line) <= MAX_LINE_BYTES else line[: MAX_LINE_BYTES - len(CUT_NOTE)] + CUT_NOTE


def _ended_terminal(line: bytes) -> bytes:
    return line[:-2] + b"\n" if line.endswith(b"\r\n") else line


def _terminal_line(line: bytes) -> bytes:
    """Finish a line of a terminal: without its carriage return, and without the stamps inside a split one."""
    prefix = line[:PREFIX_BYTES]
    at = PREFIX_BYTES + ENTRY_BYTES
    if len(line) > at and line.startswith(prefix, at):
        parts = [line[:at]]
        while len(line) > at and line.startswith(prefix, at):
            parts.append(line[at + PREFIX_BYTES : at + PREFIX_BYTES + ENTRY_BYTES])
            at += PREFIX_BYTES + ENTRY_BYTES
        line = b"".join([*parts, line[at:]])
    return _ended(bytearray(line.removesuffix(b"\r")))

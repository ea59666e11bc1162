"""The last frame of a command over SPDY/3.1 whose other side has gone. Pure: reads along, changes nothing.

Clients that run commands by SPDY alone, as kubectl up to 1.28 does, take every end of the connection for the end of the
command, with exit code 0, unless something was written to the command's error stream. So whoever passes the bytes on
watches where frames end, and writes the last frame itself when the other side has gone without one.

Not here: what the streams carry (`kube.spdy`). Source: SPDY Protocol, draft 3.1, sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
import zlib

from towline.kube.spdy import DICTIONARY, HEAD_BYTES, SYN_STREAM
from towline.kube.status import status

RST_STREAM, GOAWAY = 3, 7
FIN = 0x01
_CONTROL, _VERSION = 0x80000000, 3
_LARGEST_OPENING = 16 * 1024
"""Bytes of a frame that opens a stream; those of commands have some sixty."""


class Frames:
    """Follows the frames of one direction, however their bytes are cut."""

    __slots__ = ("_head", "_kept", "_left", "_wanted", "is_lost")

    def __init__(self, wanted: int = -1) -> None:
        """`wanted`: the kind of control frame whose content is kept."""
        self._wanted = wanted
        self._head = b""
        self._left = 0
        self._kept: bytearray | None = None
        self.is_lost = False
        """These are no frames of SPDY/3, or too large ones."""

    @property
    def is_between(self) -> bool:
        """True where one frame has ended and the next has not begun."""
        return not self._left and not self._head and not self.is_lost

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take bytes. Returns: of each frame that began its first word, its flags with its length, and what was kept
        of one that is wanted; that one comes when it is whole.
        """
        found: list[tuple[int, int, bytes]] = []
        at = 0
        while at < len(data) and not self.is_lost:
            if self._left:
                at = self._pass(data, at, found)
                continue
            piece = data[at : at + HEAD_BYTES - len(self._head)]
            at += len(piece)
            self._head += piece
            if len(self._head) == HEAD_BYTES:
                self._begin(found)
        return found

    def _begin(self, found: list[tuple[int, int, bytes]]) -> None:
        first, second = struct.unpack(">II", self._head)
        self._left = second & 0xFFFFFF
        is_control = bool(first & _CONTROL)
        if is_control and (first >> 16) & 0x7FFF != _VERSION:
            self.is_lost = True
        elif is_control and first & 0xFFFF == self._wanted:
            self.is_lost = not 0 < self._left <= _LARGEST_OPENING
            self._kept = bytearray()
            return
        else:
            found.append((first, second, b""))
        self._head = b""

    def _pass(self, data: bytes, at: int, found: list[tuple[int, int, bytes]]) -> int:
        end = min(len(data), at + self._left)
        self._left -= end - at
        if self._kept is not None:
            self._kept += data[at:end]
            if not self._left:
                first, second = struct.unpack(">II", self._head)
                found.append((first, second, bytes(self._kept)))
                self._kept, self._head = None, b""
        return end


class CommandWitness:
    """Reads along while a command runs, in both directions."""

    __slots__ = ("_client", "_error_stream", "_is_told", "_target")

    def __init__(self) -> None:
        self._client: Frames | None = Frames(SYN_STREAM)
        self._target = Frames()
        self._error_stream = 0
        self._is_told = False

    def __repr__(self) -> str:
        return f"<CommandWitness error={self._error_stream} told={self._is_told}>"

    def from_client(self, data: bytes) -> None:
        """Take bytes of the client: its first stream is the one for errors."""
        if self._client is None:
            return
        for first, _, content in self._client.feed(data):
            if first & _CONTROL and first & 0xFFFF == SYN_STREAM:
                self._client = None
                if _is_for_errors(content):
                    self._error_stream = struct.unpack(">I", content[:4])[0] & 0x7FFFFFFF
                return

    def from_target(self, data: bytes) -> None:
        """Take bytes of the other side."""
        for first, _, _ in self._target.feed(data):
            if first & _CONTROL:
                self._is_told = self._is_told or first & 0xFFFF in (RST_STREAM, GOAWAY)
            elif first == self._error_stream:
                self._is_told = True

    def last_words(self, why: str) -> bytes:
        """Return the frame that tells the client that its command failed; empty where there is no room for one.

        That is after the other side has told it, and within one of its frames.
        """
        if not self._error_stream or self._is_told or not self._target.is_between:
            return b""
        self._is_told = True
        body = status(500, "", why)
        return struct.pack(">II", self._error_stream, FIN << 24 | len(body)) + body


def _is_for_errors(content: bytes) -> bool:
    """Tell whether the frame that opens a stream says that it is the one for errors; its header block is the first."""
    unpack = zlib.decompressobj(zdict=DICTIONARY)
    try:
        block = unpack.decompress(content[10:], _LARGEST_OPENING)
    except zlib.error:
        return False
    return b"\x0astreamtype\x00\x00\x00\x05error" in block

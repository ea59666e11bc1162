"""Recordings in asciicast version 2: a head in one line, and one line for each event. Pure; one thread at a time.

Output is cut anywhere, also within a character: what is incomplete waits for its rest, what is no UTF-8 is replaced.
Source: docs.asciinema.org, "asciicast v2".
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping
from typing import Any

Piece = tuple[float, str, bytes]
"""Seconds from the beginning, kind (`o`, `i`, `r` or `m`), and what it was."""
MEDIA_TYPE = "application/x-asciicast"


class Encoder:
    """Turns pieces into lines."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"o": make("replace"), "i": make("replace")}

    def lines(self, pieces: Iterable[Piece]) -> bytes:
        """Return the lines of some pieces; neighbours of one moment are not joined, so that speed stays true."""
        return b"".join(self._line(at, kind, data) for at, kind, data in pieces)

    def rest(self, at: float) -> bytes:
        """Return the line of what never became whole."""
        text = self._decoders["o"].decode(b"", final=True)
        return line(at, "o", text) if text else b""

    def _line(self, at: float, kind: str, data: bytes) -> bytes:
        decoder = self._decoders.get(kind)
        text = data.decode("utf-8", "replace") if decoder is None else decoder.decode(data)
        return line(at, kind, text) if text else b""


def line(at: float, kind: str, text: str) -> bytes:
    """Return one event."""
    return json.dumps([round(at, 6), kind, text], ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def head(
    *, columns: int, rows: int, began: float, seconds: float, title: str, command: str, more: Mapping[str, Any]
) -> bytes:
    """Return the first line. Args: began: seconds since the epoch. more: further fields, under `towline`."""
    fields: dict[str, Any] = {"version": 2, "width": columns, "height": rows, "timestamp": int(began)}
    fields |= {"duration": round(seconds, 3)} if seconds else {}
    fields |= {"command": command} if command else {}
    fields |= {"title": title, "env": {"TERM": "xterm-256color"}, "towline": dict(more)}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

"""Layout and numbers of yamux version 0 frames. The state machine is in `yamux.py`.

Source: hashicorp/yamux, spec.md, "Framing": version (8 bits), type (8), flags (16), stream id (32), length (32), all
big-endian; only data frames have a body, of `length` bytes.
"""

from __future__ import annotations

import struct
from typing import Final

VERSION: Final = 0
HEADER: Final = struct.Struct(">BBHII")
HEADER_BYTES: Final = HEADER.size

# types
DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

# flags
SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

# codes of a go-away frame
NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2

SESSION_ID: Final = 0
"""The stream id of pings and go-aways."""

MAX_STREAM_ID: Final = 2**32 - 1

INITIAL_WINDOW_BYTES: Final = 256 * 1024
"""Both sides assume this credit for a new stream (spec.md, "Flow Control")."""

MAX_CREDIT_BYTES: Final = 2**32 - 1
"""Credit beyond the 32 bits of the length field is nonsense, and would let a sum grow without bound."""


def encode(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"", *, version: int = VERSION) -> bytes:
    """Return one frame; for tests and rare frames, since the writer of `yamux.py` packs in place."""
    return HEADER.pack(version, kind, flags, stream_id, length) + body


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    """Return a data frame."""
    return encode(DATA, flags, stream_id, len(body), body)


def window_update(stream_id: int, delta: int, flags: int = 0) -> bytes:
    """Return a window update frame."""
    return encode(WINDOW_UPDATE, flags, stream_id, delta)


def ping(opaque: int, flags: int = SYN) -> bytes:
    """Return a ping (SYN) or its answer (ACK)."""
    return encode(PING, flags, SESSION_ID, opaque)


def go_away(code: int = NORMAL) -> bytes:
    """Return a go-away frame."""
    return encode(GO_AWAY, 0, SESSION_ID, code)

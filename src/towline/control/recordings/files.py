"""Files of recordings: chunks, each compressed, sealed and bound to its place: none is moved, changed or lost unseen.

    magic │ length ‖ kind ‖ sealed │ length ‖ kind ‖ sealed │ … │ the end, which names how many there are

A file without its end was cut off: its chunks still open. Called in threads; knows no database.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from towline.control.sealing.service import CannotOpen, Sealer

MAGIC = b"TWREC1\n"
_HEAD = struct.Struct(">IB")
_CHUNK, _END = 0, 1
PURPOSE, END_PURPOSE = "recording", "recording.end"
LEVEL = 6
"""Of zlib: terminals compress tenfold at any level, and a faster one saves no time that anybody waits for."""
MOST_CHUNK_BYTES = 64 * 1024 * 1024
"""Of a chunk opened: far more than is ever written at once."""


class Writer:
    """Writes one file."""

    def __init__(self, path: Path, sealer: Sealer, org_id: str, recording_id: str) -> None:
        self._sealer = sealer
        self._bound = (org_id, recording_id)
        self._chunks = 0
        self.stored_bytes = len(MAGIC)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._write(MAGIC)

    def append(self, lines: bytes) -> None:
        """Write some lines. Raises: OSError."""
        self._chunks += 1
        self._seal(_CHUNK, self._chunks, PURPOSE, zlib.compress(lines, LEVEL))

    def finish(self) -> None:
        """Write the end, and return when it is on the disk. Raises: OSError."""
        try:
            self._seal(_END, self._chunks, END_PURPOSE, b"%d" % self._chunks)
            os.fsync(self._file)
        finally:
            self.close()

    def close(self) -> None:
        """Leave the file as it is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _seal(self, kind: int, number: int, purpose: str, data: bytes) -> None:
        sealed = self._sealer.seal(*self._bound, number, purpose, data)
        self._write(_HEAD.pack(len(sealed), kind) + sealed)
        self.stored_bytes += _HEAD.size + len(sealed)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


class Reader:
    """Reads one file. `is_whole` is known at its end."""

    def __init__(self, path: Path, sealer: Sealer, org_id: str, recording_id: str) -> None:
        self._path = path
        self._sealer = sealer
        self._bound = (org_id, recording_id)
        self.is_whole = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the lines. Raises: OSError; CannotOpen: it was changed, or sealed by another installation."""
        number = 0
        with self._path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CannotOpen("this is no recording of ours")
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                length, kind = _HEAD.unpack(head)
                if length > MOST_CHUNK_BYTES:
                    raise CannotOpen("the recording was changed")
                sealed = file.read(length)
                if len(sealed) < length:
                    return
                if kind == _END:
                    self._sealer.open(*self._bound, number, END_PURPOSE, sealed)
                    self.is_whole = not file.read(1)
                    return
                number += 1
                packed = self._sealer.open(*self._bound, number, PURPOSE, sealed)
                yield zlib.decompress(packed)

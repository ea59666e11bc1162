"""The two-way byte stream that everything above the network speaks, its errors, and the copy between two of them.

Adapters to asyncio live in `transports.py`, the in-memory pair in `memory.py`. No framing and no protocol here.

    StreamError
     ├ ClosedHere    this side closed or aborted it: a mistake of the caller, or its own cancellation
     ├ EndedThere    the other side closed or reset it: normal life, the reason says what it said
     └ Broken        nobody closed it: the network or a tunnel underneath went away
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

CHUNK_BYTES = 64 * 1024
"""What one read asks for: one socket read of uvloop at most, so that a copy holds one chunk per direction."""


class StreamError(Exception):
    """A byte stream cannot go on. `reason` is for people."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class ClosedHere(StreamError):
    """This side closed the stream before."""


class EndedThere(StreamError):
    """The other side closed or reset the stream."""


class Broken(StreamError):
    """The connection underneath was lost."""


@runtime_checkable
class ByteStream(Protocol):
    """Raw bytes both ways; each direction can be closed alone.

    One task may read while another writes; two readers, or two writers, at once are not supported.
    """

    async def read(self, max_bytes: int = CHUNK_BYTES) -> bytes:
        """Return at least one byte, or b"" when the other side finished its direction.

        Raises: StreamError: see the chart above. Bytes that arrived before the error are returned first.
        """

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when there is room for more, not when they have arrived.

        Raises: StreamError.
        """

    async def write_eof(self) -> None:
        """Finish this side's direction; reading goes on."""

    async def aclose(self) -> None:
        """Finish both directions after what was written has been sent. Never raises; safe to call twice."""

    def abort(self, reason: str = "") -> None:
        """Drop the stream at once, unsent bytes included, so that the other side sees an error."""


@dataclass(frozen=True, slots=True)
class Pumped:
    """How many bytes a `pump` has copied."""

    a_to_b_bytes: int
    b_to_a_bytes: int


async def pump(a: ByteStream, b: ByteStream, *, chunk_bytes: int = CHUNK_BYTES) -> Pumped:
    """Copy both ways until both directions have ended; the end of one direction is passed on by itself.

    An error, or a cancellation, in either direction aborts both streams. Both streams are closed on return.
    Raises: StreamError: the first one that occurred.
    """
    try:
        async with asyncio.TaskGroup() as group:
            there = group.create_task(_copy(a, b, chunk_bytes), name="pump/a-to-b")
            back = group.create_task(_copy(b, a, chunk_bytes), name="pump/b-to-a")
    except BaseException as error:
        cause = first_stream_error(error)
        reason = cause.reason if cause is not None else "copy cancelled"
        a.abort(reason)
        b.abort(reason)
        if cause is not None:
            raise cause from error
        raise
    await a.aclose()
    await b.aclose()
    return Pumped(there.result(), back.result())


def first_stream_error(error: BaseException) -> StreamError | None:
    """Find the stream error in an exception or in a group of them; None when something else is in it."""
    if isinstance(error, StreamError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [first_stream_error(inner) for inner in error.exceptions]
    return found[0] if found and all(found) else None


async def _copy(source: ByteStream, sink: ByteStream, chunk_bytes: int) -> int:
    total = 0
    while data := await source.read(chunk_bytes):
        await sink.write(data)
        total += len(data)
    await sink.write_eof()
    return total

"""Joins two asyncio transports: bytes, back-pressure and the end of each direction pass from one to the other.

No task and no buffer of its own stands on the way of the bytes: what arrives on one side is written to the other in
the same callback, and a side whose buffer is full makes the other one stop reading. Who dials is `dialling.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class Side(asyncio.Protocol):
    """The protocol of one of the two transports; see `join`."""

    __slots__ = ("_ended", "_is_lost", "_on_end", "_transport", "other")

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.other: Side | None = None
        self._transport: asyncio.Transport | None = None
        self._on_end = on_end
        self._ended = False
        self._is_lost = False

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "ended" if self._ended else "open"
        return f"<Side {state} {self._transport!r}>"

    @property
    def transport(self) -> asyncio.Transport:
        """Raises: RuntimeError: it was never connected."""
        if self._transport is None:
            raise RuntimeError("not connected")
        return self._transport

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other is None:
            return True
        if other._ended:
            other.transport.close()
            return False
        other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and not self.other._is_lost:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other._is_lost:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        other = self.other
        if other is None or other._is_lost:
            self._on_end()
        elif exc is None:
            other.transport.close()
        else:
            other.transport.abort()


def join(one: Side, two: Side) -> None:
    """Let bytes flow between two connected sides; `on_end` of the side that is lost last is called."""
    one.other, two.other = two, one

"""Joins two asyncio transports: bytes, back-pressure and the end of each direction pass from one to the other.

No task and no buffer of its own stands in the way of the bytes: what arrives at one end is written to the other in the
same callback, and an end whose buffer is full makes the other one stop reading. Who dials is `dialling.py`.
"""

from __future__ import annotations

import asyncio
from typing import cast


class Bridge(asyncio.Protocol):
    """The protocol of one of the two ends; see `join`."""

    __slots__ = ("_ended", "is_lost", "over", "peer", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.peer: Bridge | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when this end is lost."""
        self.is_lost = False
        self._ended = False

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else "ended" if self._ended else "open"
        return f"<Bridge {state}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        peer = self.peer
        if peer is not None:
            peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end on; the second end of the two closes both."""
        self._ended = True
        peer = self.peer
        if peer is None or peer.transport.is_closing():
            return False
        if peer._ended:
            peer.transport.close()
            return False
        peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        peer, self.peer = self.peer, None
        if peer is not None and not peer.is_lost:
            peer.peer = None
            if exc is None:
                peer.transport.close()
            else:
                peer.transport.abort()
        if not self.over.done():
            self.over.set_result(None)


def join(one: Bridge, other: Bridge) -> None:
    """Join two connected ends, before either one's transport can bring data."""
    one.peer, other.peer = other, one


async def until_over(*ends: Bridge) -> None:
    """Wait until every end is lost; a cancellation aborts them."""
    try:
        for end in ends:
            await end.over
    finally:
        for end in ends:
            if not end.is_lost:
                end.transport.abort()

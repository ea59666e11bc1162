"""Two transports joined: bytes, ends, and waiting pass from one to the other by callbacks, without a task."""

from __future__ import annotations

import asyncio
from typing import cast


class Bridge(asyncio.Protocol):
    """One end of a joined pair: what it receives goes to `peer`."""

    __slots__ = ("peer", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.write(data)

    def eof_received(self) -> bool:
        if self.peer is not None and not self.peer.is_closing():
            self.peer.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and not self.peer.is_closing():
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and not self.peer.is_closing():
            self.peer.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self.peer = self.peer, None
        if peer is None or peer.is_closing():
            return
        if exc is None:
            peer.close()
        else:
            peer.abort()


def join(one: Bridge, other: Bridge) -> None:
    """Join two connected ends. Call it before either loop turn can bring data."""
    one.peer, other.peer = other.transport, one.transport

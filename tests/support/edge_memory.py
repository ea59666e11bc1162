"""A client connection of the edge without sockets: transports that keep what is written, and a target in memory."""

import asyncio
from dataclasses import dataclass, field, replace

from towline.gateway.client import ClientConnection
from towline.gateway.context import EdgeContext
from towline.gateway.counters import EdgeCounters
from towline.gateway.errors import UpstreamError
from towline.gateway.interfaces import AccessRecord, ConnectorProtocol, Peer, Route, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.upstream import Pools
from towline.wire.http1 import RequestHead

PEER = Peer("203.0.113.9", 1234, "https", "203.0.113.9")


class MemoryTransport(asyncio.Transport):
    """Keeps what is written and what it was told; calls nothing back by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_paused = False
        self.is_ended = False
        self.is_closed = False
        self.is_aborted = False

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self.writes.append(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_ended = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Writes never wait here."""


@dataclass(eq=False)
class MemoryTarget:
    """A connector that connects at once, to transports that a test drives."""

    connections: list[tuple[ConnectorProtocol, MemoryTransport]] = field(default_factory=list)
    error: UpstreamError | None = None
    waits: bool = False

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        if self.error is not None:
            protocol.connection_failed(self.error)
            return
        transport = MemoryTransport()
        transport.write(first_bytes)
        self.connections.append((protocol, transport))
        if not self.waits:
            protocol.connection_made(transport)

    def answer(self, data: bytes, *, connection: int = -1) -> None:
        """Let a connection send bytes."""
        self.connections[connection][0].data_received(data)

    def got(self, connection: int = -1) -> bytes:
        """Return what a connection was sent."""
        return self.connections[connection][1].written


class MemoryEdge:
    """One client connection whose every request goes to one target."""

    def __init__(self, options: EdgeOptions | None = None) -> None:
        self.options = options or replace(EdgeOptions(), body_window=10.0)
        self.counters = EdgeCounters()
        self.records: list[AccessRecord] = []
        self.target = MemoryTarget()
        self.route_to: Route = ToTarget("app", self.target)
        self.ended = 0
        self.context = EdgeContext(
            options=self.options,
            router=self,
            api=self.target,
            links=self,
            pools=Pools(self.options, self.counters),
            counters=self.counters,
            access_log=self.records.append,
        )
        self.transport = MemoryTransport()
        self.client = ClientConnection(self.context, PEER, self._on_end)
        self.client.connection_made(self.transport)

    def route(self, head: RequestHead, peer: Peer) -> Route:
        return self.route_to

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        raise AssertionError("no links here")

    def _on_end(self) -> None:
        self.ended += 1

    def send(self, data: bytes) -> None:
        """Let the client send bytes."""
        self.client.data_received(data)

    def leave(self) -> None:
        """Let the client's connection be lost."""
        self.client.connection_lost(ConnectionResetError())

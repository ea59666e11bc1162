"""The upstream side: one connection to a target, and the pools that keep idle ones.

A connection serves one exchange at a time. It goes back to its pool only after an answer with clean framing that was
read to its end; anything else closes it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from towline.gateway.counters import EdgeCounters
from towline.gateway.errors import UpstreamError, as_upstream_error
from towline.gateway.interfaces import Connector
from towline.gateway.options import EdgeOptions
from towline.wire.http1 import ResponseBuffer, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from towline.gateway.exchange import Exchange


MAX_KNOWN_HEADS = 32
"""Heads of answers remembered per target: what a page of files has, and no more than 32 KiB."""
MAX_KNOWN_HEAD_BYTES = 1024


class UpstreamConnection:
    """One connection to a target; passes what happens on it to the exchange that uses it."""

    __slots__ = (
        "_is_aborted",
        "_is_eof",
        "_is_paused",
        "_pool",
        "buffer",
        "exchange",
        "idle_since",
        "is_reused",
        "transport",
    )

    def __init__(self, pool: "Pool", exchange: "Exchange") -> None:
        self._pool = pool
        self.exchange: Exchange | None = exchange
        self.buffer = ResponseBuffer(pool.options.head_limits)
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.is_reused = False
        self._is_aborted = False
        self._is_paused = False
        self._is_eof = False

    def __repr__(self) -> str:
        state = "connecting" if self.transport is None else "busy" if self.exchange is not None else "idle"
        return f"<UpstreamConnection {state}{' aborted' if self._is_aborted else ''}>"

    @property
    def held_bytes(self) -> int:
        """What arrived and waits, where a transport keeps such bytes: those of a tunnel do."""
        return int(getattr(self.transport, "held_bytes", 0))

    # what the exchange does

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens when the connection is gone, which is reported by itself."""
        if self.transport is not None and not self._is_aborted:
            self.transport.write(data)

    def write_eof(self) -> None:
        """End this side, or all of it where a transport has no half-close."""
        if self.transport is None or self._is_aborted:
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def pause(self) -> None:
        """Stop reading, because the client does not take more."""
        if self.transport is not None and not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.transport is not None and self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection; also one that is still being made."""
        self.exchange = None
        self._is_aborted = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close after what was written has been sent."""
        self.exchange = None
        self._is_aborted = True
        if self.transport is not None:
            self.transport.close()

    def release(self) -> None:
        """Give the connection back after a cleanly framed answer."""
        self.exchange = None
        if len(self.buffer) or self._is_eof or self._is_paused:
            self.close()
        else:
            self._pool.put(self)

    # what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._pool.options.write_high_bytes)
        if self._is_aborted:
            self.transport.abort()
        elif self.exchange is not None:
            self.exchange.upstream_connected()

    def connection_failed(self, error: UpstreamError) -> None:
        exchange, self.exchange = self.exchange, None
        self._pool.counters.upstream_failures += 1
        if exchange is not None and not self._is_aborted:
            exchange.upstream_failed(error)

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None:
            self.exchange.upstream_data(data)
        elif not self._is_aborted:
            self._pool.forget(self)  # an answer to nothing: this connection cannot be trusted with a request
            self.abort()

    def eof_received(self) -> bool:
        self._is_eof = True
        if self.exchange is not None and self.exchange.is_piped:
            return self.exchange.upstream_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self._pool.forget(self)
        if exchange is None or self._is_aborted:
            return
        exchange.upstream_lost(as_upstream_error(exc), is_clean=exc is None)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_is_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_has_room()


class Pool:
    """Connections to one target; the one used last is used next, so that the others time out."""

    def __init__(
        self, connector: Connector, options: EdgeOptions, counters: EdgeCounters, *, idle_timeout: float
    ) -> None:
        self.connector = connector
        self.options = options
        self.counters = counters
        self._idle_timeout = idle_timeout
        self._heads: dict[bytes, ResponseHead] = {}
        self._idle: deque[UpstreamConnection] = deque()
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self._is_retired = False

    def __repr__(self) -> str:
        return f"<Pool {len(self._idle)} idle>"

    def __len__(self) -> int:
        return len(self._idle)

    def start(self, exchange: "Exchange", first_bytes: bytes, *, fresh: bool) -> UpstreamConnection:
        """Send the first bytes of an exchange on an idle connection, or on a new one.

        The exchange learns of a new connection by `upstream_connected`, perhaps before this returns.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            connection.exchange = exchange
            connection.is_reused = True
            self.counters.upstream_reuses += 1
            exchange.upstream = connection
            transport.write(first_bytes)
            return connection
        connection = UpstreamConnection(self, exchange)
        exchange.upstream = connection
        self.counters.upstream_connections += 1
        self.connector.connect(connection, first_bytes)
        return connection

    def read_head(self, data: bytes) -> ResponseHead:
        """Parse the head of an answer, unless the same one, byte for byte, was met lately.

        Files and health checks answer with the same head all second long, and reading it costs as much as the rest of
        a request. Raises: HeadError.
        """
        known = self._heads.get(data)
        if known is not None:
            return known
        head = parse_response_head(data, self.options.head_limits)
        if len(data) <= MAX_KNOWN_HEAD_BYTES and b"ookie:" not in data:  # cookies differ, and are secrets
            if len(self._heads) >= MAX_KNOWN_HEADS:
                self._heads.clear()
            self._heads[data] = head
        return head

    def put(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection, or close it when there are enough."""
        connection.idle_since = self._now()
        if self._is_retired or len(self._idle) >= self.options.pool_idle_connections:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a connection that is gone from the idle ones."""
        if connection in self._idle:
            self._idle.remove(connection)

    def retire(self) -> None:
        """Keep no connection any more; those in use end with their request."""
        self._is_retired = True
        self.close_idle()

    def close_idle(self, *, older_than: float = float("inf")) -> None:
        """Close the connections that became idle before a moment of the loop's clock."""
        while self._idle and self._idle[0].idle_since <= older_than:
            self._idle.popleft().close()

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        if self._idle:
            self.close_idle(older_than=self._now() - self._idle_timeout)


class Pools:
    """One pool per connector; the ones that nobody used lately are dropped."""

    def __init__(self, options: EdgeOptions, counters: EdgeCounters) -> None:
        self._options = options
        self._counters = counters
        self._pools: dict[Connector, Pool] = {}

    def __repr__(self) -> str:
        return f"<Pools {len(self._pools)} targets>"

    def get(self, connector: Connector, *, idle_timeout: float) -> Pool:
        """Return the pool of a connector."""
        pool = self._pools.get(connector)
        if pool is None:
            pool = Pool(connector, self._options, self._counters, idle_timeout=idle_timeout)
            self._pools[connector] = pool
        return pool

    def sweep(self) -> None:
        """Close what has been idle for too long, and forget pools that are empty."""
        for connector, pool in list(self._pools.items()):
            pool.sweep()
            if not len(pool):
                pool.retire()
                del self._pools[connector]

    def close(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.retire()
        self._pools.clear()

"""Connections that are passed through byte for byte: TLS by its server name, and TCP on a port of its own.

Nothing of what passes is read, but for the name in a ClientHello, which the listener looks at before. Limits on who may
come are the route's; memory is bounded as everywhere: a side that is full pauses the other one.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from towline.gateway.context import EdgeContext
from towline.gateway.errors import UpstreamError
from towline.gateway.interfaces import AccessRecord, Peer, RouteKind, ToTarget
from towline.gateway.route_figures import RouteFigure

CLOSE_TIMEOUT = 30.0
"""Seconds that the last bytes have to reach a side that does not read."""
SERVED, FAILED = 101, 0
"""How a raw connection is counted: as an upgrade, or as a request without an answer."""


class RawConnection(asyncio.Protocol):
    """The client's side, and the owner of both."""

    __slots__ = (
        "_context",
        "_deadline",
        "_ended",
        "_far",
        "_figure",
        "_full_since",
        "_is_over",
        "_mark",
        "_mark_at",
        "_on_end",
        "_outcome",
        "_peer",
        "_received_bytes",
        "_route",
        "_sent_bytes",
        "_started_at",
        "_transport",
    )

    def __init__(self, context: EdgeContext, route: ToTarget, peer: Peer, on_end: Callable[[], None]) -> None:
        self._context = context
        self._route = route
        self._peer = peer
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._far = _Far(self)
        self._figure: RouteFigure | None = None
        self._ended = False
        self._is_over = False
        self._full_since = 0.0
        self._deadline = 0.0
        self._mark, self._mark_at = 0, 0.0
        self._received_bytes = self._sent_bytes = 0
        self._started_at = context.now()
        self._outcome = "client_gone"

    def __repr__(self) -> str:
        return (
            f"<RawConnection {self._route.name} {self._peer.address} up={self._received_bytes} down={self._sent_bytes}>"
        )

    # what the edge's sweep asks

    @property
    def is_idle(self) -> bool:
        """Never: what passes here has no requests to be between."""
        return False

    @property
    def is_piped(self) -> bool:
        """As after an upgrade: it may last for days."""
        return True

    @property
    def full_since(self) -> float:
        """The moment since which the client does not take more; 0 while it does."""
        return self._full_since

    @property
    def held_bytes(self) -> int:
        """What waits for the client, on both sides."""
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return unsent + self._far.held_bytes

    @property
    def route_id(self) -> str:
        """The id of its route."""
        return self._route.id

    def withdraw(self) -> None:
        """End both sides: the route was taken away."""
        self._outcome = "route_gone"
        self.abort()

    def check(self, now: float) -> None:
        """End what is overdue: closing without progress, or silence beyond the route's limit."""
        moved = self._received_bytes + self._sent_bytes
        if self._deadline:
            if now > self._deadline:
                self.abort()
            return
        options = self._route.options
        limit = options.idle_timeout if options is not None else 0.0
        if moved != self._mark or not self._mark_at:
            self._mark, self._mark_at = moved, now
        elif limit and now - self._mark_at > limit:
            self._outcome = "idle_timeout"
            self.abort()

    def abort(self) -> None:
        """Drop both sides at once."""
        if self._transport is not None:
            self._transport.abort()

    # the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._context.options.write_high_bytes)
        self._context.connections.add(self)
        self._context.counters.open_connections += 1
        self._figure = self._context.figures.of(self._route)
        self._figure.open += 1
        if not self._may_come():
            self.abort()
            return
        self._transport.pause_reading()
        self._route.connector.connect(self._far, b"")

    def _may_come(self) -> bool:
        if self._route.options is None:
            return True
        policy = self._context.policies.of(self._route)
        now = self._context.now()
        policy.used_at = now
        if not policy.may_come(self._peer.address):
            self._outcome = "address_denied"
        elif policy.limiter is not None and policy.limiter.wait(self._peer.address, now):
            self._outcome = "rate_limited"
        else:
            return True
        self._context.counters.refused[self._outcome] += 1
        return False

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        self._far.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._far.has_ended:
            self._outcome = "done"
            return False
        self._far.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._far.abort()
        self._finish()

    def pause_writing(self) -> None:
        self._full_since = self._context.now()
        self._far.pause()

    def resume_writing(self) -> None:
        self._full_since = 0.0
        self._far.resume()

    # the far side

    def far_connected(self) -> None:
        """The target is there: what the client sends may come."""
        if self._transport is not None:
            self._transport.resume_reading()

    def far_failed(self, error: UpstreamError) -> None:
        """No connection came about. A reset says so: nobody here speaks the client's protocol."""
        self._outcome = error.code
        self.abort()

    def far_data(self, data: bytes) -> None:
        """Bytes for the client."""
        self._sent_bytes += len(data)
        if self._transport is not None:
            self._transport.write(data)

    def far_ended(self) -> bool:
        """The target ended its side; return True to keep the other one open."""
        if self._transport is not None and not self._ended:
            self._transport.write_eof()
            return True
        self._outcome = "done"
        self._close()
        return False

    def far_lost(self, exc: Exception | None) -> None:
        """The target's connection is over."""
        self._outcome = "done" if exc is None else "upstream_lost"
        if exc is None:
            self._close()
        else:
            self.abort()

    def far_is_full(self, *, full: bool) -> None:
        """Stop reading the client, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _close(self) -> None:
        self._deadline = self._context.now() + CLOSE_TIMEOUT
        if self._transport is not None:
            self._transport.close()

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        context = self._context
        context.connections.discard(self)
        context.counters.open_connections -= 1
        served = self._far.was_connected
        seconds = context.now() - self._started_at
        if self._figure is not None:
            self._figure.end(SERVED if served else FAILED, self._received_bytes, self._sent_bytes, seconds)
        if context.access_log is not None and (not served or context.options.log_good_targets):
            context.access_log(self._record(SERVED if served else FAILED, seconds))
        self._on_end()

    def _record(self, status: int, seconds: float) -> AccessRecord:
        return AccessRecord(
            request_id=self._context.next_request_id(),
            peer=self._peer,
            method="RAW",
            host="",
            path="",
            kind=RouteKind.TARGET,
            route=self._route.name,
            status=status,
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            seconds=seconds,
            outcome=self._outcome,
        )


class _Far:
    """The target's side. Implements `ConnectorProtocol`."""

    __slots__ = ("_is_aborted", "_near", "_transport", "has_ended", "was_connected")

    def __init__(self, near: RawConnection) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False
        self.has_ended = False
        self.was_connected = False

    @property
    def held_bytes(self) -> int:
        """What arrived and waits, where a transport keeps such bytes."""
        return int(getattr(self._transport, "held_bytes", 0))

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_aborted:
            self._transport.abort()
            return
        self.was_connected = True
        self._near.far_connected()

    def connection_failed(self, error: UpstreamError) -> None:
        if not self._is_aborted:
            self._near.far_failed(error)

    def data_received(self, data: bytes) -> None:
        self._near.far_data(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        return self._near.far_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._is_aborted:
            self._near.far_lost(exc)

    def pause_writing(self) -> None:
        self._near.far_is_full(full=True)

    def resume_writing(self) -> None:
        self._near.far_is_full(full=False)

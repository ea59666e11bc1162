"""picows' protocol object, as both ends drive it: its arguments, a bound on its read buffer, a budget for strangers.

The server's side uses `WSProtocol`, which picows does not document: the edge owns the socket and hands it over with the
request head already read. `tests/integration/tunnel` pins what is relied on: the constructor, `set_protocol` on plain
and TLS transports, feeding bytes by `get_buffer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from picows import WSAutoPingStrategy
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from towline.aio.clock import REAL_CLOCK, Clock
from towline.wire import link

MAX_BINARY_BYTES = 1024 * 1024
"""Largest binary message accepted: ours are some 100 KiB, older agents write whole windows."""

READ_CHUNK_BYTES = 64 * 1024
"""What one read of the socket may take: picows doubles its buffer when it is full, and never gives it back."""

READ_BUFFER_BYTES = 2048
"""First size of that buffer: an idle agent never needs more, and there are thousands of them."""

PING_INTERVAL = 15.0
"""Seconds between the agent's pings: below the idle timeouts of common proxies (30 to 60 s)."""

SERVER_PING_INTERVAL = 60.0
"""Seconds between the server's own pings, which only measure the round trip: the agents' pings prove that they live,
and thousands of agents are half as much work."""

_logger = logging.LoggerAdapter(logging.getLogger("towline.tunnel.websocket"), {})
"""An adapter, as picows makes a new logger per connection from a plain one."""
logging.getLogger("towline.tunnel.websocket").setLevel(logging.CRITICAL)


class LinkProtocol(WSProtocol):  # type: ignore[misc]
    """picows' protocol with a bound on its read buffer and on what it reads before the peer is known."""

    __slots__ = ("_monotonic", "budget_bytes", "heard_at")

    def __init__(
        self,
        *,
        is_client: bool,
        factory: Callable[..., object],
        host: str = "",
        path: str = "",
        headers: object = None,
        max_frame_bytes: int = link.MAX_MESSAGE_BYTES,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        super().__init__(
            host if is_client else None,
            path if is_client else None,
            is_client,
            factory,
            _logger,
            True,  # disconnect when a callback raises
            None,  # the caller has its own deadline for the handshake
            False,  # no automatic pings: they cost a task per connection
            PING_INTERVAL,
            PING_INTERVAL,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # no automatic pongs: they have no bound
            max(MAX_BINARY_BYTES, max_frame_bytes),
            headers,
            READ_BUFFER_BYTES,
        )
        self.budget_bytes: int | None = None
        """What the peer may still send while it is not known; None: no limit."""
        self.heard_at = clock.monotonic()
        """Monotonic moment of the last byte."""
        self._monotonic = clock.monotonic

    def get_buffer(self, sizehint: int) -> memoryview:
        view: memoryview = WSProtocol.get_buffer(self, sizehint)
        return view if len(view) <= READ_CHUNK_BYTES else view[:READ_CHUNK_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._monotonic()
        if self.budget_bytes is not None:
            self.budget_bytes -= nbytes
            if self.budget_bytes < 0:
                self.transport.underlying_transport.abort()
                return
        WSProtocol.buffer_updated(self, nbytes)

    def feed(self, data: bytes) -> None:
        """Give it bytes that somebody else has read from its transport."""
        view = memoryview(data)
        while view:
            buffer = self.get_buffer(len(view))
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self.buffer_updated(count)
            view = view[count:]

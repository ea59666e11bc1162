"""One WebSocket to an older control plane: text messages in order both ways, and binary ones to who takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from towline.tunnel.errors import NORMAL_CLOSE, POLICY_VIOLATION, Closed, TunnelClosed
from towline.tunnel.websocket import HEADROOM, Channel

MAX_WAITING_MESSAGES = 4096
"""Messages that arrived and were not handled yet."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Their size in sum."""


class Line:
    """Attach it to a channel before that opens."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.on_binary: Callable[[memoryview], None] = lambda data: None
        self.on_writable: Callable[[], None] = lambda: None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._outbox: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()
        self._closed: Closed | None = None
        channel.attach(self)

    def __repr__(self) -> str:
        return f"<Line {self.channel!r} {len(self._waiting)} waiting>"

    async def send(self, text: bytes) -> None:
        """Send a text message; waits while the line is full. Raises: TunnelClosed."""
        await self._send(lambda: self.channel.send_text(text))

    async def send_binary(self, data: bytes) -> None:
        """Send a binary message, in order with the others. Raises: TunnelClosed."""
        await self._send(lambda: self.channel.send_binary(bytearray(HEADROOM) + data))

    async def _send(self, put: Callable[[], None]) -> None:
        self._raise_if_closed()
        if not self.channel.paused and not self._outbox:
            put()
            return
        sent = asyncio.get_running_loop().create_future()
        self._outbox.append((put, sent))
        await sent

    async def receive(self) -> bytes | None:
        """Take the next message; None when the line has ended."""
        while not self._waiting:
            if self._closed is not None:
                return None
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        text = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        return text

    @property
    def last_message_at(self) -> float:
        """Monotonic moment of the last byte from there, pongs included."""
        protocol = self.channel.protocol
        return protocol.heard_at if protocol is not None else 0.0

    @property
    def rtt(self) -> float:
        return self.channel.round_trip

    @property
    def stream_count(self) -> int:
        return 0

    @property
    def ending(self) -> str:
        """Why it ended."""
        return str(self._closed or self.channel.closed or "it is open")

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        self.channel.close(code, reason)

    # -- what the channel calls ------------------------------------------------------------------

    def text_arrived(self, text: bytes) -> None:
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        if len(self._waiting) > MAX_WAITING_MESSAGES or self._waiting_bytes > MAX_WAITING_BYTES:
            self.close(POLICY_VIOLATION, "messages come faster than they can be handled")
        self._wake()

    def binary_arrived(self, data: memoryview) -> None:
        self.on_binary(data)

    def writable(self) -> None:
        while self._outbox and not self.channel.paused:
            put, sent = self._outbox.popleft()
            if not sent.done():
                put()
                sent.set_result(None)
        self.on_writable()

    def channel_closed(self, closed: Closed) -> None:
        self._closed = closed
        for _, sent in self._outbox:
            if not sent.done():
                sent.set_exception(TunnelClosed(f"the connection ended: {closed}"))
        self._outbox.clear()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _raise_if_closed(self) -> None:
        if self._closed is not None or not self.channel.is_open:
            raise TunnelClosed(f"the connection ended: {self.ending}")

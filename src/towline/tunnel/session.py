"""The tunnel's session: what every feature sees of an agent's connection, and its implementation over our own link.

`Session` is the interface that adapters to older protocols implement as well; keep it small. `LinkSession` joins the
two halves of the link, control messages and streams, for both ends. How a session comes to be is in `handshake.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import NORMAL_CLOSE, Closed, TunnelClosed
from towline.tunnel.inbox import Inbox, MessageHandler
from towline.tunnel.mux import Mux
from towline.tunnel.opening import IncomingStream, TunnelStream, begin_stream, open_answered
from towline.tunnel.transport import StreamTransport
from towline.tunnel.websocket import Channel
from towline.wire import link, streams
from towline.wire.yamux_model import Limits, Stream, TooManyStreams

OPEN_TIMEOUT = 10.0
"""Seconds that an agent has to answer a stream's header: its own dialling takes five at most."""

StreamHandler = Callable[[IncomingStream], None]
ClosedHandler = Callable[[Closed], None]


class Session(Protocol):
    """One agent's connection: over our own link, or over an older protocol that an adapter speaks."""

    @property
    def agent_id(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def remote_address(self) -> str: ...
    @property
    def rtt(self) -> float:
        """Seconds of a round trip, smoothed; 0 while unknown."""

    @property
    def closed(self) -> Closed | None:
        """How it ended; None while it lives."""

    def create_stream(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> asyncio.Transport:
        """Open a stream for a protocol, at once; the agent's answer comes later.

        Args: first_bytes: sent together with the header. on_answer: called with an accepting answer, before the
        first data; a refusal arrives as `connection_lost(TargetRefused)`.
        Raises: TunnelClosed. TooManyStreams.
        """

    async def open_stream(self, target: streams.Target, *, timeout: float = OPEN_TIMEOUT) -> TunnelStream:
        """Open a stream to a target that the agent dials.

        Args: timeout: seconds until the agent answers, not until the first byte.
        Returns: raw bytes both ways, no framing; each direction can be closed alone.
        Raises: TargetRefused: the agent may not, or cannot, dial it. TunnelClosed: the agent went away.
        TimeoutError: it did not answer. TooManyStreams.
        Source: docs/wire-protocol.md, "Opening a stream".
        """

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life."""

    @property
    def stream_count(self) -> int:
        """Streams that are open now."""

    def start(self, handler: MessageHandler) -> None:
        """Hand every message to a handler from now on. It may raise: that is logged, and the next one follows."""

    async def send(self, message: link.Message) -> None:
        """Send a control message, ahead of all stream data; waits while the line is full. Raises: TunnelClosed."""

    def send_now(self, message: link.Message) -> None:
        """Send without waiting for room: for the last words before `close`. Nothing happens when it is closed."""

    def on_close(self, handler: ClosedHandler) -> None:
        """Call a handler when the session ends; at once when it has ended."""

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        """Close the tunnel with everything in it."""


class LinkSession:
    """A session of Towline's own link, at either end.

    Until `start`, messages are taken one by one with `receive`: that is how the handshake runs. Afterwards each one
    goes to the handler, in order; a task exists only while there is something to handle.

    Args: owner: holds that task. is_agent: the agent accepts streams, the control plane opens them.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        owner: TaskOwner,
        is_agent: bool,
        remote_address: str = "",
        limits: Limits | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.agent_id = ""
        self.cluster_id = ""
        self.epoch = 0
        self.remote_address = remote_address
        self.unknown_messages = 0
        """Messages of types that this release does not know."""
        self.last_message_at = clock.monotonic()
        """Monotonic moment of the last control message; pongs do not count."""
        self.goodbye: link.Goodbye | None = None
        """What the other side said before it closed."""
        self.on_stream: StreamHandler | None = None
        self.channel = channel
        self.mux = Mux(
            channel,
            is_client=is_agent,
            accept=self._stream_opened if is_agent else None,
            failed=self._protocol_broken,
            limits=limits,
            clock=clock,
        )
        self._clock = clock
        self._inbox = Inbox(owner, lambda: self.agent_id or self.remote_address)
        self._arrival: asyncio.Future[None] | None = None
        self._outbox: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._on_closed: list[ClosedHandler] = []
        self._streams_allowed = False
        channel.attach(self)

    def __repr__(self) -> str:
        name = self.agent_id or "not yet known"
        return f"<LinkSession {name} epoch={self.epoch} {self.channel!r} streams={self.mux.yamux.stream_count}>"

    # -- state -------------------------------------------------------------------------------

    @property
    def rtt(self) -> float:
        return self.channel.round_trip

    @property
    def closed(self) -> Closed | None:
        return self.channel.closed

    @property
    def silence(self) -> float:
        """Seconds since the last byte from the other side."""
        protocol = self.channel.protocol
        return self._clock.monotonic() - protocol.heard_at if protocol is not None else 0.0

    @property
    def stream_count(self) -> int:
        return self.mux.yamux.stream_count

    def identify(self, agent_id: str, cluster_id: str, epoch: int) -> None:
        """Say who it is, when the handshake has proved it."""
        self.agent_id, self.cluster_id, self.epoch = agent_id, cluster_id, epoch

    def on_close(self, handler: ClosedHandler) -> None:
        """Call a handler when the session ends; at once when it has ended."""
        if self.closed is not None:
            handler(self.closed)
        else:
            self._on_closed.append(handler)

    async def wait_closed(self) -> Closed:
        """Wait for the end of the session."""
        ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.on_close(lambda closed: None if ended.done() else ended.set_result(closed))
        return await ended

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        self.channel.close(code, reason)

    def abort(self, reason: str) -> None:
        """Drop the connection without a word: the other side does not answer."""
        self.channel.abort(reason)

    # -- control messages ----------------------------------------------------------------------

    async def send(self, message: link.Message) -> None:
        self._raise_if_closed()
        text = link.encode(message)
        if not self.channel.paused:
            self.channel.send_text(text)
            return
        sent = asyncio.get_running_loop().create_future()
        self._outbox.append((text, sent))
        await sent

    def send_now(self, message: link.Message) -> None:
        """Send without waiting for room: for the last words before `close`. Nothing happens when it is closed."""
        if self.channel.is_open:
            self.channel.send_text(link.encode(message))

    async def receive(self, timeout: float) -> link.Message:
        """Take the next control message; only before `start`.

        Raises: TimeoutError. TunnelClosed.
        """
        async with asyncio.timeout(timeout):
            while not self._inbox:
                self._raise_if_closed()
                self._arrival = asyncio.get_running_loop().create_future()
                await self._arrival
        return self._inbox.take()

    def start(self, handler: MessageHandler) -> None:
        self._inbox.start(handler)

    def lift_budget(self) -> None:
        """The peer is known: what it may send is bounded by credit and queues from now on."""
        self.channel.lift_budget()

    def allow_streams(self) -> None:
        """The handshake is complete: binary messages are welcome."""
        self._streams_allowed = True

    # -- streams -------------------------------------------------------------------------------

    def create_stream(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> StreamTransport:
        self._raise_if_closed()
        return begin_stream(
            self.mux, target, protocol_factory, first_bytes, on_answer=on_answer, extra={"session": self}
        )

    async def open_stream(self, target: streams.Target, *, timeout: float = OPEN_TIMEOUT) -> TunnelStream:
        return await open_answered(self.create_stream, target, timeout)

    # -- what the channel and the mux call -------------------------------------------------------

    def text_arrived(self, text: bytes) -> None:
        self.last_message_at = self._clock.monotonic()
        try:
            message = link.decode(text)
        except link.BadMessage as error:
            self.close(link.CLOSE_BAD_MESSAGE, f"bad message: {error}")
            return
        if isinstance(message, link.Unknown):
            self.unknown_messages += 1
            return
        if isinstance(message, link.Goodbye):
            self.goodbye = message
        if not self._inbox.put(message, len(text)):
            self.close(link.CLOSE_BAD_MESSAGE, "control messages come faster than they can be handled")
        elif self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def binary_arrived(self, data: memoryview) -> None:
        if self._streams_allowed:
            self.mux.receive(data)
        else:
            self.close(link.CLOSE_BAD_MESSAGE, "stream data before the handshake was complete")

    def writable(self) -> None:
        while self._outbox and not self.channel.paused:
            text, sent = self._outbox.popleft()
            self.channel.send_text(text)
            _resolve(sent)
        self.mux.flush()

    def channel_closed(self, closed: Closed) -> None:
        error = TunnelClosed(f"tunnel closed: {closed}")
        self.mux.lose(error)
        for _, sent in self._outbox:
            if not sent.done():
                sent.set_exception(TunnelClosed(error.reason))
        self._outbox.clear()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        handlers, self._on_closed = self._on_closed, []
        for handler in handlers:
            handler(closed)

    def _stream_opened(self, stream: Stream) -> IncomingStream:
        return IncomingStream(self.mux, stream, self._stream_requested)

    def _stream_requested(self, incoming: IncomingStream) -> None:
        if self.on_stream is None:
            incoming.refuse("busy", "the agent is not ready yet")
        else:
            self.on_stream(incoming)

    def _protocol_broken(self, reason: str) -> None:
        self.close(link.CLOSE_BAD_MESSAGE, reason)

    # -- inside ----------------------------------------------------------------------------------

    def _raise_if_closed(self) -> None:
        if self.closed is not None:
            raise TunnelClosed(f"tunnel closed: {self.closed}")
        if not self.channel.is_open:
            raise TunnelClosed("the tunnel is not open yet")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


__all__ = ["LinkSession", "Session", "TooManyStreams"]

"""What every adapter's session has in common: messages upward in order, its end, and a no to what it cannot carry.

An adapter turns what its agent says into messages of our own link (`tell`), and messages of our own link into what its
agent understands (`deliver`). Implements `towline.tunnel.session.Session`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents.connect import Admitted
from towline.tunnel.errors import NORMAL_CLOSE, Closed, TargetRefused, TunnelClosed
from towline.tunnel.inbox import Inbox, MessageHandler
from towline.tunnel.opening import TunnelStream, open_answered
from towline.tunnel.session import OPEN_TIMEOUT, ClosedHandler
from towline.wire import link, streams

TOLD_BYTES = 4096
"""What a message counts as in the queue where the adapter does not say: it is made here, from bounded input."""


class AdaptedSession:
    """A session with an agent that does not speak our link.

    Subclasses implement `deliver` and `hang_up`, and `create_stream` where their protocol carries streams.

    Args: what: the kind of agent, for people: "a PipeOps agent". owner: holds the tasks of messages.
    """

    what = "an older agent"

    def __init__(
        self, admitted: Admitted, *, owner: TaskOwner, remote_address: str = "", clock: Clock = REAL_CLOCK
    ) -> None:
        self.agent_id = admitted.agent_id
        self.cluster_id = admitted.cluster_id
        self.epoch = admitted.epoch
        self.remote_address = remote_address
        self.rtt = 0.0
        self.closed: Closed | None = None
        self.heard_at = clock.monotonic()
        """Monotonic moment of the last sign of life."""
        self._clock = clock
        self._inbox = Inbox(owner, lambda: self.agent_id)
        self._on_closed: list[ClosedHandler] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.agent_id} epoch={self.epoch} closed={self.closed}>"

    # -- for adapters --------------------------------------------------------------------------

    async def deliver(self, message: link.Message) -> None:
        """Pass a message of ours on, as the agent understands it; ignore what means nothing there."""

    def hang_up(self, code: int, reason: str) -> None:
        """End the connection, if there is one."""

    def tell(self, message: link.Message, size: int = TOLD_BYTES) -> None:
        """Say something in the agent's name; it is handled after what was told before."""
        if self.closed is None and not self._inbox.put(message, size):
            self.close(link.CLOSE_BAD_MESSAGE, "messages come faster than they can be handled")

    def heard(self) -> None:
        """Note a sign of life."""
        self.heard_at = self._clock.monotonic()

    def ended(self, closed: Closed) -> None:
        """Note that the connection is gone; only the first time counts."""
        if self.closed is not None:
            return
        self.closed = closed
        handlers, self._on_closed = self._on_closed, []
        for handler in handlers:
            handler(closed)

    def no_stream(self, target: streams.Target) -> TargetRefused:
        """Return the refusal of a target that this kind of agent does not carry."""
        kind = type(target).__name__.lower()
        return TargetRefused("unsupported", f"{self.what} carries no streams to a {kind}; Towline's own agent does")

    # -- the interface -------------------------------------------------------------------------

    @property
    def silence(self) -> float:
        return self._clock.monotonic() - self.heard_at

    @property
    def stream_count(self) -> int:
        return 0

    def start(self, handler: MessageHandler) -> None:
        self._inbox.start(handler)

    def on_close(self, handler: ClosedHandler) -> None:
        if self.closed is not None:
            handler(self.closed)
        else:
            self._on_closed.append(handler)

    async def send(self, message: link.Message) -> None:
        if self.closed is not None:
            raise TunnelClosed(f"tunnel closed: {self.closed}")
        await self.deliver(message)

    def send_now(self, message: link.Message) -> None:
        """Last words of our link mean nothing to an older agent: the close says it all."""

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        if self.closed is None:
            self.hang_up(code, reason)
            self.ended(Closed(code, reason))

    def create_stream(
        self,
        target: streams.Target,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        first_bytes: bytes = b"",
        *,
        on_answer: Callable[[streams.Answer], None] | None = None,
    ) -> asyncio.Transport:
        raise self.no_stream(target)

    async def open_stream(self, target: streams.Target, *, timeout: float = OPEN_TIMEOUT) -> TunnelStream:
        return await open_answered(self.create_stream, target, timeout)

"""Takes WebSocket upgrades of older agents over from the edge: first who it is, then the answer to the upgrade.

Our own link proves who speaks after the upgrade; older agents present a token with it, and understand nothing but the
status of its answer. So the look-up comes first, while the connection waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.logging import get_logger
from towline.tunnel.framing import LinkProtocol
from towline.tunnel.websocket import Channel
from towline.wire.http1 import RequestBuffer, RequestHead, parse_request_head

MAX_WAITING_PER_ADDRESS = 64
"""Upgrades of one source address that wait for their look-up: an office whose agents all come back at once."""

MAX_WAITING = 4096
"""The same in sum, as for our own link."""

LOOKUP_TIMEOUT = 20.0
"""Seconds for the look-up: older agents wait 10 to 30 s for the answer to their upgrade."""

EARLY_BYTES = 64 * 1024
"""What an agent may send before it was answered; a client that speaks WebSocket sends nothing."""

_log = get_logger("protocols")


class UpgradeRefused(Exception):
    """The upgrade is answered with a status; the reason goes to the agent's log and to ours."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


Entering = Callable[[Channel], None]
"""Takes the channel before it opens: it attaches whoever gets its messages."""

Enter = Callable[[RequestHead, str], Awaitable[Entering]]
"""Finds out who asks, from the head and the remote address. Raises: UpgradeRefused."""


class UpgradeDoor:
    """The door of one protocol. Implements `towline.control.routing.TunnelDoor`.

    Args: enter: see above. make_channel: the channel with the timers of that protocol's agents.
    """

    def __init__(
        self,
        enter: Enter,
        *,
        owner: TaskOwner,
        make_channel: Callable[[], Channel] | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.draining = False
        self.refused: Counter[int] = Counter()
        """Upgrades that were refused, by status; for metrics."""
        self._enter = enter
        self._owner = owner
        self._make_channel = make_channel or (lambda: Channel(clock=clock))
        self._clock = clock
        self._waiting: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<UpgradeDoor waiting={self._waiting.total()} draining={self.draining}>"

    def accept(self, transport: asyncio.Transport, head: bytes, remote_address: str) -> None:
        """Take over a connection whose request head, and perhaps more, was read."""
        if transport.is_closing():
            return
        early = _Early(transport)
        transport.set_protocol(early)
        if self._owner.closed:
            transport.abort()
            return
        self._waiting[remote_address] += 1
        self._owner.spawn(f"upgrade of {remote_address}", self._decide(transport, early, head, remote_address))

    async def _decide(self, transport: asyncio.Transport, early: _Early, head: bytes, address: str) -> None:
        try:
            entering = await self._entering(head, address)
        except UpgradeRefused as error:
            self._refuse(transport, early, head, error)
            return
        except BaseException:
            transport.abort()
            raise
        finally:
            self._forget(address)
        if not early.lost:
            channel = self._make_channel()
            entering(channel)
            self._open(transport, head + early.data, WSUpgradeResponse.create_101_response(), channel)

    async def _entering(self, head: bytes, address: str) -> Entering:
        request = _parsed(head)
        if self.draining:
            raise UpgradeRefused(503, "the server is going away, come back later")
        if self._waiting[address] > MAX_WAITING_PER_ADDRESS or self._waiting.total() > MAX_WAITING:
            raise UpgradeRefused(503, "too many connections are waiting to sign in")
        if request.get(b"origin") is not None:
            raise UpgradeRefused(403, "browsers are not agents")
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                return await self._enter(request, address)
        except TimeoutError:
            raise UpgradeRefused(503, "the server cannot ask its database now") from None

    def _refuse(self, transport: asyncio.Transport, early: _Early, head: bytes, error: UpgradeRefused) -> None:
        self.refused[error.status] += 1
        _log.warning("upgrade refused", status=error.status, why=error.reason)
        if not early.lost:
            body = f"{error.reason}\n".encode()
            self._open(transport, head, WSUpgradeResponse.create_error_response(error.status, body), None)

    def _open(
        self, transport: asyncio.Transport, received: bytes, response: WSUpgradeResponse, channel: Channel | None
    ) -> None:
        def upgraded(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            return WSUpgradeResponseWithListener(response, channel)

        most = channel.limits.text_bytes if channel is not None else 0
        protocol = LinkProtocol(is_client=False, factory=upgraded, clock=self._clock, max_frame_bytes=most)
        if channel is not None:
            channel.protocol = protocol
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_reading():
            transport.resume_reading()
        protocol.feed(received)

    def _forget(self, address: str) -> None:
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]


class _Early(asyncio.Protocol):
    """Holds a connection while it waits."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = False
        self.data = b""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > EARLY_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def _parsed(head: bytes) -> RequestHead:
    raw = RequestBuffer().feed_and_cut(head)
    if raw is None:
        raise UpgradeRefused(400, "the request head is not whole")
    return parse_request_head(raw)

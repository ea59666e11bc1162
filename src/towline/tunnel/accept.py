"""Takes agent links over from the edge: a transport and the request head that was already read become a session.

It answers the WebSocket upgrade, bounds what strangers may do, and runs the handshake. Who may enter is decided by the
`Authenticator`; what a session is for, by whoever it hands sessions to.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.framing import SERVER_PING_INTERVAL, LinkProtocol
from towline.tunnel.handshake import UNAUTHENTICATED_BYTES, Authenticator, admit
from towline.tunnel.session import LinkSession
from towline.tunnel.websocket import Channel
from towline.wire import link

MAX_UNAUTHENTICATED_PER_ADDRESS = 32
"""Sockets of one source address that have not proved who they are: a whole office may come back at once."""

MAX_UNAUTHENTICATED = 4096
"""The same in sum: 32 MiB of buffers at most, and more than a storm of 500 connects a second leaves open."""

_log = structlog.get_logger("towline.tunnel")


class LinkAcceptor:
    """The server's door for agents.

    Args: owner: holds the tasks of handshakes and of sessions. max_per_address: see the constant; benchmarks raise it.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        owner: TaskOwner,
        max_per_address: int = MAX_UNAUTHENTICATED_PER_ADDRESS,
        max_unauthenticated: int = MAX_UNAUTHENTICATED,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.draining = False
        """While true new links are answered 503; agents come back after their back-off, elsewhere or here."""
        self.refused: Counter[str] = Counter()
        """Upgrades that were refused, by reason; for metrics."""
        self._authenticator = authenticator
        self._owner = owner
        self._max_per_address = max_per_address
        self._max_unauthenticated = max_unauthenticated
        self._clock = clock
        self._strangers: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<LinkAcceptor strangers={self.stranger_count} draining={self.draining}>"

    @property
    def stranger_count(self) -> int:
        """Connections that have not proved who they are."""
        return self._strangers.total()

    def accept(self, transport: asyncio.Transport, head: bytes, remote_address: str) -> None:
        """Take over a connection whose request head, and perhaps more, was read.

        Args: transport: a uvloop or asyncio stream transport, plain or TLS; reading may be paused. head: every byte
        read so far. remote_address: of the agent, behind trusted proxies too; limits count by it.
        """
        if transport.is_closing():
            return
        protocol = LinkProtocol(
            is_client=False,
            factory=lambda request: self._upgrade(request, protocol, remote_address),
            clock=self._clock,
        )
        protocol.budget_bytes = len(head) + UNAUTHENTICATED_BYTES
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_reading():
            transport.resume_reading()
        protocol.feed(head)

    def _upgrade(
        self, request: WSUpgradeRequest, protocol: LinkProtocol, remote_address: str
    ) -> WSUpgradeResponseWithListener:
        refusal = self._refusal(request, remote_address)
        if refusal is not None:
            status, reason = refusal
            self.refused[reason] += 1
            body = f"{reason}\n".encode()
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body), None)
        channel = Channel(clock=self._clock, ping_interval=SERVER_PING_INTERVAL)
        channel.protocol = protocol
        session = LinkSession(
            channel, owner=self._owner, is_agent=False, remote_address=remote_address, clock=self._clock
        )
        channel.on_open = lambda: self._opened(session)
        response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": link.PROTOCOL})
        return WSUpgradeResponseWithListener(response, channel)

    def _refusal(self, request: WSUpgradeRequest, remote_address: str) -> tuple[int, str] | None:
        """Say with which status and why an upgrade is refused; None when it is not."""
        if self.draining:
            return 503, "the server is going away, come back later"
        if "origin" in request.headers:
            return 403, "browsers are not agents"
        if request.headers.get("sec-websocket-version", "").strip() != "13":
            return 426, "WebSocket version 13 is required"
        offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
        if link.PROTOCOL not in offered:
            return 400, f"subprotocol {link.PROTOCOL} is required"
        if self._strangers[remote_address] >= self._max_per_address:
            return 429, "too many connections of this address are waiting to sign in"
        if self.stranger_count >= self._max_unauthenticated:
            return 503, "too many connections are waiting to sign in"
        return None

    def _opened(self, session: LinkSession) -> None:
        if self._owner.closed:
            session.close(link.CLOSE_DRAINING, "draining")
            return
        self._strangers[session.remote_address] += 1
        self._owner.spawn(f"handshake with {session.remote_address}", self._handshake(session))

    async def _handshake(self, session: LinkSession) -> None:
        try:
            await admit(session, self._authenticator)
        except BaseException:
            session.close(link.CLOSE_DRAINING, "the server could not finish the handshake")
            raise
        finally:
            self._forget_stranger(session.remote_address)

    def _forget_stranger(self, remote_address: str) -> None:
        self._strangers[remote_address] -= 1
        if self._strangers[remote_address] <= 0:
            del self._strangers[remote_address]

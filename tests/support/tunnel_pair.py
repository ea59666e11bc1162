"""A control plane's end and an agent's end of one tunnel, for everybody's tests.

`memory_tunnel` joins two sessions without sockets, bytes moving through the event loop; `loopback_tunnel` runs the real
thing: a listener, picows on both ends, the handshake. Both give a `TunnelPair`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.accept import LinkAcceptor
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import ABNORMAL_CLOSE, Closed, LinkRefused
from towline.tunnel.handshake import Admission, enter
from towline.tunnel.session import LinkSession
from towline.tunnel.websocket import HEADROOM, Channel
from towline.wire import link
from towline.wire.yamux_model import Limits

NONCE = "n" * 43


class MemoryChannel(Channel):
    """A channel whose messages arrive at another one in the next turn of the event loop.

    `hold()` stops delivery as a stalled line does, and makes the writer pause after `room_bytes`.
    """

    def __init__(self, room_bytes: int = 128 * 1024, clock: Clock = REAL_CLOCK) -> None:
        super().__init__(clock=clock)
        self.peer: MemoryChannel
        self.sent: list[tuple[str, bytes]] = []
        self._room_bytes = room_bytes
        self._in_flight: list[tuple[str, bytes]] = []
        self._held = False
        self._scheduled = False

    @property
    def is_open(self) -> bool:
        return self.closed is None

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        self._deliver_soon()

    def send_binary(self, buffer: bytearray) -> None:
        self._send("binary", bytes(buffer[HEADROOM:]))

    def send_text(self, text: bytes) -> None:
        self._send("text", text)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.closed is None:
            self._finish(Closed(code, reason))
            asyncio.get_running_loop().call_soon(self.peer._finish, Closed(code, reason, by_peer=True))

    def abort(self, reason: str) -> None:
        if self.closed is None:
            self._finish(Closed(ABNORMAL_CLOSE, reason))
            lost = Closed(ABNORMAL_CLOSE, "the connection was lost", by_peer=True)
            asyncio.get_running_loop().call_soon(self.peer._finish, lost)

    def _send(self, kind: str, data: bytes) -> None:
        if self.closed is not None:
            return
        self.sent.append((kind, data))
        self._in_flight.append((kind, data))
        if sum(len(body) for _, body in self._in_flight) > self._room_bytes:
            self.paused = True
        self._deliver_soon()

    def _deliver_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._held:
            return
        messages, self._in_flight = self._in_flight, []
        for kind, data in messages:
            events = self.peer._events
            if events is None or self.peer.closed is not None:
                return
            if kind == "text":
                events.text_arrived(data)
            else:
                events.binary_arrived(memoryview(data))
        if self.paused and self._events is not None:
            self.paused = False
            self._events.writable()


class OpenDoor:
    """An authenticator that lets every agent in, or refuses as told."""

    def __init__(self) -> None:
        self.sessions: asyncio.Queue[LinkSession] = asyncio.Queue()
        self.hellos: list[link.Hello] = []
        self.refusal: LinkRefused | None = None
        self.epoch = 0

    def challenge(self, remote_address: str) -> link.Challenge:
        return link.Challenge(nonce=NONCE, origin="https://towline.test", server_time=0.0)

    async def authenticate(self, hello: link.Hello, challenge: link.Challenge, remote_address: str) -> Admission:
        self.hellos.append(hello)
        if self.refusal is not None:
            raise self.refusal
        self.epoch += 1
        return Admission(
            link.Welcome(
                agent_id=hello.agent_id,
                cluster_id="clu_test",
                cluster_name="test",
                epoch=self.epoch,
                generation=hello.generation + 1,
            )
        )

    async def admitted(self, session: LinkSession, admission: Admission) -> None:
        self.sessions.put_nowait(session)


class AnySigner:
    """An agent's identity that signs with nothing."""

    def __init__(self, agent_id: str = "agt_test") -> None:
        self.agent_id = agent_id
        self.generation = 1
        self.welcomes: list[link.Welcome] = []

    async def hello(self, challenge: link.Challenge) -> link.Hello:
        return link.Hello(
            agent_id=self.agent_id,
            key_id="key",
            instance_id="instance",
            generation=self.generation,
            signature="signature",
            version="0.0.0",
        )

    async def welcomed(self, welcome: link.Welcome) -> None:
        self.generation = welcome.generation
        self.welcomes.append(welcome)


@dataclass
class TunnelPair:
    """Both ends of a tunnel, past the handshake. Set `agent.on_stream` to serve targets."""

    server: LinkSession
    agent: LinkSession
    owner: TaskOwner
    server_got: list[link.Message] = field(default_factory=list)
    agent_got: list[link.Message] = field(default_factory=list)


@dataclass(kw_only=True)
class MemoryPair(TunnelPair):
    """Both ends and the channels below them, which tests hold and look into."""

    server_channel: MemoryChannel
    agent_channel: MemoryChannel


def collector(into: list[link.Message]) -> Callable[[link.Message], Awaitable[None]]:
    """Make a message handler that appends to a list."""

    async def handle(message: link.Message) -> None:
        into.append(message)

    return handle


def memory_channels(clock: Clock = REAL_CLOCK) -> tuple[MemoryChannel, MemoryChannel]:
    """Make two joined channels."""
    one, two = MemoryChannel(clock=clock), MemoryChannel(clock=clock)
    one.peer, two.peer = two, one
    return one, two


@asynccontextmanager
async def memory_tunnel(*, limits: Limits | None = None, clock: Clock = REAL_CLOCK) -> AsyncIterator[MemoryPair]:
    """Two joined sessions in memory, the handshake left out."""
    async with TaskOwner("tunnel-pair") as owner:
        one, two = memory_channels(clock)
        server = LinkSession(one, owner=owner, is_agent=False, remote_address="memory", limits=limits, clock=clock)
        agent = LinkSession(two, owner=owner, is_agent=True, remote_address="memory", limits=limits, clock=clock)
        pair = MemoryPair(server, agent, owner, server_channel=one, agent_channel=two)
        for session in (server, agent):
            session.identify("agt_test", "clu_test", 1)
            session.allow_streams()
        server.start(collector(pair.server_got))
        agent.start(collector(pair.agent_got))
        try:
            yield pair
        finally:
            server.close()
            await asyncio.sleep(0)


class Handover(asyncio.Protocol):
    """Reads one request head as the edge does, and hands the connection to the acceptor."""

    def __init__(self, acceptor: LinkAcceptor) -> None:
        self._acceptor = acceptor
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            peer = self._transport.get_extra_info("peername")
            self._acceptor.accept(self._transport, self._head, peer[0])


@dataclass
class LinkServer:
    """A listener on loopback that hands every connection to an acceptor."""

    acceptor: LinkAcceptor
    door: OpenDoor
    owner: TaskOwner
    url: str
    port: int


@asynccontextmanager
async def link_server(
    *, context: ssl.SSLContext | None = None, owner: TaskOwner | None = None, **arguments: int
) -> AsyncIterator[LinkServer]:
    """Run an acceptor behind a real listener on loopback."""
    async with TaskOwner("link-server") as own:
        used = owner or own
        door = OpenDoor()
        acceptor = LinkAcceptor(door, owner=used, **arguments)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Handover(acceptor), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        scheme = "https" if context else "http"
        try:
            yield LinkServer(acceptor, door, used, f"{scheme}://127.0.0.1:{port}", port)
        finally:
            server.close()
            while not door.sessions.empty():
                door.sessions.get_nowait().close()
            await asyncio.sleep(0)


@asynccontextmanager
async def loopback_tunnel(
    *, context: ssl.SSLContext | None = None, route: Route | None = None
) -> AsyncIterator[TunnelPair]:
    """Both ends over a real WebSocket on loopback, past the handshake."""
    async with link_server(context=context) as server, TaskOwner("agent") as owner:
        agent = await dial(Endpoint.parse(server.url), route or Route(), owner=owner)
        await enter(agent, AnySigner())
        session = await server.door.sessions.get()
        pair = TunnelPair(session, agent, owner)
        session.start(collector(pair.server_got))
        agent.start(collector(pair.agent_got))
        try:
            yield pair
        finally:
            agent.close()
            session.close()
            await asyncio.sleep(0)

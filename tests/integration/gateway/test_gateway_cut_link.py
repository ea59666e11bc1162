"""Downloads through a link that is cut at random: each is right by its SHA-256 or an error, never short and good."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from tests.support.edge import HOST, Raw, raw_upstream, running_edge
from tests.support.tunnel_pair import AnySigner, link_server

from towline.agent.policy import LocalPolicy
from towline.agent.streams.dialling import Dialler
from towline.agent.streams.router import StreamRouter
from towline.aio.tasks import TaskOwner
from towline.gateway.interfaces import ToTarget
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import LinkDown, LinkRefused, TunnelClosed
from towline.tunnel.handshake import enter
from towline.tunnel.session import LinkSession
from towline.wire.link import Message
from towline.wire.streams import Tcp

CHUNK = 64 * 1024
WORKERS = 4


class Cutter(asyncio.Protocol):
    """One end of a relayed connection; both ends are reset when the budget of bytes is used up."""

    def __init__(self, budget: list[int], live: set[Cutter]) -> None:
        self.budget = budget
        self.live = live
        self.transport: asyncio.Transport | None = None
        self.peer: Cutter | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "abort")
        self.transport = transport
        self.live.add(self)

    def data_received(self, data: bytes) -> None:
        self.budget[0] -= len(data)
        if self.budget[0] <= 0:
            self.cut()
        elif self.peer is None or self.peer.transport is None:
            self.early.append(data)
        else:
            self.peer.transport.write(data)

    def cut(self) -> None:
        for end in (self, self.peer):
            if end is not None and end.transport is not None:
                end.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.live.discard(self)
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.abort()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()


@asynccontextmanager
async def cutting_relay(target: int, budgets: random.Random, most: int) -> AsyncIterator[int]:
    """Relay connections to a port; each is cut after a random number of bytes."""
    loop = asyncio.get_running_loop()
    live: set[Cutter] = set()
    async with TaskOwner("relay") as owner:

        def accept() -> Cutter:
            near = Cutter([budgets.randrange(most // 50, most)], live)
            owner.spawn("join", join(near))
            return near

        async def join(near: Cutter) -> None:
            with suppress(OSError):
                _, far = await loop.create_connection(lambda: Cutter(near.budget, live), "127.0.0.1", target)
                near.peer, far.peer = far, near
                assert far.transport is not None
                for data in near.early:
                    far.transport.write(data)

        server = await loop.create_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            async with asyncio.timeout(10):
                while live:
                    for cutter in list(live):
                        cutter.cut()
                    await asyncio.sleep(0.01)  # until every end has heard of it


@dataclass
class Bench:
    """What came of the downloads."""

    outcomes: Counter[str] = field(default_factory=Counter)
    links: int = 0


async def be_agent(port: int, owner: TaskOwner, bench: Bench) -> None:
    """Dial again and again, as the agent's own loop does but without its pauses."""

    async def ignore(message: Message) -> None:
        """Handle no message."""

    while True:
        with suppress(OSError, LinkDown, LinkRefused, TunnelClosed, TimeoutError):
            session = await dial(Endpoint.parse(f"http://127.0.0.1:{port}"), Route(), owner=owner)
            await enter(session, AnySigner())
            assert isinstance(session, LinkSession)
            session.on_stream = StreamRouter({Tcp: Dialler(LocalPolicy, lambda: ()).serve_tcp}, owner, 512).take
            session.start(ignore)
            bench.links += 1
            await session.wait_closed()


async def fetch(port: int, path: str, size: int, digest: str, bench: Bench) -> None:
    """Download once and note what came of it."""
    found, received = hashlib.sha256(), 0
    try:
        async with await Raw.connect(port, limit=1 << 20) as client:
            await client.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            head = await client.until(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status != 200:
                bench.outcomes[f"status {status}"] += 1
                return
            left = -1 if b"chunked" in head else size
            while left:
                if left < 0:
                    length = int(await client.until(b"\r\n"), 16)
                    data = (await client.exactly(length + 2))[:-2]
                    left = -1 if length else 0
                else:
                    data = await client.reader.read(min(left, CHUNK))
                    if not data:
                        raise ConnectionError("short")
                    left -= len(data)
                found.update(data)
                received += len(data)
    except (OSError, asyncio.IncompleteReadError):
        bench.outcomes["broken off"] += 1
        return
    right = received == size and found.hexdigest() == digest
    bench.outcomes["right" if right else "WRONG"] += 1


async def download(size: int, times: int, seed: int) -> Bench:
    chance = random.Random(seed)
    data = chance.randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    bench = Bench()

    async def serve(connection: Raw) -> None:
        while True:
            head = await connection.until(b"\r\n\r\n")
            if b"/chunked" in head:
                await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for at in range(0, size, CHUNK):
                    part = data[at : at + CHUNK]
                    await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
                await connection.send(b"0\r\n\r\n")
            elif b"/until-close" in head:
                await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + data)
                return
            else:
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, data))

    async with (
        raw_upstream(serve) as target,
        running_edge() as running,
        link_server() as server,
        cutting_relay(server.port, chance, size * 6) as relay,
        TaskOwner("agent") as owner,
    ):
        sessions: list[LinkSession] = []

        async def take_links() -> None:
            async def ignore(message: Message) -> None:
                """Handle no message."""

            while True:
                session = await server.door.sessions.get()
                session.start(ignore)
                sessions[:] = [session]

        owner.spawn("links", take_links())
        owner.spawn("agent", be_agent(relay, owner, bench))
        connector = TunnelConnector(lambda: sessions[-1] if sessions else None, Tcp(host="127.0.0.1", port=target))
        running.routes.by_host[HOST] = ToTarget("app", connector)
        left = iter(range(times))

        async def work() -> None:
            for _ in left:
                while not sessions or sessions[-1].closed is not None:
                    await asyncio.sleep(0.005)  # until the agent is back: what is measured is not how fast that is
                path = chance.choice(["/length", "/chunked", "/until-close"])
                await fetch(running.port, path, size, digest, bench)

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        await owner.close()
        for session in sessions:
            session.close()
        running.edge._context.pools.close()
    return bench


def judge(bench: Bench, times: int) -> None:
    print(dict(bench.outcomes), bench.links, "links")
    assert bench.outcomes["WRONG"] == 0, bench.outcomes
    assert bench.outcomes.total() == times
    assert bench.outcomes["right"] > times / 10, bench.outcomes
    assert bench.outcomes["right"] < times, "the link was never cut"


@pytest.mark.parametrize("seed", [1, 2])
async def test_download_through_a_link_that_is_cut_is_right_or_an_error(seed: int) -> None:
    judge(await download(2 * 1024 * 1024, 30, seed), 30)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_two_hundred_downloads_of_32_mib_through_a_cut_link_are_right_or_an_error() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    judge(await download(32 * 1024 * 1024, 200, seed), 200)

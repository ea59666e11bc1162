"""The tunnel over a long way and over a thin line (faults F12 and F16), through a relay that is one."""

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest
from tests.support.tunnel_pair import AnySigner, TunnelPair, collector, link_server

from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.handshake import enter
from towline.wire import link, streams
from towline.wire.yamux_frames import INITIAL_WINDOW_BYTES

TARGET = streams.Tcp(host="127.0.0.1", port=1)


class Far(asyncio.Protocol):
    """One side of a relay: what it reads leaves the other side later, or not faster than allowed."""

    def __init__(self, delay, rate):
        self.delay, self.rate = delay, rate
        self.other = None
        self.early = []
        self.free_at = 0.0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        loop = asyncio.get_running_loop()
        begin = max(self.free_at, loop.time())
        self.free_at = begin + (len(data) / self.rate if self.rate else 0.0)
        loop.call_at(self.free_at + self.delay, self.deliver, data)
        if self.rate and self.free_at > loop.time():
            self.transport.pause_reading()
            loop.call_at(self.free_at, self.transport.resume_reading)

    def deliver(self, data):
        if self.other is None:
            self.early.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def join(self, other):
        self.other = other
        for data in self.early:
            other.transport.write(data)

    def connection_lost(self, exc):
        if self.other is not None:
            self.other.transport.abort()


@asynccontextmanager
async def far_tunnel(*, delay=0.0, rate=0.0, buffer_bytes=0):
    """A tunnel whose line takes `delay` seconds each way and carries `rate` bytes a second."""
    loop = asyncio.get_running_loop()
    async with link_server() as server, TaskOwner("agent") as owner:

        async def join(near):
            _, there = await loop.create_connection(lambda: Far(delay, rate), "127.0.0.1", server.port)
            near.join(there)
            there.join(near)

        class Near(Far):
            def connection_made(self, transport):
                super().connection_made(transport)
                owner.spawn("join", join(self))

        relay = await loop.create_server(lambda: Near(delay, rate), "127.0.0.1", 0)
        if buffer_bytes:
            for sock in relay.sockets:
                sock.setsockopt(1, 8, buffer_bytes)  # SOL_SOCKET, SO_RCVBUF: what a thin line holds in flight
        url = f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
        agent = await dial(Endpoint.parse(url), Route(), owner=owner)
        await enter(agent, AnySigner())
        session = await server.door.sessions.get()
        pair = TunnelPair(session, agent, owner)
        session.start(collector(pair.server_got))
        agent.start(collector(pair.agent_got))
        try:
            yield pair
        finally:
            agent.abort("over")
            session.abort("over")
            relay.close()
            await asyncio.sleep(0)


class Pouring(asyncio.Protocol):
    """Sends without end."""

    def connection_made(self, transport):
        self.transport = transport
        self.paused = False
        asyncio.get_running_loop().call_soon(self.resume_writing)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        while not self.paused and not self.transport.is_closing():
            self.transport.write(bytes(65536))


async def test_stream_over_a_long_way_outgrows_its_first_window():
    """Without growth 100 ms of round trip would mean 2.6 MB/s."""
    round_trip = 0.1
    async with far_tunnel(delay=round_trip / 2) as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(Pouring)
        async with asyncio.timeout(5):
            while not pair.server.rtt:
                await asyncio.sleep(0.01)
        assert round_trip <= pair.server.rtt < 3 * round_trip
        stream = await pair.server.open_stream(TARGET)
        total, began = 0, time.perf_counter()
        while total < 20_000_000:
            total += len(await stream.read(1 << 20))
        rate = total / (time.perf_counter() - began)
        assert pair.server.mux.yamux.streams[0].window_bytes > INITIAL_WINDOW_BYTES
        assert rate > 2 * INITIAL_WINDOW_BYTES / round_trip
        stream.abort()


async def test_window_at_its_limit_still_carries_four_fifths_of_what_it_allows():
    """Fault F12: throughput of at least window / round trip x 0.8, here with the window kept at its first size."""
    round_trip = 0.1
    async with far_tunnel(delay=round_trip / 2) as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(Pouring)
        pair.server.mux.yamux.limits = type(pair.server.mux.yamux.limits)(max_window_bytes=INITIAL_WINDOW_BYTES)
        stream = await pair.server.open_stream(TARGET)
        total, began = 0, time.perf_counter()
        while total < 3_000_000:
            total += len(await stream.read(1 << 20))
        assert total / (time.perf_counter() - began) > 0.8 * INITIAL_WINDOW_BYTES / round_trip
        stream.abort()


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_heartbeats_pass_a_thin_line_that_is_full():
    """Fault F16: 64 KB/s, a transfer without end, heartbeats; nobody is taken for dead."""
    seconds = min(300.0, float(os.environ.get("TOWLINE_SOAK_SECONDS", "300")))
    async with far_tunnel(rate=64_000, buffer_bytes=16_384) as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(Pouring)
        stream = await pair.server.open_stream(TARGET)

        async def drain():
            while await stream.read():
                pass

        draining = pair.owner.spawn("drain", drain())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = len(pair.server_got)
            async with asyncio.timeout(20):
                await pair.agent.send(link.Heartbeat(sent_at=time.time()))
                while len(pair.server_got) == before:
                    await asyncio.sleep(0.05)
            assert pair.server.closed is None
            assert pair.agent.closed is None
        draining.cancel()

"""The tunnel alone: frames of the machine, exchanges and bulk over a real WebSocket on loopback, idle agents.

    python -m benchmarks.mux

Each line is measured in this run, on the machine it runs on; ratios are against plain TCP on the same loop, with the
same protocols. Both ends run in one process, except for the idle agents, whose server is measured alone.
"""

import asyncio
import gc
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import structlog
import uvloop
from tests.support.tunnel_pair import AnySigner, collector, link_server, loopback_tunnel

from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.framing import PING_INTERVAL
from towline.tunnel.handshake import enter
from towline.wire import streams
from towline.wire.yamux import Yamux

REQUEST, ANSWER = b"r" * 150, b"a" * 1200
EXCHANGES = 40_000
BULK_BYTES = 400_000_000
IDLE_AGENTS = 1_000
WARM_AGENTS = 100
"""Connected before the memory of the others is counted: the first ones pay for imports and pools."""

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Transport]]


class Answering(asyncio.Protocol):
    """A service: one answer per request."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER)


class Pouring(asyncio.Protocol):
    """A service: bytes without end, as fast as they are taken."""

    chunk = bytes(65536)

    def connection_made(self, transport):
        self.transport = transport
        self.paused = False
        asyncio.get_running_loop().call_soon(self.pour)

    def pour(self):
        while not self.paused and not self.transport.is_closing():
            self.transport.write(self.chunk)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.pour()


class Asking(asyncio.Protocol):
    """A client: asks again when the answer is whole, until the run is over."""

    def __init__(self, run):
        self.run = run
        self.got = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += len(data)
        if self.got >= len(ANSWER):
            self.got = 0
            self.run.one_more(self.transport)


class Draining(asyncio.Protocol):
    """A client: counts what comes."""

    def __init__(self):
        self.total = 0
        self.enough = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.total += len(data)
        if self.total >= BULK_BYTES and not self.enough.done():
            self.enough.set_result(None)


class Run:
    """Counts exchanges until there are enough of them."""

    def __init__(self, count):
        self.left = count
        self.over = asyncio.get_running_loop().create_future()

    def one_more(self, transport):
        self.left -= 1
        if self.left > 0:
            transport.write(REQUEST)
        elif not self.over.done():
            self.over.set_result(None)


@asynccontextmanager
async def through_tunnel(service):
    async with loopback_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(service)

        async def connect(factory):
            return pair.server.create_stream(streams.Tcp(host="127.0.0.1", port=1), factory)

        yield connect


@asynccontextmanager
async def through_tcp(service):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(service, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    opened = []

    async def connect(factory):
        transport, _ = await loop.create_connection(factory, "127.0.0.1", port)
        opened.append(transport)
        return transport

    yield connect
    for transport in opened:
        transport.abort()
    server.close()
    await asyncio.sleep(0)


async def exchanges(connect: Connect, connections: int) -> tuple[float, float]:
    """Returns exchanges a second, and microseconds of CPU each, both ends."""
    run = Run(EXCHANGES)
    opened = [await connect(lambda: Asking(run)) for _ in range(connections)]
    cpu, wall = time.process_time(), time.perf_counter()
    for transport in opened:
        transport.write(REQUEST)
    await run.over
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    for transport in opened:
        transport.abort()
    return EXCHANGES / wall, cpu / EXCHANGES * 1e6


async def bulk(connect: Connect) -> float:
    """Returns megabytes a second of one stream."""
    drain = Draining()
    began = time.perf_counter()
    transport = await connect(lambda: drain)
    await drain.enough
    seconds = time.perf_counter() - began
    transport.abort()
    return drain.total / seconds / 1e6


async def fairness() -> tuple[float, float]:
    """Returns exchanges a second on one connection without, and beside, four bulk streams."""
    services = {1: Answering, 2: Pouring}
    async with loopback_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(services[incoming.target.port])

        async def rate():
            run = Run(2_000)
            transport = pair.server.create_stream(streams.Tcp(host="a", port=1), lambda: Asking(run))
            began = time.perf_counter()
            transport.write(REQUEST)
            await run.over
            transport.abort()
            return 2_000 / (time.perf_counter() - began)

        alone = await rate()
        for _ in range(4):
            pair.server.create_stream(streams.Tcp(host="a", port=2), Draining)
        return alone, await rate()


def machine_frames() -> float:
    """Returns frames a second through two machines, 100 bytes each, written, taken and received."""
    a, b = Yamux(is_client=True), Yamux(is_client=False)
    opened = [b.open() for _ in range(32)]
    rounds, body = 3_000, b"x" * 100
    began = time.perf_counter()
    for _ in range(rounds):
        for stream in opened:
            b.write(stream, body)
        out = bytearray()
        b.take(out, 1 << 20)
        for event in a.receive(out):
            if hasattr(event, "payload"):
                a.consume(event.stream, len(event.payload))
        back = bytearray()
        a.take(back, 1 << 20)
        b.receive(back)
    return rounds * len(opened) / (time.perf_counter() - began)


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def idle_agents() -> tuple[float, float]:
    """Returns bytes of the server's memory per idle agent, the first ones left out, and the share of a core that
    all of them take during one ping interval, without heartbeats."""
    # The agents share one address here, so the limit on strangers per address is lifted.
    async with link_server(max_per_address=IDLE_AGENTS) as server:
        argv = [sys.executable, "-m", "benchmarks.mux", "agents", server.url, str(WARM_AGENTS), str(IDLE_AGENTS)]
        agents = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sessions = []
        for count in (WARM_AGENTS, IDLE_AGENTS):
            while len(sessions) < count:
                sessions.append(await server.door.sessions.get())
                sessions[-1].start(collector([]))
            await asyncio.sleep(1)
            gc.collect()
            if count == WARM_AGENTS:
                before = resident_bytes()
                agents.stdin.write(b"more\n")
                agents.stdin.flush()
        used = resident_bytes() - before
        cpu = time.process_time()
        await asyncio.sleep(PING_INTERVAL)
        cpu = time.process_time() - cpu
        agents.stdin.close()
        await asyncio.get_running_loop().run_in_executor(None, agents.wait)
        for session in sessions:
            session.close()
    return used / (IDLE_AGENTS - WARM_AGENTS), cpu / PING_INTERVAL


async def be_agents(url: str, first: int, total: int) -> None:
    """Connect some agents, the others on a word, and stay until standard input ends."""
    async with TaskOwner("agents") as owner:
        sessions = []

        async def connect(count):
            while len(sessions) < count:
                session = await dial(Endpoint.parse(url), Route(), owner=owner)
                await enter(session, AnySigner(f"agt_{len(sessions)}"))
                sessions.append(session)

        await connect(first)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.readline)
        await connect(total)
        await loop.run_in_executor(None, sys.stdin.readline)
        for session in sessions:
            session.close()


async def measure() -> list[tuple[str, str, str]]:
    """Returns the rows of the table: what, measured, baseline."""
    rows = [("frames of 100 B through two machines", f"{machine_frames() / 1e3:,.0f} k/s", "")]
    for connections in (1, 32, 128):
        async with through_tcp(Answering) as connect:
            base, base_cpu = await exchanges(connect, connections)
        async with through_tunnel(Answering) as connect:
            rate, cpu = await exchanges(connect, connections)
        rows.append(
            (
                f"exchanges, {connections} streams",
                f"{rate / 1e3:,.1f} k/s, {cpu:.1f} us CPU both ends",
                f"TCP {base / 1e3:,.1f} k/s, {base_cpu:.1f} us: x{rate / base:.2f}",
            )
        )
    async with through_tcp(Pouring) as connect:
        base = await bulk(connect)
    async with through_tunnel(Pouring) as connect:
        rate = await bulk(connect)
    rows.append(("bulk, one stream", f"{rate:,.0f} MB/s", f"TCP {base:,.0f} MB/s: x{rate / base:.2f}"))
    alone, beside = await fairness()
    rows.append(
        ("exchanges beside 4 bulk streams", f"{beside:,.0f} /s", f"alone {alone:,.0f} /s: x{beside / alone:.2f}")
    )
    memory, share = await idle_agents()
    rows.append((f"memory per idle agent, {IDLE_AGENTS} of them", f"{memory / 1024:.1f} KiB", "goal 40 KiB"))
    rows.append((f"CPU for {IDLE_AGENTS} idle agents, pings alone", f"{share:.2%} of a core", "goal 3% for 2,000"))
    return rows


def main() -> None:
    """Print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if sys.argv[1:2] == ["agents"]:
        uvloop.run(be_agents(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        return
    rows = uvloop.run(measure())
    print(f"tunnel on {os.cpu_count()} cores, Python {sys.version.split()[0]}, uvloop {version('uvloop')}")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()

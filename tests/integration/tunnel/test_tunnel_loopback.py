"""The tunnel over real sockets: picows on both ends, plain and with TLS, taken over as from the edge."""

import asyncio
import hashlib
import random
import ssl

import pytest
import trustme
from tests.support.tunnel_pair import AnySigner, collector, link_server, loopback_tunnel

from towline.aio.streams import EndedThere
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import TunnelClosed
from towline.tunnel.handshake import enter
from towline.tunnel.trust import TrustAnchors
from towline.wire import link, streams

TARGET = streams.Tcp(host="127.0.0.1", port=1)


@pytest.fixture(params=["plain", "tls"])
def line(request):
    """Arguments of `loopback_tunnel`, without and with TLS."""
    if request.param == "plain":
        return {}
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    return {"context": context, "route": Route(TrustAnchors(ca_pem=pem))}


def echoing(pair):
    """Let the agent send back everything."""

    def serve(incoming):
        async def echo():
            stream = incoming.accept_stream()
            while data := await stream.read():
                await stream.write(data)
            await stream.write_eof()
            await stream.aclose()

        pair.owner.spawn("echo", echo())

    pair.agent.on_stream = serve


async def test_bytes_come_back_unchanged_over_many_streams_at_once(line):
    async with loopback_tunnel(**line) as pair:
        echoing(pair)

        async def exchange(seed):
            rng = random.Random(seed)
            sent, received = hashlib.sha256(), hashlib.sha256()
            stream = await pair.server.open_stream(TARGET)

            async def write():
                for _ in range(rng.randrange(1, 30)):
                    data = rng.randbytes(rng.choice([1, 100, 9_000, 70_000]))
                    sent.update(data)
                    await stream.write(data)
                await stream.write_eof()

            async def read():
                while data := await stream.read(rng.choice([1_000, 1 << 20])):
                    received.update(data)

            async with asyncio.TaskGroup() as group:
                group.create_task(write())
                group.create_task(read())
            await stream.aclose()
            return sent.digest() == received.digest()

        async with asyncio.TaskGroup() as group:
            results = [group.create_task(exchange(seed)) for seed in range(40)]
        assert all(result.result() for result in results)
        assert pair.server.stream_count == 0


async def test_messages_of_every_size_arrive_both_ways(line):
    async with loopback_tunnel(**line) as pair:
        sizes = [0, 1, 125, 126, 65_500, 70_000, 900_000]
        for size in sizes:
            await pair.server.send(link.Error(code="x", message="s" * size))
            await pair.agent.send(link.Error(code="x", message="a" * size))
        async with asyncio.timeout(10):
            while len(pair.agent_got) < len(sizes) or len(pair.server_got) < len(sizes):
                await asyncio.sleep(0)
        assert [len(message.message) for message in pair.agent_got if isinstance(message, link.Error)] == sizes
        assert [len(message.message) for message in pair.server_got if isinstance(message, link.Error)] == sizes


async def test_message_passes_a_busy_line_quickly(line):
    """Reference: dataplane, fairness; here only that control waits for buffers, not for the whole transfer."""
    async with loopback_tunnel(**line) as pair:
        done = asyncio.Event()

        def serve(incoming):
            async def pour():
                stream = incoming.accept_stream()
                while not done.is_set():
                    await stream.write(bytes(65536))
                stream.abort()

            pair.owner.spawn("pour", pour())

        pair.agent.on_stream = serve
        readers = [await pair.server.open_stream(TARGET) for _ in range(4)]

        async def drain(stream):
            with pytest.raises(EndedThere):
                while await stream.read(1 << 20):
                    pass

        async with asyncio.TaskGroup() as group:
            for stream in readers:
                group.create_task(drain(stream))
            for number in range(20):
                await pair.agent.send(link.Heartbeat(sent_at=float(number)))
                async with asyncio.timeout(5):
                    while len(pair.server_got) <= number:
                        await asyncio.sleep(0)
            done.set()


async def test_round_trip_is_measured(line):
    async with loopback_tunnel(**line) as pair:
        async with asyncio.timeout(5):
            while not (pair.server.rtt and pair.agent.rtt):
                await asyncio.sleep(0)
        assert 0 < pair.server.rtt < 5


async def test_close_reaches_the_other_side_with_code_and_reason(line):
    async with loopback_tunnel(**line) as pair:
        stream_there = asyncio.get_running_loop().create_future()
        pair.agent.on_stream = lambda incoming: stream_there.set_result(incoming.accept_stream())
        stream = await pair.server.open_stream(TARGET)
        pair.server.close(link.CLOSE_FINAL, "removed")
        closed = await pair.agent.wait_closed()
        assert (closed.code, closed.reason, closed.by_peer, closed.is_final) == (4403, "removed", True, True)
        with pytest.raises(TunnelClosed, match="removed"):
            await stream.read()
        with pytest.raises(TunnelClosed, match="removed"):
            await (await stream_there).read()


async def test_cut_connection_is_seen_by_both_sides(line):
    async with loopback_tunnel(**line) as pair:
        pair.agent.channel.transport.underlying_transport.abort()
        assert (await pair.server.wait_closed()).code == 1006
        assert (await pair.agent.wait_closed()).code == 1006


async def test_agent_that_stops_reading_costs_bounded_memory(line):
    async with loopback_tunnel(**line) as pair:
        echoing(pair)
        stream = await pair.server.open_stream(TARGET)
        pair.agent.channel.transport.underlying_transport.pause_reading()
        transport = stream.transport
        while not pair.server.channel.paused and transport.get_write_buffer_size() < 200_000:
            transport.write(b"x" * 50_000)
            await asyncio.sleep(0)
        waiting = pair.server.channel.transport.underlying_transport.get_write_buffer_size()
        assert waiting + transport.get_write_buffer_size() < 1_000_000
        stream.abort()


async def test_sliced_bytes_change_nothing():
    """Fault F17: one to three bytes per write, in both directions, on the line itself."""
    rng = random.Random(17)

    async def slice_copy(reader, writer):
        try:
            while data := await reader.read(4096):
                at = 0
                while at < len(data):
                    step = rng.randrange(1, 4)
                    writer.write(data[at : at + step])
                    await writer.drain()
                    at += step
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with link_server() as server, TaskOwner("agent") as owner:

        async def relay(reader, writer):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", server.port)
            owner.spawn("up", slice_copy(reader, there_writer))
            owner.spawn("down", slice_copy(there_reader, writer))

        middle = await asyncio.start_server(relay, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{middle.sockets[0].getsockname()[1]}"
        agent = await dial(Endpoint.parse(url), Route(), owner=owner)
        await enter(agent, AnySigner())
        session = await server.door.sessions.get()
        session.start(collector([]))
        agent.on_stream = lambda incoming: incoming.accept(Mirror)
        stream = await session.open_stream(TARGET)
        data = rng.randbytes(5_000)
        await stream.write(data)
        await stream.write_eof()
        got = b""
        while chunk := await stream.read():
            got += chunk
        assert got == data
        agent.close()
        session.close()
        middle.close()


class Mirror(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        return False

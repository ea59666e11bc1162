"""Connections that are passed through: TLS by its server name, TCP on a port, with the end of each side by itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from tests.support.edge import NoApi, Raw, Routes, raw_upstream
from tests.support.gateway_stand import serve_agent
from tests.support.tunnel_pair import loopback_tunnel

from towline.aio.tasks import TaskOwner
from towline.gateway.connectors import TcpConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import AccessRecord, Connector, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.route_options import RouteOptions, parse_options
from towline.gateway.tunnelled import TunnelConnector
from towline.wire.client_hello import ClientHello
from towline.wire.streams import Tcp

trustme = pytest.importorskip("trustme")
AUTHORITY = trustme.CA()
NAME, OWN = "db.example.test", "own.example.test"


def server_tls(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@dataclass
class ByName:
    """Leads one server name to a route."""

    route: ToTarget | None = None
    wants_hello: bool = True

    def choose(self, hello: ClientHello) -> ssl.SSLContext | ToTarget | None:
        return self.route if hello.server_name == NAME else None


@dataclass
class Scene:
    edge: Edge
    port: int
    tcp: int
    records: list[AccessRecord]
    connector: Connector


@asynccontextmanager
async def raw_edge(target: int, options: RouteOptions | None = None, *, tunnel: bool = True) -> AsyncIterator[Scene]:
    """An edge that passes `NAME` and one port through to a target, by a real tunnel."""
    records: list[AccessRecord] = []
    async with loopback_tunnel() as pair, TaskOwner("raw") as owner:
        serve_agent(pair, owner)
        connector: Connector = TcpConnector("127.0.0.1", target, owner)
        if tunnel:
            connector = TunnelConnector(lambda: pair.server, Tcp(host="127.0.0.1", port=target))
        route = ToTarget("db", connector, options=options, id="rte_raw")
        edge = Edge(
            EdgeOptions(sweep_interval=0.02),
            router=Routes(),
            api=NoApi(),
            links=None,
            tls=lambda: server_tls(OWN),
            access_log=records.append,
            hellos=ByName(route),
        )
        edge.listen("127.0.0.1", 0)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        ports = edge.raw_ports("127.0.0.1")
        await ports.update({port: route})
        assert ports.ports == {port}
        try:
            yield Scene(edge, edge.addresses[0][1], port, records, connector)
        finally:
            await edge.close()


async def echo(connection: Raw) -> None:
    """A service that speaks first, and echoes until it is told to stop."""
    await connection.send(b"hello\n")
    while data := await connection.reader.read(65536):
        await connection.send(data)
    await connection.send(b"bye\n")


@pytest.mark.parametrize("tunnel", [True, False])
async def test_port_passes_bytes_both_ways_and_each_end_by_itself(tunnel: bool) -> None:
    async with raw_upstream(echo) as target, raw_edge(target, tunnel=tunnel) as scene:
        async with await Raw.connect(scene.tcp) as client:
            assert await client.until(b"\n") == b"hello\n"  # the service speaks first
            data = bytes(range(256)) * 4096
            reading = asyncio.create_task(client.exactly(len(data)))
            await client.send(data)
            assert await reading == data
            client.writer.write_eof()
            assert await client.to_end() == b"bye\n"
        figure = scene.edge.figures.all()[0]
        assert figure.received_bytes == len(data)


async def test_tls_is_passed_through_by_its_name_and_others_end_here() -> None:
    tls = server_tls(NAME)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            writer.write(b"inside " + await reader.readline())
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        async with raw_edge(server.sockets[0].getsockname()[1]) as scene:
            async with await Raw.connect(scene.port, ssl=client_tls(), server_hostname=NAME) as client:
                await client.send(b"secret\n")
                assert await client.until(b"\n") == b"inside secret\n"
            async with await Raw.connect(scene.port, ssl=client_tls(), server_hostname=OWN) as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n")
                assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 404")
    finally:
        server.close()


async def test_hello_may_come_byte_by_byte() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_tls().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    got = bytearray()

    async def note(connection: Raw) -> None:
        while len(got) < len(hello):
            got.extend(await connection.reader.read(65536))
        await connection.send(b"seen")

    async with raw_upstream(note) as target, raw_edge(target) as scene, await Raw.connect(scene.port) as client:
        for at in range(len(hello)):
            await client.send(hello[at : at + 1])
        assert await client.exactly(4) == b"seen"
    assert bytes(got) == hello


async def test_networks_decide_about_raw_connections_too() -> None:
    options = parse_options({"deny": ["127.0.0.0/8"], "tcp_port": 5432})
    async with raw_upstream(echo) as target, raw_edge(target, options) as scene:
        async with await Raw.connect(scene.tcp) as client:
            assert await client.to_end() == b""
        assert scene.edge.counters.refused["address_denied"] == 1


async def test_target_that_is_not_there_is_a_reset_and_on_record() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = int(free.getsockname()[1])
    async with raw_edge(nowhere) as scene:
        async with await Raw.connect(scene.tcp) as client:
            assert await client.to_end() == b""
        async with asyncio.timeout(10):
            while not scene.records:
                await asyncio.sleep(0.01)
        assert scene.records[0].method == "RAW"
        assert scene.records[0].outcome != "done"


async def test_idle_raw_connection_is_cut_when_the_route_says_so() -> None:
    options = parse_options({"idle_timeout": 0.2})
    async with raw_upstream(echo) as target, raw_edge(target, options) as scene, await Raw.connect(scene.tcp) as client:
        assert await client.to_end() == b"hello\n"


async def test_port_of_a_route_that_is_gone_does_not_listen() -> None:
    async with raw_upstream(echo) as target, raw_edge(target) as scene:
        await scene.edge.raw_ports("127.0.0.1").update({})
        with pytest.raises(OSError):
            await Raw.connect(scene.tcp)


async def test_port_that_is_taken_is_a_problem_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        async with raw_upstream(echo) as target, raw_edge(target) as scene:
            ports = scene.edge.raw_ports("127.0.0.1")
            await ports.update({port: ToTarget("other", scene.connector)})
            assert ports.problems[port] == "Address already in use"
            assert ports.ports == frozenset()

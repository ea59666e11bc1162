"""A real edge on loopback, the upstreams it sends to, and a raw client that speaks any bytes. For integration tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from towline.aio.tasks import TaskOwner
from towline.gateway.connectors import TcpConnector
from towline.gateway.edge import Edge
from towline.gateway.interfaces import AccessRecord, Answer, Connector, Peer, Route, ToApi, ToLink, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.paths import LINK_PATH
from towline.wire.http1 import RequestHead

HOST = "app.example.test"
DEADLINE = 10.0  # seconds until a test that waits for something gives up

FAST = EdgeOptions(
    first_byte_timeout=0.3,
    handshake_timeout=0.5,
    header_timeout=0.3,
    keep_alive_timeout=0.4,
    body_window=0.3,
    linger_timeout=0.1,
    half_close_timeout=0.3,
    sweep_interval=0.02,
    pool_idle_timeout=0.5,
)
"""Deadlines short enough for tests that wait for them."""


@dataclass
class Routes:
    """A router for tests: by host name, everything else to the API."""

    by_host: dict[str, Route] = field(default_factory=dict)

    def route(self, head: RequestHead, peer: Peer) -> Route:
        if head.host == "broken.example.test":
            raise RuntimeError("a router that fails")
        if head.host == "unknown.example.test":
            return Answer(404, "unknown_host", "nothing is published under this name")
        found = self.by_host.get(head.host)
        if found is not None:
            return found
        return ToLink() if head.path == LINK_PATH else ToApi()


@dataclass
class Links:
    """Takes over connections and says hello on them."""

    taken: list[tuple[bytes, Peer]] = field(default_factory=list)

    def accept(self, transport: asyncio.Transport, head_bytes: bytes, peer: Peer) -> None:
        self.taken.append((head_bytes, peer))
        transport.set_protocol(_Echo(transport))
        transport.write(b"linked\n")


class _Echo(asyncio.Protocol):
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class NoApi:
    """A connector for tests that never ask the API."""

    def connect(self, protocol: Any, first_bytes: bytes) -> None:
        raise AssertionError("this test has no API")


@dataclass
class RunningEdge:
    """An edge with what belongs to it."""

    edge: Edge
    routes: Routes
    links: Links
    owner: TaskOwner
    records: list[AccessRecord]
    recorded: asyncio.Event
    port: int

    def publish(self, port: int, host: str = HOST, name: str = "app") -> None:
        """Publish a TCP port of loopback under a host name."""
        self.routes.by_host[host] = ToTarget(name, TcpConnector("127.0.0.1", port, self.owner))

    async def record(self, index: int = 0) -> AccessRecord:
        """Wait for a line of the access log."""
        async with asyncio.timeout(DEADLINE):
            while len(self.records) <= index:
                self.recorded.clear()
                await self.recorded.wait()
        return self.records[index]


@asynccontextmanager
async def running_edge(
    *, options: EdgeOptions | None = None, api: Connector | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RunningEdge]:
    """Run an edge on a free port of 127.0.0.1."""
    routes, links, records, recorded = Routes(), Links(), [], asyncio.Event()

    def log(record: AccessRecord) -> None:
        records.append(record)
        recorded.set()

    async with TaskOwner("test-edge") as owner:
        edge = Edge(
            options or replace(FAST, header_timeout=5.0, body_window=5.0, keep_alive_timeout=5.0),
            router=routes,
            api=api or NoApi(),
            links=links,
            tls=(lambda: tls) if tls is not None else None,
            access_log=log,
        )
        edge.listen("127.0.0.1", 0)
        try:
            yield RunningEdge(edge, routes, links, owner, records, recorded, edge.addresses[0][1])
        finally:
            await edge.close()


class Raw:
    """A client that sends any bytes and reads any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, **options: Any) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with some bytes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(mark)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(size)

    async def to_end(self) -> bytes:
        """Read until the other side ends; a reset counts as the end."""
        data = b""
        async with asyncio.timeout(DEADLINE):
            with suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    data += piece
        return data

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer that has a length."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.exactly(int(fields.get("content-length", "0")))
        return int(first.split()[1]), fields, body

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> "Raw":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def ask(port: int, data: bytes) -> bytes:
    """Send bytes on a new connection and return everything until its end."""
    async with await Raw.connect(port) as client:
        await client.send(data)
        return await client.to_end()


Handler = Callable[[Raw], Awaitable[None]]


@asynccontextmanager
async def raw_upstream(handler: Handler) -> AsyncIterator[int]:
    """Serve every connection by a coroutine; yields the port."""
    running: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        connection = Raw(reader, writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(connection)
        finally:
            running.discard(task)
            await connection.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

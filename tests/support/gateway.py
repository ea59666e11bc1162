"""Published services for tests: the whole server with its edge, agents that dial real targets, and a DNS of our own.

async with published(database_url, tmp_path) as scene:
    agent = await scene.agent("edge-1")
    answer = await scene.get("web.example.net")
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import httpx
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener
from tests.support.served import served

from towline.control.app import create_app
from towline.control.server import Running
from towline.tunnel.opening import IncomingStream, TunnelStream
from towline.wire import streams

Answer = Callable[[bytes], bytes]
CHUNK = 65536


class FakeDns(asyncio.DatagramProtocol):
    """A name server that knows what it is told: `records["name.", "TXT"] = ["text"]`. Counts what it is asked."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.silent = False
        self._transport: asyncio.DatagramTransport

    @property
    def address(self) -> str:
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = dns.message.from_wire(data)
        question = asked.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent:
            return
        answer = dns.message.make_response(asked)
        answer.flags |= dns.flags.RA
        known = self._known(name, kind)
        if known:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *known))
        elif not any(self._known(name, other) for other in ("A", "AAAA", "TXT", "CNAME", "CAA")):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)

    def _known(self, name: str, kind: str) -> list[str]:
        wild = "*." + name.partition(".")[2]
        return self.records.get((name, kind)) or self.records.get((wild, kind)) or []


@asynccontextmanager
async def fake_dns() -> AsyncIterator[FakeDns]:
    """A name server on a loopback port."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(FakeDns, ("127.0.0.1", 0))
    try:
        yield protocol
    finally:
        transport.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def http_target(answer: Answer | None = None) -> AsyncIterator[int]:
    """A real HTTP/1.1 server on a loopback port; it answers each request with what `answer` makes of its head."""

    def say(head: bytes) -> bytes:
        return b"you asked for " + head.split(b"\r\n", 1)[0]

    make = answer or say

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                body = make(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        await _close(writer)

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        await serve(reader, writer)
        writers.discard(writer)

    writers: set[asyncio.StreamWriter] = set()
    server = await asyncio.start_server(tracked, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(writers):
            await _close(writer)


class Dialling:
    """Serves the streams of a scripted agent by dialling loopback ports: those given for its targets, or their own."""

    def __init__(self, agent: ScriptedAgent) -> None:
        self.agent = agent
        self.ports: dict[str, int] = {}
        """By what the target says: `web:80` for a Kubernetes service `web` with port 80."""
        self.targets: list[streams.Target] = []

    def __call__(self, incoming: IncomingStream) -> None:
        self.targets.append(incoming.target)
        self.agent.owner.spawn("dial", self._dial(incoming))

    def _port(self, target: streams.Target) -> int:
        match target:
            case streams.Tcp():
                return target.port
            case streams.KubeService():
                return self.ports[f"{target.name}:{target.port}"]
            case streams.Service():
                return self.ports[f"{target.service}:{target.port}"]
        raise KeyError(target)

    async def _dial(self, incoming: IncomingStream) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port(incoming.target))
        except (OSError, KeyError):
            incoming.refuse("unreachable", "nothing listens there")
            return
        try:
            with contextlib.suppress(Exception):
                await self._carry(incoming.accept_stream(), reader, writer)
        finally:
            writer.close()

    async def _carry(self, stream: TunnelStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(stream.read, writer.write, writer.drain, writer.write_eof))
            while data := await reader.read(CHUNK):
                await stream.write(data)
            await stream.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(Exception):
        await writer.wait_closed()


async def _pump(
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], object],
    drain: Callable[[], Awaitable[None]],
    end: Callable[[], object],
) -> None:
    with contextlib.suppress(Exception):
        while data := await read():
            write(data)
            await drain()
        end()


@dataclass
class Scene:
    """A server with its edge on a loopback port, its API without sockets, and what the test made of it."""

    running: Running
    app: ControlApp
    links: str
    stack: contextlib.AsyncExitStack
    http: httpx.AsyncClient
    agents: dict[str, Dialling] = field(default_factory=dict)

    async def agent(self, cluster: str) -> Dialling:
        """A connected agent of a new cluster."""
        agent = await self.stack.enter_async_context(await enrolled(self.app, cluster_name=cluster, hostname=cluster))
        dialling = Dialling(agent)
        agent.on_stream = dialling
        await agent.connect(self.links)
        await agent.synced()
        self.agents[cluster] = dialling
        return dialling

    async def get(self, host: str, path: str = "/", **headers: str) -> httpx.Response:
        """Ask the edge for a published name, as a proxy that ended TLS does."""
        url = f"http://127.0.0.1:{self.running.port}{path}"
        return await self.http.get(url, headers={"host": host, "x-forwarded-proto": "https", **headers})

    async def settled(self) -> None:
        """Wait until the edge knows what was written."""
        await self.app.control.gateway.intake.flush()
        await self.app.control.gateway.registry.settled()

    async def verify(self, *names: str, org_id: str = "") -> None:
        """Have verified domains, without DNS."""
        from towline.control.domains.models import Domain
        from towline.control.ids import new_id

        async with self.app.control.db.begin() as tx:
            moment = await tx.now()
            for name in names:
                tx.add(
                    Domain(
                        id=new_id("dom"), org_id=org_id or self.app.control.default_org, name=name, state="verified",
                        token="t", verified_at=moment, created_at=moment,
                    )
                )  # fmt: skip
            tx.publish("domain")


@asynccontextmanager
async def published(database_url: str, folder: Path, **changes: Any) -> AsyncIterator[Scene]:
    """A whole server, ready for agents."""
    changes = {"hostnames": ["towline.test"], "trusted_proxies": ["127.0.0.1/32"], **changes}
    async with served(database_url, folder, **changes) as running, contextlib.AsyncExitStack() as stack:
        app = ControlApp(running.control, create_app(running.control), running.control.settings)
        url = await stack.enter_async_context(link_listener(running.control))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        yield Scene(running, app, url, stack, http)
        for client in app.clients:
            await client.aclose()


class DnsThread:
    """A `FakeDns` with an event loop of its own, for tests of whole processes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.server: FakeDns

    def __enter__(self) -> DnsThread:
        self._thread.start()
        making = self._loop.create_datagram_endpoint(FakeDns, ("127.0.0.1", 0))
        self._transport, self.server = asyncio.run_coroutine_threadsafe(making, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._transport.close)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.05, self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        return self.server.address

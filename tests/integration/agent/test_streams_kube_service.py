"""Streams to services of a cluster: real sockets at the target, with and without TLS, a real tunnel before it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from tests.support.played_api import PlayedApi
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.directory import Directory
from towline.agent.policy import GatewayRules, LocalPolicy
from towline.agent.streams.kube_service import KubeServiceServer
from towline.agent.streams.router import StreamRouter
from towline.aio.clock import REAL_CLOCK
from towline.aio.tasks import TaskOwner
from towline.kube import traffic
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import KubeService

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT = 20.0
AUTHORITY = trustme.CA()


@dataclass
class Bed:
    """A control plane's bare session, and the agent's side of it. Every service is on loopback."""

    pair: TunnelPair
    router: StreamRouter
    directory: Directory
    policy: LocalPolicy = field(default_factory=LocalPolicy)

    def serves(self, port: int) -> KubeService:
        spec = traffic.ServiceSpec(cluster_ip="127.0.0.1", ports=(traffic.ServicePort(name="http", port=port),))
        self.directory.watched["shop/web"] = traffic.Service(spec=spec)
        return KubeService(namespace="shop", name="web", port="http")


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    api = PlayedApi({})
    directory = Directory(Api(api.credentials(REAL_CLOCK), connect=api.connect))
    async with loopback_tunnel() as pair, TaskOwner("kube-service") as owner:
        server = KubeServiceServer(directory, lambda: found.policy)
        router = StreamRouter({KubeService: server.serve}, owner, limit=16)
        found = Bed(pair, router, directory)
        pair.agent.on_stream = router.take
        yield found


@asynccontextmanager
async def target(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def encrypted(names: list[str | None]) -> ssl.SSLContext:
    """A context for a name that nobody asks for, which notes the names that are asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("controller.invalid").configure_cert(context)
    context.sni_callback = lambda _, name, __: names.append(name)
    return context


async def hash_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the hash of 4 MiB, and end."""
    writer.write(hashlib.sha256(await reader.readexactly(4 << 20)).hexdigest().encode())
    await writer.drain()
    writer.close()


async def read_all(stream: Any) -> bytes:
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0)


async def test_bytes_pass_both_ways(bed: Bed) -> None:
    body = secrets.token_bytes(4 << 20)
    async with target(hash_it) as port, asyncio.timeout(TIMEOUT):
        stream = await bed.pair.server.open_stream(bed.serves(port))
        assert stream.answer.info["address"] == f"127.0.0.1:{port}"
        await stream.write(body)
        assert await read_all(stream) == hashlib.sha256(body).hexdigest().encode()
        await stream.aclose()
        await until(lambda: bed.router.open == 0)


@pytest.mark.parametrize("name", ["shop.example.com", ""])
async def test_target_with_tls_is_spoken_to_by_the_agent(bed: Bed, name: str) -> None:
    body, names = secrets.token_bytes(4 << 20), list[str | None]()
    async with target(hash_it, encrypted(names)) as port, asyncio.timeout(TIMEOUT):
        plain = bed.serves(port)
        wanted = KubeService(namespace="shop", name="web", port=plain.port, tls=True, server_name=name)
        stream = await bed.pair.server.open_stream(wanted)
        await stream.write(body)
        assert await read_all(stream) == hashlib.sha256(body).hexdigest().encode()
        await stream.aclose()
        await until(lambda: bed.router.open == 0)
    assert names == [name or None]


async def test_opener_that_ends_its_side_still_gets_the_whole_answer_by_tls(bed: Bed) -> None:
    body = secrets.token_bytes(3_000_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(body)
        await writer.drain()
        await reader.read()  # nothing more: the agent closes when all is quiet
        writer.close()

    async with target(answer, encrypted([])) as port, asyncio.timeout(TIMEOUT):
        plain = bed.serves(port)
        stream = await bed.pair.server.open_stream(KubeService(namespace="shop", name="web", port=plain.port, tls=True))
        await stream.write(b"more")
        await stream.write_eof()
        assert hashlib.sha256(await read_all(stream)).digest() == hashlib.sha256(body).digest()
        await stream.aclose()
        await until(lambda: bed.router.open == 0)


async def test_target_that_speaks_no_tls_is_unreachable_in_words(bed: Bed) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-test\r\n")
        await writer.drain()
        writer.close()

    async with target(greet) as port, asyncio.timeout(TIMEOUT):
        plain = bed.serves(port)
        with pytest.raises(TargetRefused) as caught:
            await bed.pair.server.open_stream(KubeService(namespace="shop", name="web", port=plain.port, tls=True))
    assert caught.value.code == "unreachable"
    assert f"127.0.0.1:{port}" in caught.value.reason


async def test_target_that_refuses_is_unreachable_in_words(bed: Bed) -> None:
    async with target(hash_it) as port:
        wanted = bed.serves(port)
    with pytest.raises(TargetRefused) as caught:
        await bed.pair.server.open_stream(wanted)
    assert (caught.value.code, caught.value.reason) == ("unreachable", f"connection refused by 127.0.0.1:{port}")


async def test_policy_is_asked_for_each_stream(bed: Bed) -> None:
    async with target(hash_it) as port:
        wanted = bed.serves(port)
        bed.policy = LocalPolicy(gateway=GatewayRules(namespaces=("other",)))
        with pytest.raises(TargetRefused) as caught:
            await bed.pair.server.open_stream(wanted)
    assert caught.value.code == "forbidden"
    assert "does not publish the namespace 'shop'" in caught.value.reason

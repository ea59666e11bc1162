"""Requests through the edge and a real tunnel: streams as upstream connections, and agents that refuse or go away."""

import asyncio

import pytest
from tests.support.edge import HOST, Raw, ask, raw_upstream, running_edge
from tests.support.tunnel_pair import loopback_tunnel

from towline.aio.streams import pump
from towline.aio.tasks import TaskOwner
from towline.aio.transports import connect_tcp
from towline.gateway.interfaces import ToTarget
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.opening import IncomingStream
from towline.wire.streams import Tcp

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode()


class Dialer:
    """The agent's side: dials what a stream names, or refuses it."""

    def __init__(self, owner: TaskOwner) -> None:
        self._owner = owner
        self.refusal: tuple[str, str] | None = None
        self.opened = 0

    def __call__(self, incoming: IncomingStream) -> None:
        self.opened += 1
        if self.refusal is not None:
            incoming.refuse(*self.refusal)
        else:
            self._owner.spawn("dial", self._dial(incoming))

    async def _dial(self, incoming: IncomingStream) -> None:
        target = incoming.target
        assert isinstance(target, Tcp)
        stream = await connect_tcp(target.host, target.port, timeout=5)
        await pump(stream, incoming.accept_stream())


async def serve(connection: Raw) -> None:
    while True:
        head = await connection.until(b"\r\n\r\n")
        body = head if b"/head" in head else b"x" * 3_000_000 if b"/large" in head else b"ok"
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def test_requests_pass_through_the_tunnel_and_reuse_its_streams() -> None:
    async with (
        raw_upstream(serve) as port,
        running_edge() as running,
        loopback_tunnel() as pair,
        TaskOwner("agent") as owner,
    ):
        pair.agent.on_stream = dialer = Dialer(owner)
        connector = TunnelConnector(lambda: pair.server, Tcp(host="127.0.0.1", port=port))
        running.routes.by_host[HOST] = ToTarget("app", connector)
        async with await Raw.connect(running.port) as client:
            for _ in range(5):
                await client.send(GET + b"\r\n")
                assert (await client.answer())[2] == b"ok"
            assert dialer.opened == 1
            await client.send(GET.replace(b" / ", b" /large ") + b"\r\n")
            assert (await client.answer())[2] == b"x" * 3_000_000
        answers = await asyncio.gather(*[ask(running.port, GET + b"Connection: close\r\n\r\n") for _ in range(40)])
        assert all(answer.endswith(b"ok") for answer in answers)
        running.edge._context.pools.close()


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (("forbidden", "not in the policy of 10.0.0.7"), 502),
        (("unreachable", "connection refused by 10.0.0.7:80"), 502),
        (("timeout", "no answer of 10.0.0.7"), 504),
        (("busy", "too many streams to 10.0.0.7"), 503),
    ],
)
async def test_refusal_of_the_agent_is_an_answer_without_its_addresses(refusal: tuple[str, str], status: int) -> None:
    async with running_edge() as running, loopback_tunnel() as pair, TaskOwner("agent") as owner:
        pair.agent.on_stream = dialer = Dialer(owner)
        dialer.refusal = refusal
        running.routes.by_host[HOST] = ToTarget("app", TunnelConnector(lambda: pair.server, Tcp(host="x", port=1)))
        data = await ask(running.port, GET + b"Connection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 %d " % status)
        assert b"10.0.0.7" not in data
        assert "10.0.0.7" in (await running.record()).detail


async def test_target_without_an_agent_is_unavailable() -> None:
    async with running_edge() as running:
        running.routes.by_host[HOST] = ToTarget("app", TunnelConnector(lambda: None, Tcp(host="x", port=1)))
        data = await ask(running.port, GET + b"Connection: close\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 503 ")


async def test_tunnel_that_breaks_cuts_its_answers_off() -> None:
    async def endless(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
        await connection.to_end()

    async with (
        raw_upstream(endless) as port,
        running_edge() as running,
        loopback_tunnel() as pair,
        TaskOwner("agent") as owner,
    ):
        pair.agent.on_stream = Dialer(owner)
        connector = TunnelConnector(lambda: pair.server, Tcp(host="127.0.0.1", port=port))
        running.routes.by_host[HOST] = ToTarget("app", connector)
        async with await Raw.connect(running.port) as client:
            await client.send(GET + b"\r\n")
            await client.until(b"part")
            pair.server.close()
            assert await client.to_end() == b""
        assert (await running.record()).outcome == "upstream_lost"

"""The link through real proxies: nginx and HAProxy with TLS ended there, and an authenticating Squid."""

import asyncio
import os
from urllib.parse import urlsplit

import pytest
import trustme
from tests.support.tunnel_pair import AnySigner, collector, link_server
from tests.testbed import haproxy, nginx

from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.errors import ProxyFailed
from towline.tunnel.handshake import enter
from towline.tunnel.trust import TrustAnchors
from towline.wire import link, streams

pytestmark = pytest.mark.proxies

IDLE_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "600"))


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def pem(authority, tmp_path):
    """Certificate and key of 127.0.0.1 in one file, and each in its own."""
    issued = authority.issue_cert("127.0.0.1")
    both, certificate, key = tmp_path / "both.pem", tmp_path / "certificate.pem", tmp_path / "key.pem"
    both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return both, certificate, key


def through(kind, server, pem, request):
    """Start a reverse proxy in front of a server; returns it."""
    both, certificate, key = pem
    if kind == "nginx":
        return request.getfixturevalue("start_nginx")(nginx.reverse_proxy(server.url, certificate=certificate, key=key))
    return request.getfixturevalue("start_haproxy")(haproxy.reverse_proxy("127.0.0.1", server.port, pem=both))


async def linked(server, url, route, owner):
    """Bring a link up; returns the server's and the agent's session."""
    agent = await dial(Endpoint.parse(url), route, owner=owner)
    agent.on_stream = lambda incoming: owner.spawn("echo", echo(incoming))
    await enter(agent, AnySigner())
    agent.start(collector([]))
    session = await server.door.sessions.get()
    session.start(collector([]))
    return session, agent


async def echo(incoming):
    stream = incoming.accept_stream()
    while data := await stream.read():
        await stream.write(data)
    await stream.write_eof()
    await stream.aclose()


async def exchange(session):
    """Send a megabyte there and back."""
    stream = await session.open_stream(streams.Tcp(host="127.0.0.1", port=1))
    data = os.urandom(1_000_000)

    async def write():
        await stream.write(data)
        await stream.write_eof()

    got = b""
    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while chunk := await stream.read():
            got += chunk
    await stream.aclose()
    assert got == data


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_link_works_through_a_reverse_proxy_that_ends_tls(kind, authority, pem, request):
    async with link_server() as server, TaskOwner("agent") as owner:
        proxy = through(kind, server, pem, request)
        route = Route(TrustAnchors(ca_pem=authority.cert_pem.bytes().decode()))
        session, agent = await linked(server, f"https://{proxy.address}", route, owner)
        await exchange(session)
        proxy.stop()
        assert (await agent.wait_closed()).code in (1001, 1006)
        assert (await session.wait_closed()).code in (1001, 1006)


async def test_link_passes_an_authenticating_squid(start_squid):
    squid = start_squid(accounts={"agent": "pass-word"})
    async with link_server() as server, TaskOwner("agent") as owner:
        # Squid allows CONNECT to any port that its list names; ours are random.
        with pytest.raises(ProxyFailed) as failed:
            await dial(Endpoint.parse(server.url), Route(proxy=f"http://{squid.address}"), owner=owner)
        assert failed.value.status == 407
        route = Route(environment={"http_proxy": f"http://agent:pass-word@{squid.address}"})
        session, agent = await linked(server, server.url, route, owner)
        await exchange(session)
        agent.close()
        await session.wait_closed()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["nginx", "haproxy", "squid"])
async def test_idle_link_outlives_the_timeouts_of_a_proxy(kind, authority, pem, request):
    """Ten idle minutes, nothing but the link's own pings; then it still works."""
    async with link_server() as server, TaskOwner("agent") as owner:
        if kind == "squid":
            squid = request.getfixturevalue("start_squid")(accounts={"agent": "pass-word"})
            url, route = server.url, Route(proxy=f"http://agent:pass-word@{squid.address}")
        else:
            proxy = through(kind, server, pem, request)
            url, route = f"https://{proxy.address}", Route(TrustAnchors(ca_pem=authority.cert_pem.bytes().decode()))
        session, agent = await linked(server, url, route, owner)
        ended, _ = await asyncio.wait([asyncio.ensure_future(agent.wait_closed())], timeout=IDLE_SECONDS)
        assert not ended, f"the link ended: {agent.closed}"
        await agent.send(link.Heartbeat(sent_at=0.0))
        await exchange(session)
        agent.close()
        assert urlsplit(url).hostname == "127.0.0.1"

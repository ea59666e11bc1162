"""Two agents behind one route, of which one is lost under load: who is asked then, and nothing that happens twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.support.edge import HOST, Raw, RunningEdge, running_edge
from tests.support.gateway_stand import serve_agent
from tests.support.gateway_target import Target
from tests.support.tunnel_pair import TunnelPair, loopback_tunnel

from towline.aio.tasks import TaskOwner
from towline.gateway.balancing import Balanced, Member
from towline.gateway.interfaces import ToTarget
from towline.gateway.route_options import parse_options
from towline.gateway.tunnelled import TunnelConnector
from towline.wire.streams import Tcp


@dataclass
class Two:
    """A route with two targets, each behind an agent of its own."""

    running: RunningEdge
    pairs: list[TunnelPair]
    targets: list[Target]
    balanced: Balanced


@asynccontextmanager
async def two_agents(**options: object) -> AsyncIterator[Two]:
    async with (
        running_edge() as running,
        loopback_tunnel() as one,
        loopback_tunnel() as other,
        TaskOwner("agents") as owner,
    ):
        pairs, targets, members = [one, other], [Target(), Target()], []
        for number, (pair, target) in enumerate(zip(pairs, targets, strict=True)):
            serve_agent(pair, owner)
            await target.start()
            connector = TunnelConnector(lambda pair=pair: pair.server, Tcp(host="127.0.0.1", port=target.port))  # type: ignore[misc]
            members.append(Member(f"m{number}", connector))
        balanced = Balanced(members)
        route = ToTarget("app", balanced, options=parse_options({"https_redirect": False, **options}), id="rte_two")
        running.routes.by_host[HOST] = route
        try:
            yield Two(running, pairs, targets, balanced)
        finally:
            running.edge._context.pools.close()
            for target in targets:
                await target.stop()


async def ask(port: int, request: bytes) -> int:
    """Return the status of one request; 0 when its connection broke."""
    with suppress(OSError, asyncio.IncompleteReadError):
        async with await Raw.connect(port) as client:
            await client.send(request)
            return (await client.answer())[0]
    return 0


def get(number: int) -> bytes:
    return f"GET /sized?size=3&n={number} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


def post(number: int) -> bytes:
    head = f"POST /echo?n={number} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    return head.encode() + b"ab"


async def test_requests_take_turns_among_targets() -> None:
    async with two_agents() as two:
        statuses = [await ask(two.running.port, get(number)) for number in range(10)]
        assert statuses == [200] * 10
        assert min(len(target.seen) for target in two.targets) >= 1


async def test_no_get_fails_when_an_agent_is_lost_under_load() -> None:
    async with two_agents() as two:
        asking = [asyncio.create_task(ask(two.running.port, get(number))) for number in range(90)]
        done, _ = await asyncio.wait(asking[:30])
        assert len(done) == 30
        two.pairs[0].server.abort("lost")
        statuses = Counter(await asyncio.gather(*asking))
        assert statuses[200] >= 88, statuses  # an answer that had begun is broken off, never begun anew
        assert set(statuses) <= {0, 200}
        assert await ask(two.running.port, get(999)) == 200


async def test_no_post_arrives_twice_when_an_agent_is_lost_under_load() -> None:
    async with two_agents() as two:
        asking = [asyncio.create_task(ask(two.running.port, post(number))) for number in range(90)]
        await asyncio.wait(asking[:30])
        two.pairs[1].server.abort("lost")
        statuses = Counter(await asyncio.gather(*asking))
        assert statuses[200] >= 45, statuses
        arrived = Counter(request.target for target in two.targets for request in target.seen)
        assert max(arrived.values()) == 1


async def test_all_agents_away_is_503_at_once() -> None:
    async with two_agents() as two:
        for pair in two.pairs:
            pair.server.abort("lost")
        async with asyncio.timeout(5):
            assert await ask(two.running.port, get(1)) == 503


async def test_health_check_takes_a_sick_target_out() -> None:
    async with two_agents(health_path="/status?code=200", health_interval=1) as two:
        assert await ask(two.running.port, get(0)) == 200  # the route is in use from now on
        await two.targets[0].stop()
        async with asyncio.timeout(20):
            while two.balanced.members[0].is_healthy:
                await asyncio.sleep(0.05)
        assert two.balanced.members[1].is_healthy
        assert [await ask(two.running.port, get(number)) for number in range(6)] == [200] * 6

"""Health of several targets: asked in turns, judged after two failures, healthy again after one good answer."""

import asyncio
from typing import Any, cast

import pytest
from tests.support.edge_memory import MemoryTarget

from towline.aio.tasks import TaskOwner
from towline.gateway import health
from towline.gateway.balancing import Balanced, Member
from towline.gateway.basic_auth import Verifying
from towline.gateway.edge import Edge
from towline.gateway.errors import UpstreamUnreachable
from towline.gateway.interfaces import ConnectorProtocol, ToTarget
from towline.gateway.options import EdgeOptions
from towline.gateway.route_options import parse_options
from towline.gateway.route_policy import RoutePolicy


class Answering(MemoryTarget):
    """Answers each connection at once with what it is told."""

    answer_with: bytes = b"HTTP/1.1 200 OK\r\n"

    def connect(self, protocol: ConnectorProtocol, first_bytes: bytes) -> None:
        super().connect(protocol, first_bytes)
        if self.error is None:
            protocol.data_received(self.answer_with)


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 302 Found\r\n", True),
        (b"HTTP/1.1 503 No\r\n", False),
        (b"SSH-2.0-x\r\n", False),
    ],
)
async def test_good_answers_are_those_that_begin_with_2_or_3(answer: bytes, well: bool) -> None:
    target = Answering()
    target.answer_with = answer
    assert await health.is_well(Member("m", target), b"GET / HTTP/1.1\r\n\r\n") is well
    assert target.connections[0][1].is_aborted


async def test_target_that_is_not_there_or_silent_is_not_well() -> None:
    assert not await health.is_well(Member("m", MemoryTarget(error=UpstreamUnreachable("x"))), b"")
    assert not await health.is_well(Member("m", MemoryTarget()), b"", timeout=0.01)


class Rounds:
    """The pause between two rounds of checks, which a test ends."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.next = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.over.set()
        await self.next.wait()
        self.next.clear()

    async def play(self) -> None:
        self.over.clear()
        self.next.set()
        await self.over.wait()


async def test_two_failures_in_a_row_are_unhealthy_and_one_good_answer_heals() -> None:
    target, rounds = Answering(), Rounds()
    balanced = Balanced([Member("m", target)])
    options = parse_options({"health_path": "/healthz", "health_interval": 1, "host": "inner"})
    policy = RoutePolicy(ToTarget("app", balanced, options=options), Verifying(), None)
    member = balanced.members[0]
    async with TaskOwner("test") as owner:
        owner.spawn("follow", health.follow(policy, lambda _: True, rounds))
        await rounds.over.wait()
        assert target.got().startswith(b"GET /healthz HTTP/1.1\r\nHost: inner\r\n")
        verdicts = []
        for answer in (b"HTTP/1.1 500 No\r\n", b"HTTP/1.1 500 No\r\n", b"HTTP/1.1 204 OK\r\n"):
            target.answer_with = answer
            await rounds.play()
            verdicts.append(member.is_healthy)
    assert verdicts == [True, False, True]


async def test_route_that_changed_is_followed_no_longer() -> None:
    target = Answering()
    route = ToTarget("app", Balanced([Member("m", target)]), options=parse_options({"health_path": "/"}))
    await health.follow(RoutePolicy(route, Verifying(), None), lambda _: False)
    assert target.connections == []


async def test_checks_of_a_route_end_when_it_goes_and_change_with_it() -> None:
    nobody = cast(Any, None)
    edge = Edge(EdgeOptions(), router=nobody, api=nobody, links=nobody)
    targets = [Answering(), Answering()]
    options = parse_options({"health_path": "/", "health_interval": 3600})
    made = [ToTarget("web", Balanced([Member("m", target)]), None, options, "rte_1", "clu_1") for target in targets]
    for number, route in enumerate(made):
        edge._context.policies.of(route)
        async with asyncio.timeout(5):
            while not targets[number].connections or len(edge._health) > 1:
                await asyncio.sleep(0)
        assert len(edge._checks) == 1
    edge.forget_route("rte_1")
    async with asyncio.timeout(5):
        await edge._health.join()
    assert not edge._checks
    policy = edge._context.policies.of(made[1])
    assert edge._context.policies.is_current(policy)  # asked for again: it begins anew
    await edge.close()

"""What is open of a route that was taken away ends soon, and nothing else does."""

import asyncio

import pytest
from tests.support.edge_memory import PEER, MemoryEdge, MemoryTarget, MemoryTransport

from towline.gateway.interfaces import ToTarget
from towline.gateway.raw import RawConnection
from towline.gateway.withdrawn import Withdrawn

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n"
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
async def edge() -> MemoryEdge:
    made = MemoryEdge()
    made.route_to = ToTarget("app", made.target, id="rte_1")
    return made


def look_for_ten_seconds(edge: MemoryEdge, served: set[str]) -> None:
    withdrawn = Withdrawn(served.__contains__)
    for seconds in range(1, 11):
        withdrawn.look(list(edge.context.connections), 1_000.0 + seconds)


async def test_websocket_of_a_route_that_is_gone_ends(edge: MemoryEdge) -> None:
    edge.send(GET + SOCKET + KEY)
    edge.target.answer(SWITCHED)
    look_for_ten_seconds(edge, {"rte_1"})
    assert not edge.transport.is_aborted
    look_for_ten_seconds(edge, set())
    assert edge.transport.is_aborted
    assert edge.target.connections[0][1].is_aborted


async def test_long_answer_of_a_route_that_is_gone_is_broken_off(edge: MemoryEdge) -> None:
    edge.send(GET + b"\r\n")
    edge.target.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    look_for_ten_seconds(edge, set())
    assert edge.transport.is_aborted


async def test_request_that_waits_for_a_route_that_is_gone_is_answered(edge: MemoryEdge) -> None:
    edge.send(GET + b"\r\n")
    look_for_ten_seconds(edge, set())
    assert edge.transport.written.startswith(b"HTTP/1.1 404 ")


async def test_raw_connection_of_a_route_that_is_gone_ends(edge: MemoryEdge) -> None:
    target, transport = MemoryTarget(), MemoryTransport()
    raw = RawConnection(edge.context, ToTarget("db", target, id="rte_raw"), PEER, lambda: None)
    raw.connection_made(transport)
    look_for_ten_seconds(edge, {"rte_raw"})
    assert not transport.is_aborted
    look_for_ten_seconds(edge, set())
    assert transport.is_aborted
    raw.connection_lost(None)


async def test_route_that_is_missing_for_a_moment_loses_nothing(edge: MemoryEdge) -> None:
    edge.send(GET + SOCKET + KEY)
    edge.target.answer(SWITCHED)
    served: set[str] = set()
    withdrawn = Withdrawn(served.__contains__)
    withdrawn.look(list(edge.context.connections), 1_000.0)
    served.add("rte_1")
    for seconds in range(1, 11):
        withdrawn.look(list(edge.context.connections), 1_000.0 + seconds)
    assert not edge.transport.is_aborted


async def test_what_belongs_to_no_published_route_stays(edge: MemoryEdge) -> None:
    edge.route_to = ToTarget("pinned", edge.target)
    edge.send(GET + b"\r\n")
    look_for_ten_seconds(edge, set())
    await asyncio.sleep(0)
    assert edge.transport.written == b"" and not edge.transport.is_aborted

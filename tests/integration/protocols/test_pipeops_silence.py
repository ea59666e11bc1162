"""The timers of a PipeOps agent's socket, unregistered too: on real sockets, with a simulated clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.support.pipeops_agent import PING, PONG, Gone, PlayedAgent, upgrade

from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.control.protocols.admission import Recognised
from towline.control.protocols.pipeops.channel import QUIET_INTERVAL, SILENCE_TIMEOUT, PipeOpsChannel
from towline.control.protocols.pipeops.connection import Connection
from towline.control.protocols.upgrade import Entering, UpgradeDoor
from towline.tunnel.websocket import Channel
from towline.wire import pipeops
from towline.wire.http1 import RequestHead

PINGS_EVERY = 10.0
"""Seconds between the agent's own pings, from the moment its socket is open."""
REGISTERS_AFTER = 60.0
"""Seconds that an agent may take between its upgrade and its registration."""
MUTE = 35.0
"""Seconds that one can be mute right after a reconnect."""


@dataclass
class End:
    """The server's end of one agent that never registers."""

    clock: SimulatedClock
    connection: Connection
    played: PlayedAgent

    async def ping(self) -> None:
        """The agent's ping, and the server's answer."""
        await self.played.send_frame(PING, b"")
        while (await self.played.next_frame())[0] != PONG:
            continue


@pytest.fixture
async def end() -> AsyncIterator[End]:
    clock = SimulatedClock()
    made: asyncio.Queue[Connection] = asyncio.Queue()
    async with TaskOwner("silence") as owner:

        async def introduce(connection: Connection, envelope: pipeops.Envelope | None) -> None:
            """Nobody is known here."""

        async def enter(head: RequestHead, address: str) -> Entering:
            def entering(channel: Channel) -> None:
                assert isinstance(channel, PipeOpsChannel)
                known = Recognised("ctk_1", "org_1", "pipeops", shared=False)
                connection = Connection(
                    channel, known, introduce, address=address, is_gateway=False, owner=owner, clock=clock
                )
                channel.on_open = connection.opened
                made.put_nowait(connection)

            return entering

        door = UpgradeDoor(enter, owner=owner, make_channel=lambda: PipeOpsChannel(clock), clock=clock)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Edge(door), "127.0.0.1", 0)
        played = await upgrade(server.sockets[0].getsockname()[1], "token", None)
        yield End(clock, await made.get(), played)
        await played.close()
        server.close()


class _Edge(asyncio.Protocol):
    """Reads a request's head and hands the connection over, as the edge does."""

    def __init__(self, door: UpgradeDoor) -> None:
        self._door = door
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._door.accept(self._transport, self._head, "127.0.0.1")


async def heard(end: End) -> None:
    """Let the loop work until the server has read what the agent sent last."""
    protocol = end.connection.channel.protocol
    assert protocol is not None
    async with asyncio.timeout(5):
        while protocol.heard_at < end.clock.monotonic():
            await asyncio.sleep(0)


async def test_an_unregistered_socket_lives_for_its_first_minute_and_longer(end: End) -> None:
    passed = 0.0
    while passed < 3 * REGISTERS_AFTER:
        await end.clock.advance(PINGS_EVERY)
        await end.ping()
        passed += PINGS_EVERY
        assert end.connection.channel.is_open, passed
    assert end.connection.session is None


async def test_a_socket_that_is_mute_after_a_reconnect_lives(end: End) -> None:
    await end.clock.advance(MUTE)
    assert end.connection.channel.is_open
    await end.ping()
    await end.clock.advance(MUTE)
    assert end.connection.channel.is_open


async def test_a_socket_that_is_silent_for_45_seconds_is_dropped_by_us_without_a_close_frame(end: End) -> None:
    await end.ping()
    await heard(end)
    await end.clock.advance(SILENCE_TIMEOUT - 0.1)
    assert end.connection.channel.is_open
    await end.clock.advance(0.2)
    closed = end.connection.channel.closed
    assert closed is not None and f"nothing was heard for {SILENCE_TIMEOUT:g} seconds" in closed.reason
    with pytest.raises(Gone):
        while True:
            await end.played.next_frame()
    assert end.played.closed_with == 0


async def test_an_agent_that_misses_two_of_its_pings_is_asked(end: End) -> None:
    await end.ping()
    await heard(end)
    before = end.connection.channel._ping_number
    await end.clock.advance(QUIET_INTERVAL + 0.1)
    assert end.connection.channel._ping_number == before + 1


@pytest.mark.parametrize("code", [1000, 1001, 1008, 4000, 4403])
async def test_every_close_code_of_an_agent_is_an_end_and_nothing_more(end: End, code: int) -> None:
    await end.played.send_frame(8, code.to_bytes(2, "big"))
    assert await end.played.until_closed() == code
    async with asyncio.timeout(5):
        while end.connection.channel.closed is None:
            await asyncio.sleep(0)
    assert (end.connection.channel.closed.code, end.connection.channel.closed.by_peer) == (code, True)

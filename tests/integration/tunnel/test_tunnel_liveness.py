"""A line that goes silent is found out by both ends (fault F13), on real sockets with a simulated clock."""

import asyncio

import pytest
from tests.support.tunnel_pair import AnySigner, link_server

from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Endpoint, Route, dial
from towline.tunnel.framing import PING_INTERVAL, SERVER_PING_INTERVAL
from towline.tunnel.handshake import enter
from towline.tunnel.websocket import QUIET_INTERVAL, SILENCE_TIMEOUT, SMOOTHING


async def until(condition):
    """Let the event loop work until something is true."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def ends():
    """A server's and an agent's session, each with a clock of its own."""
    here, there = SimulatedClock(), SimulatedClock()
    async with link_server(clock=here) as server, TaskOwner("agent") as owner:
        agent = await dial(Endpoint.parse(server.url), Route(), owner=owner, clock=there)
        await enter(agent, AnySigner())
        session = await server.door.sessions.get()
        yield session, here, agent, there
        for end in (session, agent):
            end.close()
        await until(lambda: session.channel.transport.is_disconnected and agent.channel.transport.is_disconnected)


def stall(session):
    """Stop the other side's bytes from being read, without any reset."""
    session.channel.transport.underlying_transport.pause_reading()


async def quiet(*sessions):
    """Wait until every ping of the beginning was answered."""
    await until(lambda: all(session.channel._ping_sent_at is None for session in sessions))


async def test_server_drops_an_agent_that_went_silent_within_25_seconds(ends):
    session, clock, agent, _ = ends
    await quiet(session, agent)
    stall(session)
    await clock.advance(SILENCE_TIMEOUT - 1)
    assert not session.closed
    await clock.advance(1)
    assert "nothing was heard for 25 seconds" in session.closed.reason
    assert (await agent.wait_closed()).code == 1006


async def test_agent_drops_a_server_that_went_silent_within_25_seconds(ends):
    session, _, agent, clock = ends
    await quiet(session, agent)
    stall(agent)
    await clock.advance(SILENCE_TIMEOUT)
    assert "nothing was heard" in agent.closed.reason
    assert (await session.wait_closed()).code == 1006


async def both_advance(here, there, seconds):
    """Let time pass at both ends in steps so small that each hears the other's pings."""
    for _ in range(int(seconds / 5)):
        await here.advance(5)
        await there.advance(5)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_idle_link_is_kept_by_the_agents_pings(ends):
    session, here, agent, there = ends
    await quiet(session, agent)
    await both_advance(here, there, 300)
    assert session.closed is None
    assert agent.closed is None
    assert agent.channel._ping_number == 1 + 300 / PING_INTERVAL
    assert session.channel._ping_number == 1 + 300 / SERVER_PING_INTERVAL


async def test_server_asks_an_agent_that_does_not_ping_by_itself(ends):
    session, clock, _, _ = ends
    for number in range(1, 10):
        await quiet(session)
        assert session.channel._ping_number == number
        await clock.advance(QUIET_INTERVAL)
    assert session.closed is None


async def test_part_of_a_long_message_is_a_sign_of_life(ends):
    """A slow line takes longer for one message than the silence that would be deadly."""
    session, clock, agent, _ = ends
    await quiet(session, agent)
    transport = agent.channel.transport.underlying_transport
    transport.write(b"\x82\xff" + (900_000).to_bytes(8, "big") + bytes(4))
    for _ in range(10):
        heard = session.channel.protocol.heard_at
        transport.write(bytes(10))
        await clock.advance(SILENCE_TIMEOUT - 5)
        await until(lambda before=heard: session.channel.protocol.heard_at > before)
    assert session.closed is None


async def test_round_trip_follows_a_longer_way_slowly_and_a_shorter_one_at_once(ends):
    session, clock, _, _ = ends
    channel = session.channel
    await quiet(session)
    channel.round_trip = 0.0
    for sample, expected in [(0.8, 0.8), (0.08, 0.08), (0.16, 0.08 + 0.08 / SMOOTHING)]:
        channel._ping_number += 1
        channel._ping_sent_at = clock.monotonic()
        await clock.advance(sample)
        channel._pong_arrived(channel._ping_number.to_bytes(8, "big"))
        assert channel.last_round_trip == pytest.approx(sample, abs=1e-6)
        assert channel.round_trip == pytest.approx(expected, abs=1e-6)


async def test_ping_that_comes_while_the_line_is_full_is_answered_later(ends):
    session, _, agent, _ = ends
    await quiet(session, agent)
    session.channel.pause_writing()
    agent.channel._ping_sent_at = 0.0
    agent.channel.transport.send_ping(agent.channel._ping_number.to_bytes(8, "big"))
    await until(lambda: session.channel._owed_pong is not None)
    assert agent.channel._ping_sent_at is not None
    session.channel.resume_writing()
    await quiet(agent)

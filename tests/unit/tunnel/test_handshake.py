"""The handshake's order, deadlines and refusals, both sides over memory channels."""

import pytest
from tests.support.tunnel_pair import AnySigner, OpenDoor, memory_channels

from towline.aio.clock import settle
from towline.aio.tasks import TaskOwner
from towline.tunnel import handshake
from towline.tunnel.errors import LinkRefused, ProtocolFailed, RefusedThere
from towline.tunnel.handshake import admit, enter
from towline.tunnel.session import LinkSession
from towline.wire import link


def ends(owner):
    one, two = memory_channels()
    return (
        LinkSession(one, owner=owner, is_agent=False, remote_address="10.0.0.9"),
        LinkSession(two, owner=owner, is_agent=True),
    )


async def test_both_sides_meet_in_the_fixed_order():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        door, signer = OpenDoor(), AnySigner()
        admitting = owner.spawn("admit", admit(server, door))
        welcome = await enter(agent, signer)
        assert await admitting
        assert [link.decode(text).__class__.__name__ for _, text in server.channel.sent] == ["Challenge", "Welcome"]
        assert [link.decode(text).__class__.__name__ for _, text in agent.channel.sent] == ["Hello", "Ready"]
        assert server.agent_id == agent.agent_id == welcome.agent_id
        assert door.sessions.get_nowait() is server


async def test_refused_agent_gets_error_goodbye_and_close_code():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        door = OpenDoor()
        door.refusal = LinkRefused("suspect", "this identity was copied", close_code=4403, pause=5.0)
        admitting = owner.spawn("admit", admit(server, door))
        with pytest.raises(RefusedThere, match="this identity was copied") as refused:
            await enter(agent, AnySigner())
        assert refused.value.final
        assert refused.value.pause == 5.0
        assert refused.value.code == "suspect"
        assert not await admitting
        assert agent.closed.code == 4403


async def test_agent_that_says_nothing_is_closed_with_4408(monkeypatch):
    monkeypatch.setattr(handshake, "HELLO_TIMEOUT", 0.001)
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        assert not await admit(server, OpenDoor())
        await settle()
        assert agent.closed.code == link.CLOSE_HELLO_TIMEOUT


async def test_agent_that_never_stores_its_generation_is_not_admitted(monkeypatch):
    monkeypatch.setattr(handshake, "READY_TIMEOUT", 0.001)
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        agent.send_now(await AnySigner().hello(link.Challenge(nonce="", origin="", server_time=0)))
        door = OpenDoor()
        assert not await admit(server, door)
        assert door.sessions.empty()


@pytest.mark.parametrize(
    "wrong", [link.Heartbeat(sent_at=1), link.Ready(generation=1)], ids=["heartbeat", "ready first"]
)
async def test_other_first_message_is_refused(wrong):
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        agent.send_now(wrong)
        assert not await admit(server, OpenDoor())
        await settle()
        assert agent.closed.code == link.CLOSE_BAD_MESSAGE


async def test_ready_for_another_generation_is_refused():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        agent.send_now(await AnySigner().hello(link.Challenge(nonce="", origin="", server_time=0)))
        agent.send_now(link.Ready(generation=99))
        assert not await admit(server, OpenDoor())
        await settle()
        assert agent.closed.code == link.CLOSE_BAD_MESSAGE


async def test_agent_names_a_server_that_speaks_out_of_order():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        server.send_now(link.HeartbeatAck(sent_at=0, server_time=0))
        with pytest.raises(ProtocolFailed, match="heartbeatack when challenge was due"):
            await enter(agent, AnySigner())


async def test_agent_names_a_server_that_is_silent(monkeypatch):
    monkeypatch.setattr(handshake, "SERVER_TIMEOUT", 0.001)
    async with TaskOwner("test") as owner:
        _, agent = ends(owner)
        with pytest.raises(ProtocolFailed, match="did not go on"):
            await enter(agent, AnySigner())


async def test_close_during_the_handshake_keeps_its_final_word():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        server.close(4403, "revoked")
        with pytest.raises(RefusedThere, match="revoked") as refused:
            await enter(agent, AnySigner())
        assert refused.value.final


async def test_connection_lost_during_the_handshake_is_no_refusal():
    async with TaskOwner("test") as owner:
        server, agent = ends(owner)
        server.abort("cut")
        with pytest.raises(ProtocolFailed, match="connection was lost"):
            await enter(agent, AnySigner())

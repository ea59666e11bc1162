"""The keeper of the link: addresses in turn, delays, final words, the watchdog."""

import asyncio

from structlog.testing import capture_logs
from tests.support.tunnel_pair import AnySigner, OpenDoor, memory_channels

from towline.aio.backoff import Backoff
from towline.aio.clock import SimulatedClock, settle
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Route
from towline.tunnel.errors import LinkRefused, TcpFailed
from towline.tunnel.handshake import admit
from towline.tunnel.reconnect import MAX_HANGS, LinkKeeper
from towline.tunnel.session import LinkSession
from towline.wire import link


class World:
    """Servers in memory, some of them down, and one keeper that dials them."""

    def __init__(self, owner, addresses=("https://one", "https://two")):
        self.owner = owner
        self.clock = SimulatedClock()
        self.door = OpenDoor()
        self.down = set()
        self.dialled = []
        self.signer = AnySigner()
        self.servers = []
        self.keeper = LinkKeeper(
            addresses=lambda: addresses,
            route=Route,
            signer=self.signer,
            connected=self.connected,
            owner=owner,
            backoff=Backoff(clock=self.clock, draw=lambda: 1.0),
            clock=self.clock,
            dialler=self.dial,
        )
        self.ups = []

    async def dial(self, endpoint, route):
        self.dialled.append(str(endpoint))
        if str(endpoint) in self.down:
            raise TcpFailed(f"{endpoint} is down")
        one, two = memory_channels(self.clock)
        server = LinkSession(one, owner=self.owner, is_agent=False, remote_address="memory", clock=self.clock)
        agent = LinkSession(two, owner=self.owner, is_agent=True, clock=self.clock)
        self.servers.append(server)
        self.owner.spawn("admit", admit(server, self.door))
        return agent

    async def connected(self, session, welcome):
        session.start(self.ignore)
        self.ups.append((session, welcome))

    async def ignore(self, message):
        return

    def run(self):
        return self.owner.spawn("keeper", self.keeper.run())


async def test_handshake_runs_and_the_session_is_handed_over():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.run()
        await settle()
        session, welcome = world.ups[0]
        assert (session.agent_id, session.epoch, welcome.generation) == ("agt_test", 1, 2)
        assert world.signer.welcomes == [welcome]
        assert world.keeper.status.connected
        assert world.keeper.session is session


async def test_addresses_are_tried_in_turn_without_a_pause_between():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.down = {"https://one"}
        world.run()
        await settle()
        assert world.dialled == ["https://one", "https://two"]
        assert world.clock.sleeps == []
        assert world.keeper.status.connected


async def test_delays_grow_while_every_server_is_down():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.down = {"https://one", "https://two"}
        world.run()
        await world.clock.advance(10)
        assert world.clock.sleeps == [0.5, 1, 2, 4, 8]
        assert world.keeper.status.last_error == "tcp: https://two is down"


async def test_next_attempt_and_what_failed_are_known_while_it_is_waited_for():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.down = {"https://one", "https://two"}
        world.run()
        await settle()
        status = world.keeper.status
        assert status.next_attempt_at == world.clock.now().timestamp() + 0.5
        assert (status.attempts, status.last_code) == (2, "tcp")
        world.down = set()
        await world.clock.advance(1)
        assert (status.attempts, status.next_attempt_at) == (0, 0.0)


async def test_refusal_is_told_by_the_word_of_the_server():
    async with TaskOwner("test") as owner:
        world = World(owner, ("https://one",))
        world.door.refusal = LinkRefused("unknown_agent", "this server does not know you")
        world.run()
        await settle()
        assert world.keeper.status.last_code == "unknown_agent"


async def test_lost_link_comes_back_and_is_counted():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.run()
        await settle()
        world.servers[0].abort("cut")
        await world.clock.advance(1)
        assert len(world.ups) == 2
        assert world.keeper.status.reconnects == 1
        assert world.dialled == ["https://one", "https://one"]


async def test_delays_begin_anew_after_a_link_that_lasted():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.down = {"https://one", "https://two"}
        world.run()
        await world.clock.advance(3)
        world.down = set()
        await world.clock.advance(20)
        world.servers[-1].abort("cut")
        await settle()
        assert world.clock.sleeps[-1] == 0.5


async def test_final_goodbye_ends_it():
    async with TaskOwner("test") as owner:
        world = World(owner)
        running = world.run()
        await settle()
        world.servers[0].send_now(link.Goodbye(reason="removed", final=True, text="removed by an admin"))
        world.servers[0].close(1000, "removed")
        ending = await running
        assert ending.final
        assert ending.reason == "removed by an admin"


async def test_close_code_4403_ends_it():
    async with TaskOwner("test") as owner:
        world = World(owner)
        running = world.run()
        await settle()
        world.servers[0].close(link.CLOSE_FINAL, "revoked")
        assert (await running).final


async def test_refusal_during_the_handshake_ends_it_only_when_final():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.door.refusal = LinkRefused("bad_signature", "the signature is wrong")
        running = world.run()
        await settle()
        assert world.dialled == ["https://one", "https://two"]
        assert "the signature is wrong" in world.keeper.status.last_error
        world.door.refusal = LinkRefused("revoked", "revoked by an admin", close_code=link.CLOSE_FINAL)
        await world.clock.advance(1)
        assert (await running).final


async def test_goodbye_with_a_pause_is_waited_for():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.run()
        await settle()
        world.servers[0].send_now(link.Goodbye(reason="draining", pause=7.0))
        world.servers[0].close(link.CLOSE_DRAINING, "draining")
        await settle()
        assert world.clock.sleeps == [7.5]


async def test_link_without_any_answer_to_heartbeats_is_torn_down():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.run()
        await world.clock.advance(89)
        assert world.keeper.status.connected
        await world.clock.advance(2)
        assert "answered no heartbeat for 90 seconds" in world.keeper.status.last_error
        assert world.keeper.status.hangs == 1


async def test_link_whose_server_answers_lives_on():
    async with TaskOwner("test") as owner:
        world = World(owner)
        world.run()
        for _ in range(10):
            await world.clock.advance(30)
            world.servers[0].send_now(link.HeartbeatAck(sent_at=0, server_time=0))
        assert len(world.ups) == 1


async def test_link_that_hangs_again_and_again_ends_it_for_the_supervisor():
    async with TaskOwner("test") as owner:
        world = World(owner)
        running = world.run()
        await world.clock.advance(MAX_HANGS * 120)
        ending = await running
        assert not ending.final
        assert "hung 5 times" in ending.reason


async def test_address_that_is_no_url_is_reported_and_the_next_one_used():
    async with TaskOwner("test") as owner:
        world = World(owner, addresses=("not a url", "https://two"))
        world.run()
        await settle()
        assert world.keeper.status.server == "https://two"
        assert world.keeper.status.connected


async def test_session_is_closed_when_the_keeper_is_cancelled():
    async with TaskOwner("test") as owner:
        world = World(owner)
        running = world.run()
        await settle()
        running.cancel()
        await asyncio.wait([running])
        assert world.ups[0][0].closed is not None


async def test_error_of_the_agent_itself_costs_one_link_and_is_reported():
    async with TaskOwner("test") as owner:
        world = World(owner)
        broken = ["disk full"]

        async def connected(session, welcome):
            if broken:
                raise OSError(broken.pop())
            await world.connected(session, welcome)

        world.keeper._connected = connected
        with capture_logs() as logs:
            world.run()
            await settle()
            assert world.keeper.status.connected
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["link failed"]
        assert world.servers[0].closed is not None

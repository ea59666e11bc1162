"""Telling claims: when the first list goes out, what then, and what while there is no link."""

from typing import Any

from towline.agent.routes.telling import GATHER_INTERVAL, READ_TIMEOUT, RouteTeller
from towline.aio.clock import SimulatedClock
from towline.aio.streams import Broken
from towline.aio.tasks import TaskOwner
from towline.wire.link import RouteClaim, Routes
from towline.wire.streams import Service


def claim(ref: str) -> RouteClaim:
    return RouteClaim(ref=ref, source="compose", host="a.example.com", target=Service(project="p", service="s", port=1))


class Session:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Routes] = []
        self.broken = False

    async def send(self, message: Routes) -> None:
        if self.broken:
            raise Broken("gone")
        self.sent.append(message)


class Play:
    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.teller = RouteTeller(clock=self.clock)
        self.session: Any = Session()
        self.owner = TaskOwner("test")

    async def __aenter__(self) -> "Play":
        self.owner.spawn("teller", self.teller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.owner.close()

    async def told(self, seconds: float = 1.0) -> list[Routes]:
        before = len(self.session.sent)
        await self.clock.advance(seconds)
        found: list[Routes] = self.session.sent[before:]
        return found


async def test_first_list_waits_until_every_source_was_read():
    async with Play() as play:
        play.teller.expect("compose")
        play.teller.expect("ingress")
        play.teller.connected(play.session)
        play.teller.book.put("m", [claim("r1")])
        play.teller.has_read("compose")
        assert await play.told() == []
        play.teller.has_read("ingress")
        assert await play.told() == [
            Routes(full=True, sequence=1, sources=("compose", "ingress"), claims=(claim("r1"),))
        ]


async def test_source_that_is_not_there_is_not_waited_for():
    async with Play() as play:
        play.teller.expect("compose")
        play.teller.connected(play.session)
        play.teller.left("compose")
        assert await play.told() == [Routes(full=True, sequence=1, sources=())]


async def test_rest_is_told_when_a_source_stays_unread_and_all_when_it_was():
    async with Play() as play:
        play.teller.expect("compose")
        play.teller.connected(play.session)
        assert await play.told(READ_TIMEOUT - 1) == []
        assert [message.sources for message in await play.told(2)] == [()]
        play.teller.book.put("m", [claim("r1")])
        play.teller.has_read("compose")
        assert await play.told() == [Routes(full=True, sequence=2, sources=("compose",), claims=(claim("r1"),))]


async def test_changes_follow_within_the_interval_with_the_next_sequence():
    async with Play() as play:
        play.teller.connected(play.session)
        await play.told()
        play.teller.book.put("m", [claim("r1")])
        assert await play.told(GATHER_INTERVAL * 2) == [Routes(full=False, sequence=2, claims=(claim("r1"),))]
        play.teller.book.put("m", [])
        assert await play.told(GATHER_INTERVAL * 2) == [Routes(full=False, sequence=3, removed=("r1",))]


async def test_new_link_hears_everything_with_a_sequence_of_its_own():
    async with Play() as play:
        play.teller.connected(play.session)
        await play.told()
        play.teller.disconnected()
        play.teller.book.put("m", [claim("r1")])
        assert await play.told() == []
        play.teller.book.put("n", [claim("r2")])
        play.teller.connected(play.session)
        (message,) = await play.told()
        assert (message.full, message.sequence, len(message.claims)) == (True, 1, 2)


async def test_link_that_breaks_while_it_is_told_costs_a_list_on_the_next_one():
    async with Play() as play:
        play.teller.connected(play.session)
        await play.told()
        play.session.broken = True
        play.teller.book.put("m", [claim("r1")])
        assert await play.told() == []
        play.session.broken = False
        play.teller.book.put("m", [claim("r2")])
        (message,) = await play.told()
        assert (message.full, [one.ref for one in message.claims]) == (True, ["r2"])


async def test_source_that_begins_later_makes_a_new_list():
    async with Play() as play:
        play.teller.connected(play.session)
        await play.told()
        play.teller.expect("ingress")
        play.teller.book.put("m", [claim("r1")])
        assert [message.full for message in await play.told()] == [False]
        play.teller.has_read("ingress")
        assert await play.told() == [Routes(full=True, sequence=3, sources=("ingress",), claims=(claim("r1"),))]
        play.teller.has_read("ingress")
        assert await play.told() == []

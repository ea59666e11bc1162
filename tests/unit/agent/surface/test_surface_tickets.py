"""Tickets: good once, for seconds, with the right they were given."""

import pytest

from towline.agent.surface import tickets
from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.tickets import Tickets
from towline.aio.clock import SimulatedClock


def test_ticket_is_good_once_with_its_right() -> None:
    given = Tickets(SimulatedClock())
    ticket = given.give(Right.READ)

    assert given.take(ticket) is Right.READ
    assert given.take(ticket) is Right.OPEN


async def test_ticket_ends_after_half_a_minute() -> None:
    clock = SimulatedClock()
    given = Tickets(clock)
    early, late = given.give(Right.OPERATE), given.give(Right.OPERATE)

    await clock.advance(tickets.TICKET_SECONDS - 0.001)
    assert given.take(early) is Right.OPERATE
    await clock.advance(0.001)
    assert given.take(late) is Right.OPEN


async def test_many_unused_ones_are_refused_until_the_first_end() -> None:
    clock = SimulatedClock()
    given = Tickets(clock)
    for _ in range(tickets.MOST_TICKETS):
        given.give(Right.READ)

    with pytest.raises(SurfaceError) as caught:
        given.give(Right.READ)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "5")
    await clock.advance(tickets.TICKET_SECONDS)
    assert given.take(given.give(Right.READ)) is Right.READ


def test_a_ticket_ends_with_the_token_that_asked_for_it() -> None:
    edition = {Right.READ: b"first", Right.OPERATE: b"first"}
    given = Tickets(SimulatedClock(), lambda right: edition[right])
    reading, operating = given.give(Right.READ), given.give(Right.OPERATE)
    edition[Right.OPERATE] = b"second"

    assert given.take(operating) is Right.OPEN
    assert given.take(reading) is Right.READ


@pytest.mark.parametrize("text", ["", "x", "é", "\udcff", "a" * 1_000_000])
def test_unknown_ticket_has_no_right(text: str) -> None:
    assert Tickets(SimulatedClock()).take(text) is Right.OPEN


def test_tickets_are_not_kept_as_they_are() -> None:
    given = Tickets(SimulatedClock())

    assert given.give(Right.READ) not in repr(given) + repr(vars(given))

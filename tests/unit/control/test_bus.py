"""Hints reach who asked for them, and a slow reader is told to start over."""

import asyncio

import pytest

from towline.control.bus import KEPT_EVENTS, QUEUE_EVENTS, RESYNC, Bus, Event


async def test_a_subscriber_gets_only_its_topics() -> None:
    bus = Bus()
    async with bus.subscribe("job") as events:
        bus.publish("cluster", id="a")
        bus.publish("job", id="b")
        assert await anext(events) == Event("job", {"id": "b"})


async def test_a_subscriber_without_topics_gets_all() -> None:
    bus = Bus()
    async with bus.subscribe() as events:
        bus.publish("cluster", id="a")
        assert (await anext(events)).topic == "cluster"


async def test_a_slow_reader_gets_one_resync_instead_of_all_it_missed() -> None:
    bus = Bus()
    async with bus.subscribe("job") as events:
        for number in range(QUEUE_EVENTS + 5):
            bus.publish("job", id=str(number))
        assert (await anext(events)).topic == RESYNC
        assert (await anext(events)).ids == {"id": str(QUEUE_EVENTS + 1)}


async def test_closing_the_bus_ends_every_subscription_also_later_ones() -> None:
    bus = Bus()
    async with bus.subscribe("job") as events:
        bus.close()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
    async with bus.subscribe("job") as events:
        async with asyncio.timeout(1):
            assert [event async for event in events] == []


async def test_delivered_events_are_not_forwarded_again() -> None:
    bus, sent = Bus(), []
    bus.forward_to(sent.append)
    bus.deliver(Event("job"))
    bus.publish("job", id="a")
    assert sent == [Event("job", {"id": "a"})]


async def test_who_subscribes_after_a_position_gets_what_came_since() -> None:
    bus = Bus()
    bus.publish("job", id="before")
    position = bus.position
    bus.publish("job", id="between")
    bus.publish("cluster", id="of no interest")
    async with bus.subscribe("job", after=position) as events:
        bus.publish("job", id="behind")
        assert [(await anext(events)).ids["id"] for _ in range(2)] == ["between", "behind"]


async def test_an_event_says_where_to_go_on_behind_it() -> None:
    bus = Bus()
    async with bus.subscribe("job") as events:
        bus.publish("job", id="a")
        bus.publish("job", id="b")
        first = await anext(events)
    async with bus.subscribe("job", after=first.position) as events:
        assert (await anext(events)).ids == {"id": "b"}


@pytest.mark.parametrize("position", ["other-0", "", "-", "x", "LIFE-", "LIFE--1", "LIFE-99999", "LIFE-1"])
async def test_a_position_that_is_not_known_any_more_is_a_resync(position: str) -> None:
    bus = Bus()
    life = bus.position.partition("-")[0]
    for number in range(KEPT_EVENTS + 2):
        bus.publish("job", id=str(number))
    async with bus.subscribe("job", after=position.replace("LIFE", life) or "-") as events:
        assert (await anext(events)).topic == RESYNC

"""Hints reach who asked for them, and a slow reader is told to start over."""

import asyncio

import pytest

from towline.control.bus import QUEUE_EVENTS, RESYNC, Bus, Event


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

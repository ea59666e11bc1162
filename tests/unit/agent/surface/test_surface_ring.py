"""The ring: ids, bounds, what was lost, and waking of many."""

import asyncio

from towline.agent.surface.ring import Ring
from towline.aio.clock import settle
from towline.aio.tasks import TaskOwner


def numbers(ring: Ring, behind: int) -> list[int]:
    return [entry.number for entry in ring.after(behind)]


async def test_events_behind_a_number_come_in_order() -> None:
    ring = Ring(boot="b")
    for at in range(5):
        ring.publish("event", {"at": at})

    assert numbers(ring, 0) == [1, 2, 3, 4, 5]
    assert numbers(ring, 3) == [4, 5]
    assert numbers(ring, 5) == []


async def test_no_more_than_asked_for_comes_at_once() -> None:
    ring = Ring(boot="b")
    for at in range(5):
        ring.publish("event", at)

    assert [entry.number for entry in ring.after(1, most=2)] == [2, 3]


async def test_event_is_written_for_both_kinds_of_listeners() -> None:
    ring = Ring(boot="b")
    ring.publish("status", {"status": "connected"})
    entry = ring.after(0)[0]

    assert entry.sse == b'id: b-1\nevent: status\ndata: {"status":"connected"}\n\n'
    assert entry.message == '{"type":"status","id":"b-1","payload":{"status":"connected"}}'


async def test_line_ends_in_texts_do_not_end_an_event() -> None:
    ring = Ring(boot="b")
    ring.publish("event", {"message": "one\n\nid: 7\ndata: forged"})

    assert ring.after(0)[0].sse.count(b"\n\n") == 1


async def test_oldest_events_go_when_there_are_too_many() -> None:
    ring = Ring(most_entries=3, boot="b")
    for at in range(10):
        ring.publish("event", at)

    assert ring.first == 8
    assert numbers(ring, 0) == [8, 9, 10]
    assert ring.has_lost(6)
    assert not ring.has_lost(7)


async def test_oldest_events_go_when_they_are_too_large() -> None:
    ring = Ring(most_bytes=250, boot="b")
    for _ in range(10):
        ring.publish("event", "x" * 98)

    assert numbers(ring, 0) == [9, 10]


async def test_one_event_larger_than_the_ring_is_kept_all_the_same() -> None:
    ring = Ring(most_bytes=10, boot="b")
    ring.publish("event", "x" * 100)

    assert numbers(ring, 0) == [1]


async def test_id_of_this_life_is_a_position_and_others_are_none() -> None:
    ring = Ring(boot="b")
    ring.publish("event", 1)
    ring.publish("event", 2)

    assert ring.position("b-1") == 1
    assert ring.position("b-2") == 2
    for strange in ("", "b", "b-", "b-x", "b-3", "c-1", "-1", "b-²", "b-" + "1" * 20):
        assert ring.position(strange) is None, strange


async def test_everybody_who_waits_is_woken_and_one_that_is_cancelled_takes_nobody_along() -> None:
    ring = Ring(boot="b")
    async with TaskOwner("test") as owner:
        waiters = [owner.spawn(str(at), ring.wait(0)) for at in range(3)]
        await settle()
        waiters[0].cancel()
        await settle()
        ring.publish("event", 1)
        await asyncio.wait(waiters[1:])

        assert [waiter.cancelled() for waiter in waiters] == [True, False, False]


async def test_who_is_behind_does_not_wait() -> None:
    ring = Ring(boot="b")
    ring.publish("event", 1)

    await ring.wait(0)

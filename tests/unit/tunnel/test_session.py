"""Control messages of a session: order, priority, bounds, and what a bad one costs."""

import asyncio

import pytest
from structlog.testing import capture_logs
from tests.support.tunnel_pair import collector, memory_channels, memory_tunnel

from towline.aio.clock import settle
from towline.aio.tasks import TaskOwner
from towline.tunnel.errors import TunnelClosed
from towline.tunnel.inbox import MAX_WAITING_MESSAGES
from towline.tunnel.session import LinkSession
from towline.wire import link, streams

BEAT = link.Heartbeat(sent_at=1.0)


async def test_messages_arrive_in_order():
    async with memory_tunnel() as pair:
        for number in range(20):
            await pair.server.send(link.JobCancel(job_id=str(number)))
        await settle()
        assert pair.agent_got == [link.JobCancel(job_id=str(number)) for number in range(20)]


async def test_messages_go_ahead_of_stream_data_on_a_full_line():
    async with memory_tunnel() as pair:
        pair.agent.on_stream = lambda incoming: incoming.accept(asyncio.Protocol)
        pair.server_channel.hold()
        stream = pair.server.create_stream(streams.Tcp(host="a", port=1), asyncio.Protocol)
        stream.write(b"x" * 250_000)
        await settle()
        assert pair.server.channel.paused
        async with TaskOwner("test") as owner:
            sending = owner.spawn("send", pair.server.send(link.JobCancel(job_id="urgent")))
            await settle()
            assert not sending.done()
            before = len(pair.server_channel.sent)
            pair.server_channel.release()
            await sending
        assert pair.server_channel.sent[before][0] == "text"


async def test_unknown_types_are_counted_and_ignored():
    async with memory_tunnel() as pair:
        pair.agent.channel.send_text(b'{"type": "from_the_future", "payload": {"x": 1}}')
        pair.agent.channel.send_text(b'{"type": "heartbeat", "payload": {"sent_at": 1, "mood": "fine"}}')
        await settle()
        assert pair.server.unknown_messages == 1
        assert pair.server_got == [BEAT]


@pytest.mark.parametrize("text", [b"{", b'{"type": 5}', b'{"type": "heartbeat", "payload": []}', b"[" * 5000])
async def test_bad_message_closes_the_link_with_4400(text):
    async with memory_tunnel() as pair:
        pair.agent.channel.send_text(text)
        assert (await pair.agent.wait_closed()).code == link.CLOSE_BAD_MESSAGE


async def test_message_that_fails_costs_neither_the_link_nor_the_next_message():
    handled = []

    async def handle(message):
        if not handled:
            handled.append("failed")
            raise ValueError("database is away")
        handled.append(message)

    async with memory_tunnel() as pair:
        pair.server.start(handle)
        with capture_logs() as logs:
            await pair.agent.send(BEAT)
            await pair.agent.send(BEAT)
            await settle()
        assert handled == ["failed", BEAT]
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["message failed"]


async def test_flood_of_messages_costs_one_bounded_queue_and_then_the_link():
    async with memory_tunnel() as pair:
        stuck = asyncio.Event()

        async def handle(message):
            await stuck.wait()

        pair.server.start(handle)
        for _ in range(MAX_WAITING_MESSAGES + 2):
            pair.agent.channel.send_text(link.encode(BEAT))
        closed = await pair.agent.wait_closed()
        assert closed.code == link.CLOSE_BAD_MESSAGE
        assert "faster than they can be handled" in closed.reason


async def test_no_task_runs_while_nothing_is_to_be_handled():
    async with memory_tunnel() as pair:
        await pair.agent.send(BEAT)
        await settle()
        assert len(pair.owner) == 0


async def test_message_before_start_waits_for_receive():
    async with TaskOwner("test") as owner:
        one, two = memory_channels()
        here = LinkSession(one, owner=owner, is_agent=False)
        LinkSession(two, owner=owner, is_agent=True).send_now(BEAT)
        assert await here.receive(1.0) == BEAT
        with pytest.raises(TimeoutError):
            await here.receive(0.001)
        two.close(1001, "bye")
        with pytest.raises(TunnelClosed, match="bye"):
            await here.receive(1.0)


async def test_messages_that_came_before_start_are_handed_over():
    got = []
    async with TaskOwner("test") as owner:
        one, two = memory_channels()
        here = LinkSession(one, owner=owner, is_agent=False)
        LinkSession(two, owner=owner, is_agent=True).send_now(BEAT)
        await settle()
        here.start(collector(got))
        await settle()
    assert got == [BEAT]


async def test_stream_data_before_the_handshake_closes_the_link():
    async with TaskOwner("test") as owner:
        one, two = memory_channels()
        here = LinkSession(one, owner=owner, is_agent=False)
        there = LinkSession(two, owner=owner, is_agent=True)
        there.mux.yamux.ping(1)
        there.mux.schedule()
        assert (await here.wait_closed()).code == link.CLOSE_BAD_MESSAGE


async def test_sending_on_a_closed_session_raises():
    async with memory_tunnel() as pair:
        pair.agent.close(1000, "done")
        with pytest.raises(TunnelClosed, match="done"):
            await pair.agent.send(BEAT)


async def test_sender_that_waits_for_room_is_told_of_the_end():
    async with memory_tunnel() as pair:
        pair.server_channel.hold()
        pair.server.channel.paused = True
        failed = []
        async with TaskOwner("test", on_failure=lambda _, error: failed.append(error)) as owner:
            owner.spawn("send", pair.server.send(BEAT))
            await settle()
            pair.server.close(1001, "going")
            await settle()
        assert isinstance(failed[0], TunnelClosed)


async def test_close_handlers_run_once_and_at_once_when_it_is_over():
    async with memory_tunnel() as pair:
        seen = []
        pair.server.on_close(seen.append)
        pair.server.close(1000, "x")
        pair.server.close(1000, "y")
        pair.server.on_close(seen.append)
        assert [closed.reason for closed in seen] == ["x", "x"]


async def test_goodbye_is_remembered_and_handed_on():
    async with memory_tunnel() as pair:
        goodbye = link.Goodbye(reason="draining", pause=2.0)
        await pair.server.send(goodbye)
        await settle()
        assert pair.agent.goodbye == goodbye
        assert pair.agent_got == [goodbye]

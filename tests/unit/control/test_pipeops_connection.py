"""One PipeOps WebSocket with a clock and a line that tests hold in their hands: probes, yamux, full lines, strikes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.pipeops_bench import ACK, Bench

from towline.aio.tasks import TaskOwner
from towline.control.protocols.pipeops import channel as timers
from towline.control.protocols.pipeops import connection as limits
from towline.control.protocols.pipeops.connection import Connection
from towline.control.protocols.pipeops.requests import MAX_BINARY_BYTES
from towline.tunnel.errors import Closed, TunnelClosed
from towline.wire import pipeops


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    owner = TaskOwner("test")
    yield Bench(owner)
    await owner.close()


async def test_an_agent_that_does_not_answer_yet_is_asked_again_until_it_does(bench: Bench) -> None:
    bench.connection.probe()
    await bench.clock.advance(limits.PROBE_INTERVAL * 2.5)
    assert bench.line.types() == ["ping", "ping", "ping"]
    bench.connection.text_arrived(b'{"type":"pong","request_id":"tw-probe","payload":{}}')
    assert bench.line.types() == ["gateway_hello"]
    await bench.clock.advance(limits.PROBE_INTERVAL * 3)
    assert bench.line.types() == []


async def test_yamux_is_offered_once(bench: Bench) -> None:
    bench.connection.offer_yamux()
    bench.connection.offer_yamux()
    assert bench.line.types() == ["gateway_hello"]


async def test_a_yamux_session_that_does_not_answer_is_given_up_and_offered_anew(bench: Bench) -> None:
    bench.connection.offer_yamux()
    bench.connection.text_arrived(ACK)
    assert bench.connection.mux is not None
    await bench.clock.advance(limits.YAMUX_TIMEOUT + 1)
    assert bench.connection.mux is None
    assert bench.line.types() == ["gateway_hello", "gateway_hello"]
    bench.connection.binary_arrived(memoryview(b"the rest of the old session"))
    bench.connection.binary_ended()
    assert bench.connection.strikes == 0


async def test_a_yamux_session_that_answers_stays(bench: Bench) -> None:
    bench.connection.offer_yamux()
    bench.connection.text_arrived(ACK)
    for _ in range(3):
        await bench.clock.advance(limits.YAMUX_TIMEOUT - 1)
        bench.connection.binary_arrived(memoryview(bytes.fromhex("000200020000000000000001")))
        await bench.clock.advance(1)
    assert bench.connection.mux is not None


async def test_a_stream_that_is_opened_when_the_connection_has_just_gone_is_refused(bench: Bench) -> None:
    bench.connection.offer_yamux()
    bench.connection.text_arrived(ACK)
    mux = bench.connection.mux
    assert mux is not None
    bench.connection.channel_closed(Closed(1006, "cut"))
    with pytest.raises(TunnelClosed, match="cut"):
        mux.open()


class Resident:
    """An admitted agent's session, as far as a connection knows it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seen: list[bool] = []
        connection.session = self

    def yamux_changed(self) -> None:
        self.seen.append(self.connection.declines_yamux)

    def took(self, envelope: pipeops.Envelope) -> None: ...
    def ended(self, closed: Closed) -> None: ...


async def test_an_agent_that_does_not_answer_the_offer_has_no_yamux_until_it_does(bench: Bench) -> None:
    resident = Resident(bench.connection)
    bench.connection.offer_yamux()
    await bench.clock.advance(limits.YAMUX_PATIENCE - 1)
    assert not bench.connection.declines_yamux
    await bench.clock.advance(1)
    assert bench.connection.declines_yamux
    bench.connection.text_arrived(ACK)
    assert bench.connection.mux is not None and not bench.connection.declines_yamux
    assert resident.seen == [True, False]
    await bench.clock.advance(limits.YAMUX_PATIENCE * 2)
    assert resident.seen == [True, False]


async def test_an_agent_that_does_not_know_the_offer_says_so_at_once(bench: Bench) -> None:
    resident = Resident(bench.connection)
    unknown = b'{"type":"protocol_fallback","payload":{"unknown_type":"%s"}}'
    bench.connection.text_arrived(unknown % b"gateway_hello")
    assert not bench.connection.declines_yamux, "nothing was offered"
    bench.connection.offer_yamux()
    bench.connection.text_arrived(unknown % b"no_such_thing")
    assert not bench.connection.declines_yamux
    bench.connection.text_arrived(unknown % b"gateway_hello")
    bench.connection.text_arrived(unknown % b"gateway_hello")
    await bench.clock.advance(limits.YAMUX_PATIENCE * 2)
    assert resident.seen == [True]


async def test_messages_wait_in_order_while_the_line_is_full(bench: Bench) -> None:
    bench.line.paused = True
    bench.connection.offer_yamux()
    bench.connection.text_arrived(b'{"type":"ping","request_id":"u"}')
    assert bench.line.types() == []
    bench.line.paused = False
    bench.connection.writable()
    assert bench.line.types() == ["gateway_hello", "pong"]


async def test_an_agent_that_does_not_read_is_dropped(bench: Bench) -> None:
    bench.line.paused = True
    for _ in range(limits.MAX_OUTBOX + 1):
        bench.connection.text_arrived(b'{"type":"ping"}')
    assert bench.line.closed == Closed(1006, "the agent does not read")


async def test_a_binary_message_over_the_limit_ends_the_connection(bench: Bench) -> None:
    bench.connection.binary_arrived(memoryview(bytes(MAX_BINARY_BYTES + 1)))
    assert bench.line.closed is not None
    assert bench.line.closed.code == 1009


async def test_introductions_are_taken_one_after_the_other_and_bounded(bench: Bench) -> None:
    register = b'{"type":"register","request_id":"r","payload":{"agent_id":"a"}}'
    bench.connection.text_arrived(register)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(bench.introduced) == 1
    for _ in range(limits.MAX_INTRODUCTIONS + 1):
        bench.connection.text_arrived(register)
    assert bench.line.closed is not None


async def test_the_timers_fit_an_agent_that_pings_every_ten_seconds_and_may_be_mute_for_35() -> None:
    assert 10 < timers.QUIET_INTERVAL < timers.SILENCE_TIMEOUT
    assert 35 < timers.SILENCE_TIMEOUT <= 45
    assert limits.YAMUX_TIMEOUT > 35

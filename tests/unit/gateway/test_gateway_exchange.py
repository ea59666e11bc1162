"""One connection of the edge in memory: every byte boundary, every way to leave, back-pressure, and single writes."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.edge_memory import MemoryEdge

from towline.gateway.errors import UpstreamTimeout
from towline.gateway.interfaces import Answer

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


def halves(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for at in range(1, len(data)):
        yield data[:at], data[at:]


async def test_head_body_and_end_of_a_short_answer_are_one_write() -> None:
    edge = MemoryEdge()
    edge.send(GET)
    edge.target.answer(OK)
    assert edge.transport.writes == [OK]
    assert edge.client.is_idle


async def test_request_head_and_body_are_one_write_when_they_arrive_together() -> None:
    edge = MemoryEdge()
    edge.send(POST)
    assert len(edge.target.connections[0][1].writes) == 1


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
async def test_request_reaches_the_target_whole_wherever_it_is_cut(request_bytes: bytes) -> None:
    body = b"hello" if request_bytes is POST else b"3\r\nabc\r\n0\r\n\r\n"
    for first, second in halves(request_bytes):
        edge = MemoryEdge()
        edge.send(first)
        edge.send(second)
        head, _, got = edge.target.got().partition(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\nHost: app.test\r\n")
        assert (
            got.replace(b"1\r\na\r\n2\r\nbc\r\n", b"3\r\nabc\r\n").replace(b"2\r\nab\r\n1\r\nc\r\n", b"3\r\nabc\r\n")
            == body
        )
        edge.target.answer(OK)
        assert edge.transport.written == OK


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (OK, OK),
        (b"HTTP/1.1 103 Early\r\n\r\n" + OK, b"HTTP/1.1 103 Early\r\n\r\n" + OK),
        (b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"),
    ],
)
async def test_answer_reaches_the_client_whole_wherever_it_is_cut(answer: bytes, got: bytes) -> None:
    for first, second in halves(answer):
        edge = MemoryEdge()
        edge.send(GET)
        edge.target.answer(first)
        edge.target.answer(second)
        assert edge.transport.written == got
        assert edge.client.is_idle
        edge.send(GET)
        assert len(edge.target.connections) == 1


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED, UPGRADE + b"raw bytes"])
async def test_client_that_leaves_at_any_byte_takes_its_upstream_along(request_bytes: bytes) -> None:
    for at in range(len(request_bytes) + 1):
        edge = MemoryEdge()
        edge.send(request_bytes[:at])
        edge.leave()
        assert all(transport.is_aborted for _, transport in edge.target.connections)
        assert (edge.ended, edge.counters.open_connections, edge.context.connections) == (1, 0, set())
        assert len(edge.records) == len(edge.target.connections)


async def test_client_that_leaves_during_any_part_of_an_answer_takes_its_upstream_along() -> None:
    for answer in (OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", SWITCH + b"raw"):
        for at in range(len(answer)):
            edge = MemoryEdge()
            edge.send(UPGRADE if answer.startswith(SWITCH) else GET)
            edge.target.answer(answer[:at])
            edge.leave()
            assert edge.target.connections[0][1].is_aborted
            assert len(edge.records) == 1


async def test_upstream_that_is_lost_at_any_byte_never_leaves_a_whole_answer() -> None:
    for at in range(len(OK)):
        edge = MemoryEdge()
        edge.send(GET)
        protocol, _ = edge.target.connections[0]
        protocol.data_received(OK[:at]) if at else None
        protocol.connection_lost(ConnectionResetError())
        if at < OK.index(b"\r\n\r\n") + 4:
            assert edge.transport.written.startswith(b"HTTP/1.1 502 ")
        else:
            assert edge.transport.is_aborted
        assert len(edge.records) == 1


async def test_client_that_does_not_read_pauses_the_upstream() -> None:
    edge = MemoryEdge()
    edge.send(GET)
    edge.target.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
    _, upstream = edge.target.connections[0]
    edge.client.pause_writing()
    assert upstream.is_paused
    edge.client.resume_writing()
    assert not upstream.is_paused


async def test_upstream_that_does_not_read_pauses_the_client() -> None:
    edge = MemoryEdge()
    edge.send(POST[:-3])
    protocol, _ = edge.target.connections[0]
    protocol.pause_writing()
    assert edge.transport.is_paused
    protocol.resume_writing()
    assert not edge.transport.is_paused


async def test_client_is_not_read_on_before_the_upstream_is_there() -> None:
    edge = MemoryEdge()
    edge.target.waits = True
    edge.send(POST[:-3])
    assert edge.transport.is_paused
    protocol, transport = edge.target.connections[0]
    protocol.connection_made(transport)
    assert not edge.transport.is_paused
    edge.send(POST[-3:])
    assert edge.target.got().endswith(b"\r\n\r\nhello")


async def test_connection_that_comes_after_its_client_left_is_dropped() -> None:
    edge = MemoryEdge()
    edge.target.waits = True
    edge.send(GET)
    edge.leave()
    protocol, transport = edge.target.connections[0]
    protocol.connection_made(transport)
    assert transport.is_aborted


async def test_target_that_cannot_be_reached_is_an_answer() -> None:
    edge = MemoryEdge()
    edge.target.error = UpstreamTimeout("10.0.0.7 is silent")
    edge.send(GET)
    assert edge.transport.written.startswith(b"HTTP/1.1 504 ")
    assert b"10.0.0.7" not in edge.transport.written
    assert (edge.records[0].outcome, edge.records[0].detail) == ("upstream_timeout", "10.0.0.7 is silent")
    assert edge.client.is_idle


async def test_pipelined_bytes_are_bounded_while_a_request_runs() -> None:
    edge = MemoryEdge()
    edge.send(GET + GET * 4000)
    edge.send(GET)
    assert edge.transport.is_paused
    assert len(edge.target.connections) == 1


async def test_bytes_before_a_switch_wait_for_it() -> None:
    edge = MemoryEdge()
    edge.send(UPGRADE + b"one")
    edge.send(b"two")
    assert not edge.target.got().endswith(b"two")
    edge.target.answer(SWITCH + b"three")
    assert edge.target.got().endswith(b"\r\n\r\nonetwo")
    assert edge.transport.written == SWITCH + b"three"


async def test_each_side_of_a_pipe_ends_by_itself() -> None:
    edge = MemoryEdge()
    edge.send(UPGRADE)
    edge.target.answer(SWITCH)
    protocol, upstream = edge.target.connections[0]
    assert edge.client.eof_received()
    assert upstream.is_ended
    protocol.data_received(b"still")
    assert edge.transport.written.endswith(b"still")
    assert not protocol.eof_received()
    assert upstream.is_closed
    assert edge.transport.is_closed


async def test_body_that_nobody_reads_ends_the_connection() -> None:
    edge = MemoryEdge()
    edge.route_to = Answer(404, "unknown_host", "nothing here")
    edge.send(POST)
    assert b"connection: close\r\n" in edge.transport.written
    assert edge.transport.is_ended


async def test_answer_of_the_edge_to_head_has_no_body() -> None:
    edge = MemoryEdge()
    edge.route_to = Answer(404, "unknown_host", "nothing here")
    edge.send(GET.replace(b"GET", b"HEAD"))
    assert edge.transport.written.endswith(b"\r\n\r\n")
    assert edge.client.is_idle


async def test_access_record_holds_no_query() -> None:
    edge = MemoryEdge()
    edge.send(GET.replace(b" / ", b" /a?token=secret "))
    edge.target.answer(OK)
    assert edge.records[0].path == "/a"
    assert "secret" not in repr(edge.records[0])
    assert edge.counters.requests[edge.records[0].kind, 2] == 1


@pytest.mark.parametrize(("moment", "expected"), [(9.0, b""), (11.0, b"HTTP/1.1 408 ")])
async def test_body_has_to_keep_its_rate(moment: float, expected: bytes) -> None:
    edge = MemoryEdge()
    edge.send(POST[:-3])
    edge.client.check(edge.context.now() + moment)
    assert edge.transport.written.startswith(expected)
    assert bool(edge.transport.written) == bool(expected)


async def test_time_in_which_the_client_was_paused_does_not_count_against_its_body() -> None:
    edge = MemoryEdge()
    edge.send(POST[:-3])
    protocol, _ = edge.target.connections[0]
    protocol.pause_writing()
    edge.client.check(edge.context.now() + 100)
    protocol.resume_writing()
    edge.client.check(edge.context.now() + 105)
    assert edge.transport.written == b""


async def test_idle_connection_is_closed_after_its_time() -> None:
    edge = MemoryEdge()
    edge.send(GET)
    edge.target.answer(OK)
    now = edge.context.now()
    edge.client.check(now)
    edge.client.check(now + edge.options.keep_alive_timeout - 1)
    assert not edge.transport.is_closed
    edge.client.check(now + edge.options.keep_alive_timeout + 1)
    assert edge.transport.is_closed


@pytest.mark.parametrize("request_bytes", [POST, CHUNKED])
async def test_request_behind_a_body_is_answered_next(request_bytes: bytes) -> None:
    edge = MemoryEdge()
    edge.send(request_bytes + GET.replace(b" / ", b" /second "))
    edge.target.answer(OK)
    await asyncio.sleep(0)  # the next request starts in a turn of its own
    assert b"GET /second HTTP/1.1\r\n" in edge.target.got()
    edge.target.answer(OK)
    assert edge.transport.written == OK + OK


async def test_upstream_connection_is_not_used_again_after_an_upgrade_that_failed() -> None:
    edge = MemoryEdge()
    edge.send(UPGRADE)
    edge.target.answer(OK)
    assert edge.target.connections[0][1].is_closed
    assert edge.transport.written.endswith(b"Connection: close\r\n\r\nok")
    assert edge.transport.is_closed


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 204 No\r\n\r\n"])
async def test_upstream_connection_with_bytes_behind_its_answer_is_not_used_again(answer: bytes) -> None:
    edge = MemoryEdge()
    edge.send(GET)
    edge.target.answer(answer + OK)
    assert edge.transport.written == answer
    assert edge.target.connections[0][1].is_closed


async def test_next_head_has_to_arrive_in_time_once_it_has_begun() -> None:
    edge = MemoryEdge()
    edge.send(GET)
    edge.target.answer(OK)
    edge.send(b"GET / HT")
    edge.client.check(edge.context.now() + edge.options.header_timeout + 1)
    assert edge.transport.written[len(OK) :].startswith(b"HTTP/1.1 408 ")


async def test_connector_that_fails_unexpectedly_costs_one_connection() -> None:
    edge = MemoryEdge()
    edge.target.connect = None  # a connector with a bug
    edge.send(GET)
    assert edge.transport.is_aborted
    edge.leave()
    assert len(edge.records) == 1

"""One line to the API server of an agent without yamux: requests become messages, their answers come back in chunks."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from tests.support.fallback_line import END, Bench, OneLine, abort, chunk, header
from tests.support.pipeops_traces import recorded

from towline.control.protocols.pipeops import fallback as bounds
from towline.control.protocols.pipeops import request_line
from towline.control.protocols.pipeops import requests as limits
from towline.control.protocols.pipeops.exchange import LOG_CUT, OUT_OF_TIME
from towline.tunnel.errors import TunnelClosed
from towline.wire import pipeops
from towline.wire import pipeops_messages as messages

PODS = "GET /api/v1/namespaces/a/pods"
LOG = "GET /api/v1/namespaces/a/pods/b/log?follow=true"
GO_SAYS = "net/http: request canceled (Client.Timeout or context cancellation while reading body)"


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.fixture
async def line(bench: Bench) -> OneLine:
    return bench.line()


def replay(line: OneLine, theirs: str) -> bytes:
    """Let the recorded agent answer a request that has just been made; returns what the line wrote."""
    _, request_id = line.asked()
    for entry in recorded("pipeops-ws"):
        if entry["dir"] == "agent" and entry.get("raw", "").endswith("\n"):
            envelope = pipeops.decode(entry["raw"].encode())
            if envelope.request_id == theirs:
                line.tell(request_id, envelope.message)
    return bytes(line.pipe.written)


@pytest.mark.parametrize(("theirs", "status"), [("r1", 200), ("r3", 404), ("r4", 201), ("r5", 200), ("r20", 200)])
def test_recorded_answers_come_back_whole(line: OneLine, theirs: str, status: int) -> None:
    line.ask(PODS)
    replay(line, theirs)
    head, body, is_whole = line.answer()
    assert (head.status, is_whole, head.keep_alive) == (status, True, True)
    if theirs != "r1":  # cut by the recorder
        assert json.loads(body)
    assert head.get(b"audit-id") and head.get(b"content-type") == b"application/json"


def test_a_recorded_log_that_the_agent_cut_says_so_and_does_not_look_whole(line: OneLine) -> None:
    line.ask(LOG)
    replay(line, "r10")
    head, body, is_whole = line.answer()
    assert head.status == 200 and not is_whole and line.pipe.closed == "closed"
    assert body.endswith(LOG_CUT.encode()) and b"response:200" in body


def test_requests_follow_one_another_on_a_line(line: OneLine) -> None:
    for number in range(3):
        line.ask(f"{PODS}?limit={number}")
        request, request_id = line.asked()
        assert request.query == f"limit={number}"
        line.tell(request_id, header(), chunk(b"some"), chunk(b"thing"), END)
        assert line.answer()[1:] == (b"something", True)
    assert not line.pipe.closed


def test_a_head_cut_at_every_byte_is_one_request(line: OneLine) -> None:
    for byte in b"GET /api/v1/pods HTTP/1.1\r\nHost: k\r\n\r\n":
        line.protocol.data_received(bytes((byte,)))
    assert line.asked()[0].path == "/api/v1/pods"


@pytest.mark.parametrize("framing", ["Content-Length: 11", "Transfer-Encoding: chunked"])
def test_a_body_is_gathered_and_sent_whole(line: OneLine, framing: str) -> None:
    sent = b"hello world" if "Length" in framing else b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    line.ask("POST /api/v1/namespaces", framing, body=sent[:3])
    assert line.bench.agent.said == []
    line.protocol.data_received(sent[3:])
    request, request_id = line.asked()
    assert b64decode(request.body) == b"hello world" and "Content-Length" not in request.headers
    line.tell(request_id, header(201), END)
    assert line.answer()[0].status == 201
    assert line.bench.fallback.bodies_bytes == 0


def test_who_waits_for_leave_to_send_a_body_gets_it(line: OneLine) -> None:
    line.ask("POST /api/v1/namespaces", "Content-Length: 2", "Expect: 100-continue")
    assert line.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.protocol.data_received(b"{}")
    assert line.asked()[0].body == "e30="


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_in_words(line: OneLine, is_chunked: bool) -> None:
    size = request_line.MAX_BODY_BYTES + 1
    if is_chunked:
        line.ask("POST /api/v1/namespaces", "Transfer-Encoding: chunked", body=b"%x\r\n" % size)
        line.protocol.data_received(bytes(size))
    else:
        line.ask("POST /api/v1/namespaces", f"Content-Length: {size}")
    head, body, _ = line.answer()
    assert (head.status, head.keep_alive) == (413, False) and b"4 MiB" in body
    line.protocol.data_received(bytes(100))  # what was on its way
    assert line.bench.agent.said == [] and line.bench.fallback.bodies_bytes == 0


def test_all_bodies_of_an_agent_together_are_bounded(bench: Bench) -> None:
    piece = bytes(request_line.MAX_BODY_BYTES)
    lines = [bench.line() for _ in range(request_line.ALL_BODIES_BYTES // len(piece) + 1)]
    for one in lines:
        one.ask("POST /api/v1/namespaces", f"Content-Length: {len(piece)}", body=piece)
    assert [bool(one.pipe.written) for one in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].answer()[0].status == 429
    for one in lines[:-1]:
        one.lose()
    assert bench.fallback.bodies_bytes == 0


def test_too_many_requests_at_once_are_told_to_come_back(bench: Bench) -> None:
    for _ in range(limits.MAX_WAITING):
        bench.line().ask(PODS)
    late = bench.line()
    late.ask(PODS)
    head, body, _ = late.answer()
    assert head.status == 429 and head.get(b"retry-after") == b"1" and b"TooManyRequests" in body


# -- how answers end -----------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [GO_SAYS, "context deadline exceeded"])
def test_a_watch_that_the_agent_cut_ends_as_an_api_servers_own_time_out_does(line: OneLine, reason: str) -> None:
    line.ask(f"{PODS}?watch=true")
    _, request_id = line.asked()
    line.tell(request_id, header(Content_Type="application/json"), chunk(b"{}\n"), abort(reason))
    assert line.answer()[1:] == (b"{}\n", True)
    assert not line.pipe.closed


async def test_an_end_after_the_agents_time_is_its_time_limit_whatever_it_says(line: OneLine) -> None:
    line.ask(f"{PODS}?watch=true")
    _, request_id = line.asked()
    line.tell(request_id, header())
    await line.bench.clock.advance(30.0)
    line.tell(request_id, abort("unexpected EOF"))
    assert line.answer()[2]


def test_an_answer_that_broke_off_never_looks_whole(line: OneLine) -> None:
    for target, reason in ((f"{PODS}?watch=true", "connection reset"), (PODS, GO_SAYS), (LOG, "connection reset")):
        one = line.bench.line()
        one.ask(target)
        _, request_id = one.asked()
        one.tell(request_id, header(Content_Type="text/plain"), chunk(b"half"), abort(reason))
        assert one.pipe.closed == "closed"
        assert one.answer()[1:] == (b"half", False)


def test_a_log_in_another_form_than_text_gets_no_words_of_ours(line: OneLine) -> None:
    line.ask(LOG)
    _, request_id = line.asked()
    line.tell(request_id, header(Content_Type="application/octet-stream"), chunk(b"half"), abort(GO_SAYS))
    assert line.answer()[1:] == (b"half", False)


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [
        (abort(GO_SAYS), 504, OUT_OF_TIME),
        (abort("dial tcp: refused"), 502, "the agent says: dial tcp: refused"),
        (messages.ProxyError(error="kubernetes client not initialized"), 502, "not initialized"),
        (END, 502, "had not begun"),
    ],
)
def test_an_end_without_an_answer_is_a_status_with_its_reason(
    line: OneLine, last: messages.Message, status: int, words: str
) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    line.tell(request_id, last)
    head, body, is_whole = line.answer()
    assert (head.status, is_whole) == (status, True)
    assert words in json.loads(body)["message"]


def test_an_answer_to_head_has_no_body(line: OneLine) -> None:
    line.ask("HEAD /api/v1/namespaces/a/pods")
    _, request_id = line.asked()
    line.tell(request_id, header(Content_Length="170"), END)
    assert line.read().endswith(b"\r\n\r\n")
    assert not line.pipe.closed


def test_a_whole_answer_of_an_older_agent_is_understood(line: OneLine) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    line.tell(request_id, messages.ProxyResponse(headers=None, status=200, body="aGVsbG8=", encoding="base64"))
    assert line.answer()[1:] == (b"hello", True)


def test_a_head_that_cannot_be_passed_on_is_a_502(line: OneLine) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    line.tell(request_id, messages.ProxyResponseHeader(headers={"A": ("b\r\nSet-Cookie: x",)}, status=200))
    line.tell(request_id, chunk(b"body"), END)
    head, body, is_whole = line.answer()
    assert (head.status, is_whole) == (502, True) and b"Set-Cookie" not in body


@pytest.mark.parametrize("told", [[chunk(b"x")], [header(), header()], [messages.WebsocketData(data=b"\x01x")]])
def test_an_answer_out_of_order_ends_the_line(line: OneLine, told: list[messages.Message]) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    line.tell(request_id, *told)
    assert line.pipe.closed == "aborted"


def test_a_lost_connection_of_the_agent_ends_what_runs(line: OneLine) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    line.tell(request_id, header(), chunk(b"half"))
    line.bench.agent.requests.lose(TunnelClosed("tunnel closed"))
    assert line.pipe.closed == "closed" and not line.answer()[2]


async def test_a_websocket_that_was_being_opened_when_the_agent_went_waits_for_nobody(bench: Bench) -> None:
    line = bench.line()
    line.upgrade("/api/v1/namespaces/a/pods/b/exec?command=sh&stdout=true", "v5.channel.k8s.io")
    bench.agent.requests.lose(TunnelClosed("tunnel closed"))
    assert line.answer()[0].status == 502
    assert len(bench.agent.requests) == 0


# -- readers -------------------------------------------------------------------------------------


def test_a_reader_that_falls_behind_loses_its_own_request_and_no_other(bench: Bench) -> None:
    slow, other = bench.line(), bench.line()
    slow.pipe.is_slow = True
    slow.ask(PODS)
    _, slow_id = slow.asked()
    other.ask(PODS)
    _, other_id = other.asked()
    slow.tell(slow_id, header())
    piece = chunk(bytes(32 * 1024))
    for _ in range(bounds.UNREAD_BYTES // (32 * 1024)):
        slow.tell(slow_id, piece)
    assert slow.pipe.closed == "aborted"
    slow.protocol.connection_lost(None)
    slow.tell(slow_id, piece, END)  # it cannot be cancelled, so it keeps coming
    other.tell(other_id, header(), piece, END)
    assert other.answer()[2]


def test_who_holds_most_ends_when_all_hold_too_much(bench: Bench) -> None:
    lines = [bench.line() for _ in range(5)]
    for one in lines:
        one.pipe.is_slow = True
        one.ask(PODS)
    ids = [request_id for _, request_id in bench.agent.take()]
    for one, request_id in zip(lines, ids, strict=True):
        one.tell(request_id, header(), chunk(bytes(bounds.UNREAD_BYTES - 1024)))
    small = bench.line()
    small.ask(PODS)
    _, request_id = small.asked()
    small.pipe.is_slow = True
    small.tell(request_id, header(), chunk(bytes(1000)), END)
    assert lines[-1].pipe.closed == "aborted"
    assert [one.pipe.closed for one in (*lines[:-1], small)] == [""] * 5


async def test_what_nobody_waits_for_keeps_its_place_until_the_agent_has_ended_it(bench: Bench) -> None:
    line = bench.line()
    line.ask(PODS)
    _, request_id = line.asked()
    line.lose()
    assert len(bench.agent.requests) == 1 and not bench.fallback.lines
    line.tell(request_id, header(), chunk(b"x"), END)
    assert len(bench.agent.requests) == 0
    assert bench.agent.requests.strays == 0
    other = bench.line()
    other.ask(PODS)
    other.lose()
    await bench.clock.advance(bounds.ABANDONED_TIMEOUT + 1)
    assert len(bench.agent.requests) == 0


async def test_an_opener_that_asks_nothing_more_still_gets_what_is_coming(line: OneLine) -> None:
    line.ask(PODS)
    _, request_id = line.asked()
    assert line.protocol.eof_received()
    line.tell(request_id, header(), chunk(b"x"))
    await line.bench.clock.advance(request_line.SILENCE_TIMEOUT * 1.5)
    assert not line.pipe.closed
    line.tell(request_id, END)
    assert line.pipe.closed == "closed" and line.answer()[2]


async def test_an_opener_that_has_gone_from_a_quiet_answer_ends_it(line: OneLine) -> None:
    line.ask(f"{PODS}?watch=true")
    _, request_id = line.asked()
    line.tell(request_id, header())
    assert line.protocol.eof_received()
    await line.bench.clock.advance(request_line.SILENCE_TIMEOUT * 2.5)
    assert line.pipe.closed == "closed"


# -- what is no request --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [b"\x16\x03\x01\x00\x01", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\r\n\r\n"]
)
def test_bytes_that_are_no_request_are_refused_and_the_line_ends(line: OneLine, text: bytes) -> None:
    line.protocol.data_received(text)
    assert line.answer()[0].status == 400 and line.pipe.closed == "ended"


def test_a_second_request_before_the_first_is_answered_ends_the_line(line: OneLine) -> None:
    line.ask(PODS)
    line.ask(PODS)
    assert line.pipe.closed == "aborted"

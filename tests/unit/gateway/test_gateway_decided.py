"""Requests whose route is looked up first: nothing leaves before the decision, and every end is told once."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.edge_memory import MemoryEdge, MemoryTarget

from towline.gateway.errors import UpstreamAway, UpstreamError
from towline.gateway.interfaces import Answer, Decided, Ended, Later, Peer, Tap, ToCluster
from towline.wire.http1 import HeadError, RequestHead, ResponseHead

GET = b"GET /k8s HTTP/1.1\r\nHost: app.test\r\n\r\n"
POST = b"POST /k8s HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello"
UPGRADE = b"GET /k8s HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-From: target\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


@dataclass
class Reads:
    """A tap that keeps what it read, and says a word of its own at the start."""

    ups: bytes = b""
    downs: bytes = b""

    def opening(self) -> bytes:
        return b"<note>"

    def announced(self, data: bytes) -> bytes:
        return data.replace(b"HERE", b"<second>")

    def up(self, data: bytes) -> None:
        self.ups += data

    def down(self, data: bytes) -> None:
        self.downs += data


@dataclass
class Noted:
    """A treatment that sends a head of its own and remembers what it was told."""

    ended: list[Ended] = field(default_factory=list)
    cut: Callable[[str, str], None] | None = None
    refuses: bool = False
    reader: Tap | None = None
    reads_along: "Reader | None" = None

    def upstream_head(self, head: RequestHead, request_id: str) -> bytes:
        length = b"Content-Length: %d\r\n" % head.content_length if head.content_length else b""
        return b"%s /treated HTTP/1.1\r\n%s\r\n" % (head.method, length)

    def answer_lines(self, answer: ResponseHead) -> bytes:
        if self.refuses:
            raise HeadError(502, "bad_answer", "not for this client")
        return b"X-Treated: %d\r\n" % answer.status

    def witness(self, answer: ResponseHead) -> "Reader | None":
        return self.reads_along

    def tap(self) -> Tap | None:
        return self.reader

    def begin(self, cut: Callable[[str, str], None]) -> None:
        self.cut = cut

    def end(self, ended: Ended) -> None:
        self.ended.append(ended)


@dataclass
class Reader:
    """Reads along, and has something to say until it was said."""

    client: bytes = b""
    target: bytes = b""
    words: bytes = b"<last words>"

    def from_client(self, data: bytes) -> None:
        self.client += data

    def from_target(self, data: bytes) -> None:
        self.target += data

    def last_words(self, why: str) -> bytes:
        return self.words and self.words + why.encode()


class DecidedEdge(MemoryEdge):
    """An edge whose every request waits for `decision`, unless one is `ready`."""

    def __init__(self) -> None:
        super().__init__()
        self.treatment = Noted()
        self.cluster = MemoryTarget()
        self.ready: Decided | None = None
        self.decision: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self.route_to = Later(self.decide, self.refusal)

    @property
    def to_cluster(self) -> ToCluster:
        return ToCluster("prod", self.cluster, self.treatment)

    def decide(self, head: RequestHead, peer: Peer, request_id: str) -> Decided | Coroutine[Any, Any, Decided]:
        return self.ready or self.wait()

    async def wait(self) -> Decided:
        return await self.decision

    def refusal(self, head: RequestHead, status: int, code: str, message: str, error: UpstreamError | None) -> Answer:
        words = error.refusal if error is not None else code
        return Answer(status, code, message, words.encode(), lines=((b"Warning", b"299"),))

    async def decided(self, found: Decided | Exception) -> None:
        await asyncio.sleep(0)
        self.decision.set_exception(found) if isinstance(found, Exception) else self.decision.set_result(found)
        await self.context.decisions.join()
        await asyncio.sleep(0)


async def test_nothing_leaves_the_edge_before_the_decision() -> None:
    edge = DecidedEdge()
    edge.send(POST[:-2])
    edge.send(POST[-2:-1])
    assert edge.transport.is_paused
    assert edge.cluster.connections == []
    await edge.decided(edge.to_cluster)
    assert not edge.transport.is_paused
    edge.send(POST[-1:])
    assert edge.cluster.got() == b"POST /treated HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"


async def test_known_decision_costs_no_task() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    edge.send(GET)
    assert edge.cluster.got() == b"GET /treated HTTP/1.1\r\n\r\n"


async def test_answer_carries_the_lines_of_its_treatment() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    edge.send(GET)
    edge.cluster.answer(OK)
    assert edge.transport.written == b"HTTP/1.1 200 OK\r\nX-Treated: 200\r\nContent-Length: 2\r\n\r\nok"
    assert [(one.status, one.outcome, one.sent_bytes) for one in edge.treatment.ended] == [
        (200, "done", len(edge.transport.written))
    ]


async def test_connection_serves_the_next_request_and_keeps_its_upstream() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    for _ in range(2):
        edge.send(GET)
        edge.cluster.answer(OK)
    assert len(edge.cluster.connections) == 1
    assert len(edge.treatment.ended) == 2


async def test_refusing_decision_never_connects() -> None:
    edge = DecidedEdge()
    edge.send(POST[:-3])
    await edge.decided(Answer(403, "forbidden", "no", b"no"))
    assert edge.transport.written.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in edge.transport.written
    assert edge.cluster.connections == []
    assert edge.treatment.ended == []


async def test_client_that_leaves_cancels_the_decision() -> None:
    edge = DecidedEdge()
    edge.send(GET)
    edge.leave()
    await edge.context.decisions.join()
    assert edge.context.decisions._tasks == set()
    assert edge.cluster.connections == []
    assert [record.outcome for record in edge.records] == ["client_gone"]


async def test_decision_that_fails_is_an_error_in_the_words_of_the_route() -> None:
    edge = DecidedEdge()
    edge.send(GET)
    await edge.decided(RuntimeError("secret"))
    assert edge.transport.written.startswith(b"HTTP/1.1 500 ")
    assert edge.transport.written.endswith(b"internal")
    assert b"secret" not in edge.transport.written


async def test_refused_answer_is_an_error_and_nothing_of_it_is_sent() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    edge.treatment.refuses = True
    edge.send(GET)
    edge.cluster.answer(OK)
    assert edge.transport.written.startswith(b"HTTP/1.1 502 ")
    assert b"Warning: 299" in edge.transport.written
    assert edge.cluster.connections[0][1].is_aborted


async def test_why_no_connection_came_about_reaches_the_refusal() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    error = UpstreamAway("nobody there")
    error.refusal = "away"
    edge.cluster.error = error
    edge.send(GET)
    assert edge.transport.written.endswith(b"away")
    assert edge.treatment.ended[0].detail == "nobody there"


@pytest.mark.parametrize("request_bytes", [GET, UPGRADE])
async def test_cut_before_the_answer_is_an_error_and_after_it_breaks_off(request_bytes: bytes) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", SWITCH):
        edge = DecidedEdge()
        edge.ready = edge.to_cluster
        edge.send(UPGRADE if answer is SWITCH else request_bytes)
        if answer:
            edge.cluster.answer(answer)
        assert edge.treatment.cut is not None
        edge.treatment.cut("access_lost", "withdrawn")
        if answer:
            assert edge.transport.is_aborted
        else:
            assert edge.transport.written.startswith(b"HTTP/1.1 403 ")
        assert edge.cluster.connections[0][1].is_aborted
        edge.treatment.cut("access_lost", "again")
        assert [(one.outcome, one.detail) for one in edge.treatment.ended] == [("access_lost", "withdrawn")]


async def test_bytes_behind_a_failed_upgrade_are_never_a_request() -> None:
    for answer in (OK, None):
        edge = DecidedEdge()
        edge.ready = edge.to_cluster if answer else Answer(403, "forbidden", "no", b"no")
        edge.send(UPGRADE + GET)
        if answer:
            edge.cluster.answer(answer)
        assert edge.transport.is_closed
        assert len(edge.cluster.connections) == (1 if answer else 0)
        assert len(edge.records) == 1


async def test_pipe_carries_raw_bytes_and_the_end_of_each_side() -> None:
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    edge.send(UPGRADE + b"early")
    assert edge.cluster.got() == b"GET /treated HTTP/1.1\r\n\r\n"
    edge.cluster.answer(SWITCH + b"down")
    protocol, upstream = edge.cluster.connections[0]
    assert edge.transport.written.endswith(b"X-Treated: 101\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\ndown")
    assert upstream.written.endswith(b"\r\n\r\nearly")
    assert protocol.eof_received()
    assert edge.transport.is_ended
    edge.send(b"more")
    assert upstream.written.endswith(b"earlymore")
    edge.client.eof_received()
    assert upstream.is_closed
    assert [one.outcome for one in edge.treatment.ended] == ["upgraded"]


async def test_a_tap_reads_both_ways_and_changes_nothing_but_its_own_words() -> None:
    edge = DecidedEdge()
    edge.treatment.reader = reads = Reads()
    edge.ready = edge.to_cluster
    edge.send(UPGRADE + b"early")
    edge.cluster.answer(SWITCH + b"down")
    assert edge.transport.written.endswith(b"\r\n\r\n<note>down")
    edge.cluster.answer(b"1HERE2")
    edge.send(b"more")
    assert edge.transport.written.endswith(b"down1<second>2")
    assert edge.cluster.connections[0][1].written.endswith(b"earlymore")
    assert (reads.ups, reads.downs) == (b"earlymore", b"down1HERE2")


async def test_a_request_that_is_cut_because_of_its_switch_is_refused() -> None:
    edge = DecidedEdge()

    class Cuts(Noted):
        def answer_lines(self, answer: ResponseHead) -> bytes:
            assert self.cut is not None
            self.cut("unrecordable", "not like this")
            return b""

    edge.treatment = Cuts()
    edge.ready = edge.to_cluster
    edge.send(UPGRADE)
    edge.cluster.answer(SWITCH)
    assert edge.transport.written.startswith(b"HTTP/1.1 403 ")
    assert [one.outcome for one in edge.treatment.ended] == ["unrecordable"]


def piped() -> tuple[DecidedEdge, Reader]:
    """A pipe through which something has passed both ways."""
    edge = DecidedEdge()
    edge.ready = edge.to_cluster
    edge.treatment.reads_along = reader = Reader()
    edge.send(UPGRADE + b"up")
    edge.cluster.answer(SWITCH + b"down")
    edge.send(b" more")
    edge.cluster.answer(b" more")
    return edge, reader


async def test_witness_reads_what_passes_both_ways() -> None:
    _, reader = piped()
    assert (reader.client, reader.target) == (b"up more", b"down more")


@pytest.mark.parametrize("how", ["reset", "closed", "half-closed", "cut"])
async def test_pipe_that_the_other_side_leaves_ends_with_the_last_words(how: str) -> None:
    edge, _ = piped()
    end(edge, how)
    assert edge.transport.written.count(b"<last words>") == 1
    assert edge.transport.writes[-1].startswith(b"<last words>")
    assert not edge.transport.is_aborted
    assert edge.transport.is_closed or edge.transport.is_ended


@pytest.mark.parametrize(("how", "is_aborted"), [("reset", True), ("closed", False), ("cut", True)])
async def test_pipe_ends_as_before_where_there_is_nothing_to_say(how: str, is_aborted: bool) -> None:
    edge, reader = piped()
    reader.words = b""
    end(edge, how)
    assert edge.transport.written.endswith(b"down more")
    assert (edge.transport.is_aborted, edge.transport.is_closed) == (is_aborted, not is_aborted)


async def test_client_that_left_first_is_told_nothing() -> None:
    edge, _ = piped()
    edge.leave()
    assert b"<last words>" not in edge.transport.written


async def test_cut_says_why_in_the_last_words() -> None:
    edge, _ = piped()
    end(edge, "cut")
    assert edge.transport.written.endswith(b"<last words>the role is gone")


def end(edge: DecidedEdge, how: str) -> None:
    protocol, _ = edge.cluster.connections[0]
    if how == "cut":
        assert edge.treatment.cut is not None
        edge.treatment.cut("access_lost", "the role is gone")
    elif how == "half-closed":
        protocol.eof_received()
    else:
        protocol.connection_lost(ConnectionResetError() if how == "reset" else None)

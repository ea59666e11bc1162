"""Routes with options, without sockets: who may come, what is rewritten, what is answered instead."""

import asyncio
import base64
import gzip
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from argon2 import PasswordHasher
from tests.support.edge_memory import MemoryEdge, MemoryTarget

from towline.gateway.balancing import Balanced, Member
from towline.gateway.errors import UpstreamAway, UpstreamUnreachable
from towline.gateway.interfaces import Answer, Peer, ToTarget, Visitor
from towline.gateway.route_options import parse_options
from towline.gateway.route_policy import Policies, visit_cookie
from towline.wire.http1 import RequestHead

GET = b"GET /a?b=c HTTP/1.1\r\nHost: app.test\r\n"
OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok"
STORED = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("open sesame")


class Edge(MemoryEdge):
    """Its one route has options."""

    def with_options(self, values: dict[str, Any], **more: Any) -> "Edge":
        self.route_to = ToTarget("app", self.target, options=parse_options(values), id="rte_1", **more)
        return self

    def over(self, **peer: Any) -> "Edge":
        """Let the client be somebody else."""
        self.client._peer = Peer(**{"address": "203.0.113.9", "port": 1, "scheme": "https", "via": "x"} | peer)
        return self

    @property
    def told(self) -> bytes:
        return self.transport.written


@pytest.fixture
async def edge() -> Edge:
    return Edge()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)  # other tasks and threads go on


async def test_default_options_change_nothing_of_a_request(edge: Edge) -> None:
    edge.with_options({}).send(GET + b"X-Mine: 1\r\n\r\n")
    assert b"X-Mine: 1\r\n" in edge.target.got()
    edge.target.answer(OK)
    assert edge.told == OK


async def test_plain_http_is_sent_to_https_with_its_path_and_query(edge: Edge) -> None:
    edge.with_options({}).over(scheme="http").send(GET + b"\r\n")
    assert edge.told.startswith(b"HTTP/1.1 301 ")
    assert b"location: https://app.test/a?b=c\r\n" in edge.told
    assert edge.target.connections == []


async def test_redirect_of_a_post_keeps_its_method(edge: Edge) -> None:
    edge.with_options({}).over(scheme="http").send(
        b"POST / HTTP/1.1\r\nHost: app.test:8443\r\nContent-Length: 0\r\n\r\n"
    )
    assert edge.told.startswith(b"HTTP/1.1 308 ")
    assert b"location: https://app.test:8443/\r\n" in edge.told


async def test_redirect_can_be_turned_off(edge: Edge) -> None:
    edge.with_options({"https_redirect": False, "hsts": 60}).over(scheme="http").send(GET + b"\r\n")
    edge.target.answer(OK)
    assert edge.told.startswith(b"HTTP/1.1 200")
    assert b"Strict-Transport" not in edge.told


async def test_hsts_replaces_what_the_target_says(edge: Edge) -> None:
    edge.with_options({"hsts": 60}).send(GET + b"\r\n")
    edge.target.answer(b"HTTP/1.1 204 No\r\nStrict-Transport-Security: max-age=1\r\n\r\n")
    assert edge.told.count(b"Strict-Transport-Security") == 1
    assert b"Strict-Transport-Security: max-age=60\r\n" in edge.told


async def test_headers_are_set_and_removed_both_ways(edge: Edge) -> None:
    options = {
        "set_request_headers": {"X-Team": "shop", "X-Forwarded-Proto": "http"},
        "remove_request_headers": ["Accept-Encoding"],
        "set_answer_headers": {"X-Frame-Options": "DENY"},
        "remove_answer_headers": ["server"],
        "host": "inner.local",
    }
    edge.with_options(options).send(GET + b"accept-encoding: gzip\r\nx-team: other\r\nX-Kept: 1\r\n\r\n")
    got = edge.target.got()
    assert got.lower().count(b"\r\nx-team:") == 1
    assert b"\r\nX-Team: shop\r\n" in got
    assert got.count(b"X-Forwarded-Proto") == 1
    assert b"X-Forwarded-Proto: http\r\n" in got
    assert b"accept-encoding" not in got
    assert b"X-Kept: 1\r\n" in got
    assert b"\r\nHost: inner.local\r\n" in got
    assert b"X-Forwarded-Host: app.test\r\n" in got
    assert got.endswith(b"\r\n\r\n")
    edge.target.answer(OK)
    assert b"Server" not in edge.told
    assert b"X-Frame-Options: DENY\r\n" in edge.told


@pytest.mark.parametrize(
    ("options", "address", "may"),
    [
        ({"allow": ["10.0.0.0/8"]}, "10.1.2.3", True),
        ({"allow": ["10.0.0.0/8"]}, "192.0.2.1", False),
        ({"allow": ["10.0.0.0/8"]}, "2001:db8::1", False),
        ({"deny": ["192.0.2.0/24"]}, "192.0.2.1", False),
        ({"deny": ["192.0.2.0/24"]}, "192.0.3.1", True),
        ({"allow": ["192.0.0.0/16"], "deny": ["192.0.2.0/24"]}, "192.0.2.1", False),
    ],
)
async def test_networks_decide_who_may_come(edge: Edge, options: dict[str, Any], address: str, may: bool) -> None:
    edge.with_options(options).over(address=address).send(GET + b"\r\n")
    assert bool(edge.target.connections) is may
    assert may or edge.told.startswith(b"HTTP/1.1 403 ")


async def test_rate_limit_answers_429_and_says_when_to_come_back(edge: Edge) -> None:
    edge.with_options({"rate_limit": 0.5, "rate_burst": 1}).send(GET + b"\r\n")
    edge.target.answer(OK)
    await asyncio.sleep(0)
    edge.send(GET + b"\r\n")
    assert b"HTTP/1.1 429 " in edge.told
    assert b"retry-after: 2\r\n" in edge.told
    assert len(edge.target.connections) == 1


async def test_body_over_the_limit_is_refused_by_its_length(edge: Edge) -> None:
    edge.with_options({"body_limit": 10}).send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\n\r\n")
    assert edge.told.startswith(b"HTTP/1.1 413 ")
    assert edge.target.connections == []


async def test_chunked_body_is_cut_at_the_limit_and_passes_up_to_it(edge: Edge) -> None:
    edge.with_options({"body_limit": 10})
    edge.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n")
    assert edge.told == b""
    edge.send(b"1\r\nx\r\n")
    assert edge.told.startswith(b"HTTP/1.1 413 ")
    assert edge.target.connections[0][1].is_aborted


async def test_maintenance_shows_a_page_of_the_route(edge: Edge) -> None:
    edge.with_options({"maintenance": True, "error_page": "<p>{status} {code} {x} {message}</p>"})
    edge.send(GET + b"Accept: text/html,*/*\r\n\r\n")
    assert edge.told.startswith(b"HTTP/1.1 503 ")
    assert b"content-type: text/html" in edge.told
    assert edge.told.endswith(b"<p>503 maintenance {x} this service is being worked on</p>")


async def test_programs_read_json_where_browsers_read_a_page(edge: Edge) -> None:
    edge.with_options({})
    edge.target.error = UpstreamAway("no agent")
    edge.send(GET + b"\r\n")
    assert b'"upstream_away"' in edge.told
    edge.send(GET + b"Accept: text/html\r\n\r\n")
    assert b"<h1>This service is away</h1>" in edge.told


# -- who it is -------------------------------------------------------------------------------


def authorization(password: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(b"ann:" + password.encode()) + b"\r\n"


async def test_password_is_asked_for_and_not_passed_on(edge: Edge) -> None:
    edge.with_options({"basic_auth": [f"ann:{STORED}"]}).send(GET + b"\r\n")
    await until(lambda: bool(edge.told))
    assert edge.told.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Basic " in edge.told
    edge.send(GET + authorization("open sesame") + b"X-Forwarded-User: root\r\n\r\n")
    await until(lambda: bool(edge.target.connections))
    got = edge.target.got()
    assert b"Authorization" not in got
    assert got.count(b"X-Forwarded-User") == 1
    assert b"X-Forwarded-User: ann\r\n" in got
    edge.target.answer(OK)
    await asyncio.sleep(0)
    edge.send(GET + authorization("open sesame") + b"\r\n")
    assert edge.target.got().count(b"GET /a") == 2  # at once, without a thread


async def test_body_waits_for_the_password(edge: Edge) -> None:
    edge.with_options({"basic_auth": [f"ann:{STORED}"]})
    edge.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n" + authorization("open sesame") + b"\r\nab")
    assert edge.transport.is_paused
    edge.send(b"cd")
    await until(lambda: bool(edge.target.connections))
    assert edge.target.got().endswith(b"\r\n\r\nabcd")
    assert not edge.transport.is_paused


class Door:
    """Signs in whoever has the right cookie."""

    def recall(self, head: RequestHead, route: ToTarget) -> Visitor | None:
        return Visitor("ann@example.org") if b"=right" in (head.get(b"cookie") or b"") else None

    async def admit(self, head: RequestHead, peer: Peer, route: ToTarget) -> Visitor | Answer:
        return Answer(302, "sign_in", "", b"", lines=((b"location", b"https://panel.test/visit"),))


async def test_visitor_without_a_cookie_is_sent_to_sign_in_and_one_with_it_gets_through(edge: Edge) -> None:
    edge.context.policies = Policies(Door())
    edge.with_options({"sign_in": True}, cluster_id="cls_1").send(GET + b"\r\n")
    await until(lambda: bool(edge.told))
    assert b"location: https://panel.test/visit\r\n" in edge.told
    edge.send(GET + b"Cookie: a=1; " + visit_cookie("rte_1") + b"=right; b=2\r\n\r\n")
    assert b"\r\nCookie: a=1; b=2\r\n" in edge.target.got()
    assert b"X-Forwarded-User: ann@example.org\r\n" in edge.target.got()


class Forgetful(Door):
    """Lets somebody in once, and nobody afterwards."""

    left = 1

    def recall(self, head: RequestHead, route: ToTarget) -> Visitor | None:
        self.left -= 1
        return Visitor("ann") if self.left >= 0 else None


async def test_websocket_ends_soon_after_its_visitor_lost_the_right(edge: Edge) -> None:
    edge.context.policies = Policies(Forgetful())
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    edge.with_options({"sign_in": True})
    edge.send(GET + lines + b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
    edge.target.answer(b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    now = edge.context.now()
    edge.client.check(now + 5.0)
    assert not edge.transport.is_aborted
    edge.client.check(now + 11.0)
    await until(lambda: edge.transport.is_aborted)


async def test_route_that_wants_a_sign_in_stays_closed_where_nobody_can(edge: Edge) -> None:
    edge.with_options({"sign_in": True}).send(GET + b"\r\n")
    await until(lambda: bool(edge.told))
    assert edge.told.startswith(b"HTTP/1.1 503 ")
    assert edge.target.connections == []


# -- several targets ---------------------------------------------------------------------------


def balanced(edge: Edge, *errors: Exception | None, **options: Any) -> list[MemoryTarget]:
    targets = [MemoryTarget(error=error) for error in errors]
    connector = Balanced([Member(f"m{number}", target) for number, target in enumerate(targets)])
    edge.route_to = ToTarget("app", connector, options=parse_options(options), id="rte_1")
    return targets


async def test_request_goes_to_another_target_when_no_connection_came_about(edge: Edge) -> None:
    refused = UpstreamUnreachable("refused")
    refused.refusal = "unreachable"
    targets = balanced(edge, refused, None)
    for _ in range(3):
        edge.send(GET + b"\r\n")
        targets[1].answer(OK)
        await asyncio.sleep(0)
    assert edge.told == OK * 3
    assert edge.counters.retries <= 1


async def test_answer_is_503_when_no_target_is_left(edge: Edge) -> None:
    away = UpstreamAway("no agent")
    away.refusal = "away"
    balanced(edge, away, away)
    edge.send(GET + b"\r\n")
    assert edge.told.startswith(b"HTTP/1.1 503 ")


async def test_request_with_an_effect_is_never_sent_twice(edge: Edge) -> None:
    targets = balanced(edge, None, None)
    edge.send(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab")
    used = next(target for target in targets if target.connections)
    away = UpstreamAway("the tunnel broke")
    used.connections[0][0].connection_lost(away)
    await asyncio.sleep(0)
    assert edge.told.startswith(b"HTTP/1.1 503 ")
    assert sum(len(target.connections) for target in targets) == 1


async def test_idempotent_request_goes_elsewhere_when_its_tunnel_breaks_unanswered(edge: Edge) -> None:
    targets = balanced(edge, None, None)
    edge.send(GET + b"\r\n")
    used = next(target for target in targets if target.connections)
    other = next(target for target in targets if not target.connections)
    used.connections[0][0].connection_lost(UpstreamAway("the tunnel broke"))
    other.answer(OK)
    assert edge.told == OK


async def test_nothing_is_retried_once_a_byte_of_the_answer_came(edge: Edge) -> None:
    targets = balanced(edge, None, None)
    edge.send(GET + b"\r\n")
    used = next(target for target in targets if target.connections)
    used.answer(b"HTTP/1.1 2")
    used.connections[0][0].connection_lost(UpstreamAway("the tunnel broke"))
    await asyncio.sleep(0)
    assert edge.told.startswith(b"HTTP/1.1 503 ")
    assert sum(len(target.connections) for target in targets) == 1


async def test_single_target_is_asked_once_more_through_another_agent(edge: Edge) -> None:
    edge.send(GET + b"\r\n")
    edge.target.connections[0][0].connection_lost(UpstreamAway("the tunnel broke"))
    await asyncio.sleep(0)
    edge.target.answer(OK)
    assert edge.told == OK
    edge.send(GET + b"\r\n")
    for _ in range(3):  # the idle connection, a new one, and one through another agent
        edge.target.connections[-1][0].connection_lost(UpstreamAway("the tunnel broke"))
        await asyncio.sleep(0)
    assert b"HTTP/1.1 503 " in edge.told


# -- time and figures ----------------------------------------------------------------------------


async def test_target_that_never_answers_is_a_504_in_time(edge: Edge) -> None:
    edge.with_options({"request_timeout": 5, "set_request_headers": {"X-A": "b"}}).send(GET + b"\r\n")
    edge.client.check(100.0)
    edge.client.check(104.0)
    assert edge.told == b""
    edge.client.check(105.5)
    assert edge.told.startswith(b"HTTP/1.1 504 ")


async def test_route_without_options_has_the_servers_timeout() -> None:
    edge = MemoryEdge(replace(MemoryEdge().options, answer_timeout=5.0))
    edge.send(GET + b"\r\n")
    edge.client.check(100.0)
    edge.client.check(106.0)
    assert edge.transport.written.startswith(b"HTTP/1.1 504 ")


async def test_idle_stream_is_cut_when_the_route_says_so(edge: Edge) -> None:
    edge.with_options({"idle_timeout": 5}).send(GET + b"\r\n")
    edge.target.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    edge.client.check(100.0)
    edge.target.answer(b"cd")
    edge.client.check(104.0)
    edge.client.check(108.0)
    assert not edge.transport.is_aborted
    edge.client.check(109.5)
    assert edge.transport.is_aborted


async def test_figures_and_tail_tell_what_happened(edge: Edge) -> None:
    edge.with_options({}).send(GET + b"\r\n")
    figure = edge.context.figures.all()[0]
    assert (figure.name, figure.open) == ("app", 1)
    edge.target.answer(OK)
    assert (figure.open, figure.statuses[2], sum(figure.buckets)) == (0, 1, 1)
    assert figure.sent_bytes == len(OK)
    (line,) = edge.context.tail.last(lambda line: line.route_id == "rte_1", 10)
    assert (line.method, line.path, line.status, line.address) == ("GET", "/a", 200, "203.0.113.9")


async def test_watcher_reads_along_and_a_slow_one_loses_lines_but_costs_no_more(edge: Edge) -> None:
    watcher = edge.context.tail.watch(lambda line: line.route == "app")
    edge.with_options({})
    for _ in range(600):
        edge.send(GET + b"\r\n")
        edge.target.answer(OK)
        await asyncio.sleep(0)
    lines = await watcher.next(1.0)
    assert len(lines) == 500
    assert watcher.dropped == 100
    watcher.close()
    assert "0 watchers" in repr(edge.context.tail)


@pytest.mark.parametrize(("sample", "logged"), [(None, 0), (1.0, 1)])
async def test_sample_decides_about_good_requests(sample: float | None, logged: int) -> None:
    edge = Edge(replace(MemoryEdge().options, log_good_targets=False)).with_options({"sample": sample})
    edge.send(GET + b"\r\n")
    edge.target.answer(OK)
    assert len(edge.records) == logged


async def test_new_options_count_at_the_next_request(edge: Edge) -> None:
    edge.with_options({"maintenance": True}).send(GET + b"\r\n")
    assert b" 503 " in edge.told
    edge.with_options({})
    edge.send(GET + b"\r\n")
    assert len(edge.target.connections) == 1


# -- compression -------------------------------------------------------------------------------

TEXT = b"all work and no play " * 50
HTML = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccept-Ranges: bytes\r\nETag: "a"\r\n'


def unzipped(told: bytes) -> bytes:
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    pieces = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            return gzip.decompress(pieces)
        pieces, body = pieces + body[: int(size, 16)], body[int(size, 16) + 2 :]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_text_is_sent_as_gzip_to_who_takes_it(edge: Edge, framing: str) -> None:
    edge.with_options({"compression": True}).send(GET + b"Accept-Encoding: br, gzip;q=0.5\r\n\r\n")
    if framing == "length":
        edge.target.answer(HTML + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT)
    elif framing == "chunked":
        edge.target.answer(HTML + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(TEXT), TEXT))
        edge.target.answer(b"0\r\n\r\n")
    else:
        edge.target.answer(HTML + b"\r\n" + TEXT[:500])
        edge.target.answer(TEXT[500:])
        edge.target.connections[0][0].connection_lost(None)
    assert unzipped(edge.told) == TEXT
    assert b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n" in edge.told
    assert b'ETag: W/"a"\r\n' in edge.told
    assert b"Accept-Ranges" not in edge.told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b"", b"Content-Type: text/html\r\n"),
        (b"Accept-Encoding: gzip;q=0\r\n", b"Content-Type: text/html\r\n"),
        (b"Accept-Encoding: br\r\n", b"Content-Type: text/html\r\n"),
        (b"Accept-Encoding: gzip\r\n", b"Content-Type: image/png\r\n"),
        (b"Accept-Encoding: gzip\r\n", b"Content-Type: text/html\r\nContent-Encoding: br\r\n"),
        (b"Accept-Encoding: gzip\r\n", b"Content-Type: text/html\r\nCache-Control: No-Transform\r\n"),
    ],
)
async def test_everything_else_stays_as_it_is(edge: Edge, asked: bytes, said: bytes) -> None:
    edge.with_options({"compression": True}).send(GET + asked + b"\r\n")
    edge.target.answer(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT)
    assert edge.told.endswith(TEXT)
    assert b"Content-Length: %d\r\n" % len(TEXT) in edge.told

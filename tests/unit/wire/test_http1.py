"""The readers of HTTP/1.1 heads: every bad input is refused wherever it is cut, and good input means one thing."""

import pytest
from tests.support.http1_script import BAD_REQUESTS, GET, HOST, POST, Got, Refused, Script, cuts, read

from towline.wire import http1
from towline.wire.http1 import Framing, HeadError, parse_request_head, parse_response_head
from towline.wire.http1_buffer import MAX_FIELDS, MAX_HEAD_BYTES


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_request_is_refused_and_nothing_behind_it_is_read(name: str) -> None:
    data, statuses = BAD_REQUESTS[name]
    for pieces in cuts(data + b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n", most=120):
        seen = read(pieces)
        assert len(seen) == 1, pieces[0][-40:]
        assert isinstance(seen[0], Refused)
        assert seen[0].status in statuses, pieces[0][-40:]


def test_requests_mean_the_same_wherever_they_are_cut() -> None:
    data = (
        b"POST /a?b=1;c HTTP/1.1\r\nHost: A.Example.Test.:8443\r\nContent-Length: 5\r\n\r\nhello"
        b"PUT /c HTTP/1.1\r\n" + HOST + b"transfer-encoding: Chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
        b"GET /d HTTP/1.0\r\n" + HOST + b"\r\n"
    )
    expected = [Got(b"POST", b"/a?b=1;c", b"hello"), Got(b"PUT", b"/c", b"abc0123456789"), Got(b"GET", b"/d")]
    for pieces in cuts(data):
        assert read(pieces) == expected


def test_thousand_pipelined_requests_are_all_read() -> None:
    assert len(read([(GET + b"\r\n") * 1000])) == 1000


@pytest.mark.parametrize(
    ("sent", "name", "port"),
    [
        (b"app.example.test", "app.example.test", None),
        (b"APP.Example.test", "app.example.test", None),
        (b"app.example.test.", "app.example.test", None),
        (b"app.example.test.:443", "app.example.test", 443),
        (b"localhost:8443", "localhost", 8443),
        (b"127.0.0.1", "127.0.0.1", None),
        (b"[::1]:65535", "[::1]", 65535),
        (b"[0:0:0:0:0:0:0:1]", "[::1]", None),
        (b"xn--bcher-kva.test", "xn--bcher-kva.test", None),
    ],
)
def test_host_is_normalised_for_case_dot_and_address_form_only(sent: bytes, name: str, port: int | None) -> None:
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: " + sent + b"\r\n\r\n")
    assert (head.host, head.port) == (name, port)


def test_target_and_field_names_keep_their_bytes() -> None:
    head = parse_request_head(b"GET /a/%2e%2e//b;c?x=%zz#".rstrip(b"#") + b" HTTP/1.1\r\nhOsT: a\r\nX-A:  b \r\n\r\n")
    assert head.target == b"/a/%2e%2e//b;c?x=%zz"
    assert head.path == b"/a/%2e%2e//b;c"
    assert head.fields == [(b"host", b"hOsT", b"a"), (b"x-a", b"X-A", b"b")]


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: X-A, CLOSE\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_connection_stays_open_as_version_and_field_say(version: bytes, connection: bytes, stays: bool) -> None:
    head = parse_request_head(b"GET / HTTP/" + version + b"\r\n" + HOST + connection + b"\r\n")
    assert head.keep_alive is stays


def test_upgrade_counts_only_when_connection_names_it() -> None:
    assert parse_request_head(GET + b"Upgrade: websocket\r\n\r\n").upgrade is None
    assert parse_request_head(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade == b"websocket"
    old = b"GET / HTTP/1.0\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert parse_request_head(old).upgrade is None


def test_expectation_is_seen_and_ignored_in_http_1_0() -> None:
    expect = b"Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"
    assert parse_request_head(POST + expect).expects_continue
    assert not parse_request_head(b"POST / HTTP/1.0\r\n" + HOST + expect).expects_continue


def test_head_is_refused_above_the_limit_and_read_below_it() -> None:
    room = MAX_HEAD_BYTES - len(GET) - len(b"A: \r\n\r\n")
    assert read([GET + b"A: " + b"x" * room + b"\r\n\r\n"]) == [Got(b"GET", b"/")]
    assert read([GET + b"A: " + b"x" * (room + 1) + b"\r\n\r\n"]) == [Refused(431)]


def test_hundred_fields_are_read_and_one_more_is_refused() -> None:
    fields = [b"A%d: x\r\n" % n for n in range(MAX_FIELDS)]
    assert read([GET + b"".join(fields[1:]) + b"\r\n"]) == [Got(b"GET", b"/")]
    assert read([GET + b"".join(fields) + b"\r\n"]) == [Refused(431)]


def test_endless_head_is_refused_as_soon_as_it_exceeds_the_limit() -> None:
    script = Script()
    script.feed(GET)
    fed = 0
    while not script.seen:
        script.feed(b"A: " + b"x" * 997 + b"\r\n")
        fed += 1002
    assert script.seen == [Refused(431)]
    assert fed <= MAX_HEAD_BYTES + 1002


@pytest.mark.parametrize("start", [b"\x80\x2e\x01", b"hello", b"{", b"G" * 40])
def test_bytes_that_cannot_become_a_request_are_refused_at_once(start: bytes) -> None:
    assert read([start]) == [Refused(400)]


def test_buffer_gives_back_what_follows_a_head() -> None:
    buffer = http1.RequestBuffer()
    buffer.feed(GET + b"\r\nrest")
    assert buffer.cut() == GET + b"\r\n"
    assert len(buffer) == 4
    assert buffer.take() == b"rest"
    assert buffer.cut() is None


@pytest.mark.parametrize("before", [b"", b"GE", GET])
def test_feeding_and_cutting_at_once_means_the_same(before: bytes) -> None:
    data = GET + b"\r\n" + GET + b"\r\nrest"
    buffer = http1.RequestBuffer()
    buffer.feed(before)
    assert buffer.feed_and_cut(data[len(before) :]) == GET + b"\r\n"
    assert buffer.cut() == GET + b"\r\n"
    assert buffer.take() == b"rest"
    assert buffer.feed_and_cut(b"GET") is None
    with pytest.raises(HeadError):
        http1.RequestBuffer().feed_and_cut(GET + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n")


def test_repr_holds_no_query_and_no_fields() -> None:
    head = parse_request_head(b"GET /a?token=secret HTTP/1.1\r\n" + HOST + b"Authorization: secret\r\n\r\n")
    assert "secret" not in repr(head)
    assert repr(head) == "<RequestHead GET app.example.test /a none>"


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("method", "data", "framing"),
    [
        (b"GET", OK + b"Content-Length: 5\r\n\r\n", Framing.LENGTH),
        (b"GET", OK + b"Content-Length: 0\r\n\r\n", Framing.NONE),
        (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n", Framing.CHUNKED),
        (b"GET", OK + b"\r\n", Framing.UNTIL_CLOSE),
        (b"HEAD", OK + b"Content-Length: 5\r\n\r\n", Framing.NONE),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", Framing.NONE),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Framing.NONE),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", Framing.NONE),
        (b"GET", b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", Framing.NONE),
        (b"GET", b"HTTP/1.0 200\r\n\r\n", Framing.UNTIL_CLOSE),
    ],
)
def test_end_of_an_answer_is_known_from_its_head_and_the_method(method: bytes, data: bytes, framing: Framing) -> None:
    assert parse_response_head(data).framing_for(method) is framing


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: 5, 5\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A: b\nX: y\r\n\r\n",
        OK + b"A: b\x00\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 No\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x01K\r\n\r\n",
    ],
)
def test_bad_answer_is_refused(data: bytes) -> None:
    for pieces in cuts(data):
        buffer = http1.ResponseBuffer()
        with pytest.raises(HeadError):
            for piece in pieces:
                buffer.feed(piece)
                cut = buffer.cut()
                if cut is not None:
                    parse_response_head(cut)


def test_answers_mean_the_same_wherever_they_are_cut() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\nServer: x\r\nConnection: close\r\n\r\n"
    for pieces in cuts(data):
        buffer, seen = http1.ResponseBuffer(), []
        for piece in pieces:
            buffer.feed(piece)
            while (cut := buffer.cut()) is not None:
                head = parse_response_head(cut)
                seen.append((head.status, head.reason, head.keep_alive))
        assert seen == [(100, b"Continue", True), (404, b"", False)]

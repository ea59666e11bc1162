"""Requests and answers of one stream as scripts of bytes, cut everywhere, and what a hostile side may try."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.agent.kubernetes.conversation import Conversation, Denied, Judge, Passed, State
from towline.wire.http1 import HeadError, RequestHead

GET = b"GET /api/v1/pods HTTP/1.1\r\nHost: agent\r\n\r\n"
SENT = b"<GET /api/v1/pods>"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
UPGRADE = b"GET /exec HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
DENIED = b"<denied>"
NOT_TAKEN = b"<not taken>"


def passing(head: RequestHead) -> Passed | Denied:
    """Let everything pass but what says `denied`; heads become something short."""
    if b"denied" in head.target:
        return Denied(lambda ends: DENIED + (b"<end>" if ends else b""))
    return Passed(b"<%s %s>" % (head.method, head.target), head.upgrade is not None)


class Script:
    """A conversation, and all that came out of it so far."""

    def __init__(self, judge: Judge = passing, origins: tuple[bytes, ...] = ()) -> None:
        self.conversation = Conversation(judge, lambda: NOT_TAKEN, origins)
        self.to_api = b""
        self.to_opener = b""

    def opener(self, data: bytes) -> Script:
        return self._take(self.conversation.from_opener, data)

    def api(self, data: bytes) -> Script:
        return self._take(self.conversation.from_api, data)

    def _take(self, feed: Callable[[bytes], object], data: bytes) -> Script:
        moved = feed(data)
        self.to_api += moved.to_api  # type: ignore[attr-defined]
        self.to_opener += moved.to_opener  # type: ignore[attr-defined]
        return self

    @property
    def state(self) -> State:
        return self.conversation.state


def post(body: bytes) -> bytes:
    return b"POST /pods HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    head = b"POST /pods HTTP/1.1\r\nHost: agent\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n" + trailer + b"\r\n"


def test_requests_follow_each_other() -> None:
    script = Script()
    for _ in range(3):
        assert script.conversation.is_quiet
        script.opener(GET)
        assert not script.conversation.is_quiet
        script.api(OK)
    assert (script.to_api, script.to_opener) == (SENT * 3, OK * 3)


@pytest.mark.parametrize(
    ("request_bytes", "sent"),
    [
        (GET, SENT),
        (post(b"some body"), b"<POST /pods>some body"),
        (chunked(b"ab", b"c" * 20), b"<POST /pods>" + chunked(b"ab", b"c" * 20).partition(b"\r\n\r\n")[2]),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_cuts_at_every_byte_change_nothing(request_bytes: bytes, sent: bytes, answer: bytes) -> None:
    for cut in range(len(request_bytes)):
        for at in (0, 1, len(answer) // 2, len(answer) - 1):
            script = Script().opener(request_bytes[:cut]).opener(request_bytes[cut:])
            script.api(answer[:at]).api(answer[at:])
            assert (script.to_api, script.to_opener) == (sent, answer)
            assert script.opener(GET).to_api == sent + SENT


def test_answer_cut_at_every_byte_passes_whole() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    script = Script().opener(GET)
    for at in range(len(answer)):
        assert not script.conversation.is_quiet
        script.api(answer[at : at + 1])
    assert script.to_opener == answer
    assert script.conversation.is_quiet


def test_body_passes_as_it_comes() -> None:
    script = Script().opener(GET).api(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"5\r\nfirst", b"\r\n6\r\n", b"second\r\n"):
        assert script.conversation.from_api(piece).to_opener == piece


@pytest.mark.parametrize("cut", range(len(UPGRADE) + 10))
def test_no_byte_passes_between_an_upgrade_and_its_101(cut: int) -> None:
    sent = UPGRADE + b"early bytes"
    script = Script().opener(sent[:cut]).opener(sent[cut:])
    assert (script.to_api, script.state) == (b"<GET /exec>", State.SWITCHING)
    script.api(SWITCHED[:30])
    assert script.to_api == b"<GET /exec>"
    script.api(SWITCHED[30:] + b"first of the shell")
    assert (script.to_api, script.state) == (b"<GET /exec>early bytes", State.PIPE)
    assert script.to_opener == SWITCHED + b"first of the shell"


def test_after_the_101_bytes_mean_nothing() -> None:
    script = Script().opener(UPGRADE).api(SWITCHED)
    script.opener(GET + b"\x00\xff").api(b"HTTP/1.1 nonsense\r\n\r\n")
    assert script.to_api == b"<GET /exec>" + GET + b"\x00\xff"
    assert script.to_opener == SWITCHED + b"HTTP/1.1 nonsense\r\n\r\n"


@pytest.mark.parametrize("code", [b"200", b"302", b"403", b"404", b"500"])
def test_failed_upgrade_ends_it_and_what_follows_goes_nowhere(code: bytes) -> None:
    answer = b"HTTP/1.1 %s X\r\nContent-Length: 3\r\nLocation: https://elsewhere/\r\n\r\nbad" % code
    script = Script().opener(UPGRADE + GET)
    for at in range(len(answer)):
        assert script.state is State.SWITCHING
        script.api(answer[at : at + 1])
    assert (script.to_opener, script.state) == (answer, State.ENDING)
    script.opener(GET).api(b"more")
    assert (script.to_api, script.to_opener) == (b"<GET /exec>", answer)


def test_101_inside_an_earlier_answer_switches_nothing() -> None:
    script = Script().opener(GET).api(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(HeadError, match="before the answer"):
        script.opener(UPGRADE)
    assert script.to_api == SENT
    script.api(b"%x\r\n%s\r\n" % (len(SWITCHED), SWITCHED))
    assert script.state is State.OPEN


@pytest.mark.parametrize("second", [GET, UPGRADE, b"G", b"\r\n"])
@pytest.mark.parametrize("first", [GET, post(b"body"), chunked(b"body")])
def test_request_before_the_end_of_the_answer_is_refused(first: bytes, second: bytes) -> None:
    with pytest.raises(HeadError):
        Script().opener(first + second)
    with pytest.raises(HeadError):
        Script().opener(first).api(OK[:-1]).opener(second)


def test_101_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(HeadError, match="without being asked"):
        Script().opener(GET).api(SWITCHED)


def test_upgrade_that_was_not_passed_on_is_an_ordinary_request() -> None:
    script = Script(lambda head: Passed(b"<plain>", is_upgrade=False)).opener(UPGRADE)
    assert script.state is State.OPEN
    with pytest.raises(HeadError, match="without being asked"):
        script.api(SWITCHED)


@pytest.mark.parametrize("bytes_of_api", [OK, b"x", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_bytes_that_nobody_asked_for_are_refused(bytes_of_api: bytes) -> None:
    with pytest.raises(HeadError):
        Script().api(bytes_of_api)
    with pytest.raises(HeadError):
        Script().opener(GET).api(OK + bytes_of_api)
    with pytest.raises(HeadError):
        Script().opener(GET).api(OK[:-1]).api(OK[-1:] + bytes_of_api)


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://elsewhere/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
        b"GET https://10.0.0.1:6443/api HTTP/1.1\r\nHost: agent\r\n\r\n",
        b"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: agent\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: agent\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: agent\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nImpersonate-User : root\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n Impersonate-User: root\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: a\n\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        UPGRADE.replace(b"Host", b"Content-Length: 4\r\nHost"),
        UPGRADE.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
    ],
)
def test_malformed_requests_pass_nothing(head: bytes) -> None:
    script = Script()
    with pytest.raises(HeadError):
        script.opener(head)
    assert script.to_api == b""
    assert script.conversation.is_quiet


def test_trailers_of_a_request_are_refused() -> None:
    script = Script()
    with pytest.raises(HeadError, match="trailers"):
        script.opener(chunked(b"ab", trailer=b"Impersonate-User: root\r\n"))
    assert b"Impersonate" not in script.to_api


def test_malformed_chunk_is_not_passed_on() -> None:
    script = Script().opener(chunked(b"ab")[:-5])
    before = script.to_api
    with pytest.raises(HeadError):
        script.opener(b"0;x=\n\r\n\r\n")
    assert script.to_api == before


def test_refused_request_is_answered_and_the_stream_goes_on() -> None:
    script = Script().opener(GET.replace(b"pods", b"denied"))
    assert (script.to_api, script.to_opener) == (b"", DENIED)
    assert script.opener(GET).api(OK).to_opener == DENIED + OK


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"body").replace(b"/pods", b"/denied"),
        post(b"body").replace(b"/pods", b"/denied").replace(b"Host", b"Expect: 100-continue\r\nHost"),
        chunked(b"body").replace(b"/pods", b"/denied"),
        UPGRADE.replace(b"/exec", b"/denied"),
        GET.replace(b"pods", b"denied").replace(b"Host", b"Connection: close\r\nHost"),
    ],
)
def test_refused_request_ends_the_stream_where_more_of_it_would_follow(request_bytes: bytes) -> None:
    script = Script().opener(request_bytes + GET)
    assert (script.to_api, script.to_opener, script.state) == (b"", DENIED + b"<end>", State.ENDING)


def test_early_answer_does_not_end_the_body() -> None:
    early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    script = Script().opener(post(b"0123456789")[:-5]).api(early)
    assert not script.conversation.is_quiet
    script.opener(b"56789")
    assert script.conversation.is_quiet
    assert script.to_api == b"<POST /pods>0123456789"


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 2), st.binary(max_size=60))
def test_cuts_anywhere_pass_the_same(sizes: list[int], kind: int, body: bytes) -> None:
    whole = (GET, post(body), chunked(*([body] if body else [])))[kind]
    straight, cut = Script().opener(whole), Script()
    rest = whole
    for size in sizes:
        cut.opener(rest[:size])
        rest = rest[size:]
    cut.opener(rest)
    assert cut.to_api == straight.to_api
    assert repr(cut.conversation) == repr(straight.conversation)


MOVED = b"HTTP/1.1 301 Moved\r\nA: b\r\nlocation:%s \r\nContent-Length: 2\r\n\r\nhi"
ORIGINS = (b"https://10.96.0.1:443", b"https://10.96.0.1")


@pytest.mark.parametrize(
    ("named", "passed"),
    [
        (b"https://10.96.0.1:443/api/v1/?x", b"/api/v1/?x"),
        (b"https://10.96.0.1", b"/"),
        (b"https://elsewhere.test/", b"https://elsewhere.test/"),
        (b"/api/", b"/api/"),
    ],
)
def test_location_on_the_api_server_passes_as_a_path(named: bytes, passed: bytes) -> None:
    answer = MOVED % named
    for size in (1, 7, len(answer)):
        script = Script(origins=ORIGINS)
        script.opener(GET)
        for start in range(0, len(answer), size):
            script.api(answer[start : start + size])
        assert script.to_opener.replace(b" \r\n", b"\r\n").replace(b"location: ", b"location:") == (
            MOVED % passed
        ).replace(b" \r\n", b"\r\n")
        assert script.conversation.is_quiet


REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwhat"


@pytest.mark.parametrize("asked", [GET, UPGRADE, post(b"hello"), post(b"hello")[:-3]])
@pytest.mark.parametrize("cut", [len(REFUSED), len(REFUSED) - 2, 20])
def test_refused_credentials_of_the_agent_are_no_answer_to_the_client(asked: bytes, cut: int) -> None:
    script = Script().opener(asked).api(REFUSED[:cut]).api(REFUSED[cut:])
    assert (script.to_opener, script.state) == (NOT_TAKEN, State.ENDING)


def test_workload_that_wants_a_password_says_so_itself() -> None:
    script = Script(lambda head: Passed(b"<x>", is_proxied=True)).opener(GET).api(REFUSED).opener(GET)
    assert (script.to_opener, script.state) == (REFUSED, State.OPEN)

"""Field lines that a client repeats are not judged twice: the result is the same as if they were."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.wire.http1 import HeadError, RequestHead, parse_request_head

TARGET_BYTES = [byte for byte in range(0x21, 0x7F) if byte != ord("#")]
LINES = [
    b"Host: a.test\r\n",
    b"Host: a.test:8080\r\nAccept: */*\r\nCookie: a=b\r\n",
    b"Host: a.test\r\nConnection: keep-alive\r\n",
    b"Host: a.test\r\nConnection: close\r\n",
    b"Host: a.test\r\nUpgrade: websocket\r\n",
    b"Host: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    b"Host: a.test\r\nContent-Length: 0\r\n",
    b"Host: a.test\r\nContent-Length: 5\r\n",
    b"Host: a.test\r\nTransfer-Encoding: chunked\r\n",
    b"Host: a.test\r\nExpect: 100-continue\r\n",
    b"Host: a.test\r\nImpersonate-User: admin\r\nx_forwarded_for: 192.0.2.1\r\n",
    b"Host: b.test\r\n",
]
targets = st.lists(st.sampled_from(TARGET_BYTES), max_size=20).map(lambda found: b"/" + bytes(found))
METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS"]
heads = st.tuples(st.sampled_from(METHODS), targets, st.sampled_from([b"0", b"1"]), st.sampled_from(LINES)).map(
    lambda parts: b"%s %s HTTP/1.%s\r\n%s\r\n" % parts
)


def seen(head: RequestHead) -> tuple[object, ...]:
    """Everything that the edge asks a head for."""
    values = tuple(getattr(head, name) for name in RequestHead.__slots__ if name != "lines")
    return (*values, head.fields, head.lines.marked, head.lines.plain_block(head.connection))


def understood(data: bytes, before: RequestHead | None) -> tuple[object, ...]:
    """What the edge makes of a head, or why it refuses it."""
    try:
        return seen(parse_request_head(data, before=before))
    except HeadError as error:
        return (error.status, error.code, str(error))


@given(heads, heads)
def test_a_head_is_understood_the_same_whatever_came_before_it(first: bytes, second: bytes) -> None:
    try:
        before = parse_request_head(first)
    except HeadError:
        before = None
    assert understood(second, before) == understood(second, None)


def test_repeated_lines_are_taken_from_the_head_before() -> None:
    first = parse_request_head(b"GET /one HTTP/1.1\r\nHost: a.test\r\nCookie: a=b\r\n\r\n")
    second = parse_request_head(b"GET /two HTTP/1.1\r\nHost: a.test\r\nCookie: a=b\r\n\r\n", before=first)
    assert second.lines is first.lines
    assert second.target == b"/two"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a.test\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ],
)
def test_a_bad_request_line_is_refused_before_good_lines_too(data: bytes) -> None:
    before = parse_request_head(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    with pytest.raises(HeadError):
        parse_request_head(data, before=before)


@pytest.mark.parametrize("place", [b"/%s", b"/a%sb", b"/?%s"])
@pytest.mark.parametrize("byte", TARGET_BYTES)
def test_llhttp_takes_every_target_that_the_request_line_lets_through(place: bytes, byte: int) -> None:
    target = place % bytes([byte])
    httptools.HttpRequestParser(None).feed_data(b"GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n" % target)

"""Marked fields are found in any spelling, and what is passed on is byte for byte what was sent."""

import pytest

from towline.wire.http1 import parse_request_head
from towline.wire.http1_lines import Lines


def lines_of(*lines: bytes) -> Lines:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_request_head(data).lines


@pytest.mark.parametrize(
    "name",
    [b"X-Forwarded-For", b"x-FORWARDED-anything", b"X_Forwarded_For", b"Impersonate-User", b"X-Remote-User", b"TE",
     b"Proxy-Connection", b"X-Towline-Peer", b"Forwarded", b"a_b", b"Keep-Alive", b"X-Request-ID"],
)  # fmt: skip
def test_field_that_concerns_a_proxy_is_marked_in_any_spelling(name: bytes) -> None:
    assert [lower for lower, _, _ in lines_of(name + b": 1").marked] == [b"host", name.lower()]


def test_plain_lines_keep_their_bytes_order_and_blanks() -> None:
    lines = lines_of(b"Accept:  */*  ", b"X-Forwarded-For: 1", b"aCCept:x", b"Cookie: a=b; c", b"X-Empty:")
    assert lines.plain_block(frozenset()) == b"Accept:  */*  \r\naCCept:x\r\nCookie: a=b; c\r\nX-Empty:\r\n"


def test_marked_line_that_begins_like_another_one_takes_nothing_else_with_it() -> None:
    lines = lines_of(b"X-Forwarded-For: 12", b"X-Forwarded-For: 1", b"A: X-Forwarded-For: 1", b"X-Forwarded-For: 1")
    assert lines.plain_block(frozenset()) == b"A: X-Forwarded-For: 1\r\n"


def test_field_that_connection_names_does_not_travel() -> None:
    lines = lines_of(b"Connection: x-hop, close", b"X-Hop: 1", b"X-End: 2", b"TE: trailers")
    assert lines.plain_block(frozenset({b"x-hop", b"close"})) == b"X-End: 2\r\n"


def test_fields_are_split_with_their_spelling() -> None:
    assert lines_of(b"X-A:  b ").fields == [(b"host", b"Host", b"a"), (b"x-a", b"X-A", b"b")]


@pytest.mark.parametrize(
    "name", [b"Accept", b"Authorization", b"Cookie", b"Sec-WebSocket-Key", b"TE-X", b"Hosts", b"X-Hop", b"Xonnection"]
)
def test_ordinary_field_is_not_marked(name: bytes) -> None:
    lines = lines_of(name + b": Host: x_y")
    assert [lower for lower, _, _ in lines.marked] == [b"host"]
    assert lines.plain_block(frozenset()) == name + b": Host: x_y\r\n"


def test_field_that_is_marked_twice_over_is_found_once() -> None:
    assert [lower for lower, _, _ in lines_of(b"X-Forwarded-For_X: 1").marked] == [b"host", b"x-forwarded-for_x"]


def test_head_without_fields_has_no_lines() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\n"
    lines = Lines(data, 17)
    assert (lines.fields, lines.marked, lines.plain_block(frozenset())) == ([], [], b"")
    assert lines.plain_block(frozenset({b"x"})) == b""


@pytest.mark.parametrize(("count", "more"), [(9, False), (10, False), (11, True)])
def test_lines_are_counted(count: int, more: bool) -> None:
    assert lines_of(*[b"a:"] * (count - 1)).exceed(10) is more

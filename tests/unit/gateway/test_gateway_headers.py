"""What upstreams are told: the client's own words as sent, ours added, and nothing that a client could forge."""

import pytest

from towline.gateway.headers import answer_lines, claims_identity, upstream_head
from towline.gateway.interfaces import Peer
from towline.wire.http1 import RequestHead, parse_request_head, parse_response_head

PEER = Peer("203.0.113.9", 1234, "https", "203.0.113.9")


def head_of(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1") -> RequestHead:
    return parse_request_head(b"\r\n".join([first, b"Host: App.Test:8443", *lines, b"", b""]))


def sent(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1", host: bytes | None = None, is_api: bool = False) -> bytes:
    return upstream_head(head_of(*lines, first=first), PEER, "id-1", host=host, is_api=is_api)


def test_upstream_head_is_exactly_this() -> None:
    assert sent(b"Accept:  x", b"Connection: keep-alive", b"X-Request-Id: 6") == (
        b"GET /a?b HTTP/1.1\r\nHost: App.Test:8443\r\nAccept:  x\r\n"
        b"X-Request-Id: id-1\r\nX-Forwarded-Host: App.Test:8443\r\n"
        b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 203.0.113.9\r\n"
        b'Forwarded: for=203.0.113.9;proto=https;host="App.Test:8443"\r\nX-Forwarded-Port: 8443\r\n\r\n'
    )


def test_only_the_api_learns_the_peer_by_our_own_field() -> None:
    assert b"X-Towline-Peer: 203.0.113.9\r\n" in sent(is_api=True)
    assert b"X-Towline" not in sent(b"X-Towline-Peer: 6.6.6.6")


def test_route_may_replace_the_host_and_the_public_one_is_still_told() -> None:
    head = sent(host=b"inner")
    assert b"\r\nHost: inner\r\n" in head
    assert b"X-Forwarded-Host: App.Test:8443\r\n" in head


@pytest.mark.parametrize(
    ("line", "framing"),
    [
        (b"Content-Length: 5", b"Content-Length: 5\r\n"),
        (b"Content-Length: 00", b"Content-Length: 0\r\n"),
        (b"Transfer-Encoding: Chunked", b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_body_is_framed_once_and_by_us(line: bytes, framing: bytes) -> None:
    head = sent(line, first=b"POST / HTTP/1.1")
    assert framing in head
    assert head.lower().count(b"content-length") + head.lower().count(b"transfer-encoding") == 1


def test_named_fields_do_not_travel_and_ours_cannot_be_removed() -> None:
    head = sent(b"Connection: X-Mine, X-Request-Id, X-Forwarded-For, Host, close", b"X-Mine: 1", b"X-Other: 1")
    assert b"X-Mine" not in head
    assert b"Connection" not in head
    for name in (b"X-Other", b"X-Request-Id", b"X-Forwarded-For", b"Host"):
        assert b"\r\n" + name + b": " in head


def test_upgrade_is_asked_for_by_us() -> None:
    head = sent(b"Connection: Upgrade, X-Mine", b"Upgrade: websocket", b"X-Mine: 1")
    assert head.endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b"X-Mine" not in head


@pytest.mark.parametrize("name", [b"Impersonate-User", b"impersonate_extra", b"X-Remote-Group", b"x_remote_user"])
def test_claimed_identity_is_noticed_and_dropped(name: bytes) -> None:
    assert claims_identity(head_of(name + b": admin"))
    assert b"admin" not in sent(name + b": admin")


def test_ordinary_fields_claim_nothing() -> None:
    assert not claims_identity(head_of(b"X-Forwarded-For: 1", b"Authorization: x"))


def test_answer_keeps_its_fields_but_those_of_its_hop() -> None:
    answer = parse_response_head(
        b"HTTP/1.1 200 OK\r\nServer:x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX_Odd: 1\r\n"
        b"Content-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    assert answer_lines(answer) == b"Server:x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX_Odd: 1\r\n"


def test_cookies_of_our_own_reach_no_target_and_all_others_do() -> None:
    mine = b"Cookie: a=1; __Host-towline=s; __Host-towline-visit=v; b=2; __Host-towline-state=t"
    assert b"\r\nCookie: a=1; b=2\r\n" in sent(mine)
    assert b"towline" not in sent(mine)
    assert b"Cookie" not in sent(b"Cookie: __Host-towline-state=t")
    assert mine in sent(mine, is_api=True)

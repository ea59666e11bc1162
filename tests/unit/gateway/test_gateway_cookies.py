"""Cookies of targets stay below the gateway's own domain with the host that set them, and are else left alone."""

import pytest

from towline.gateway.cookies import host_only
from towline.gateway.headers import answer_lines
from towline.wire.http1 import parse_response_head

ZONE = b"apps.example.org"


def kept(cookie: bytes) -> bytes:
    """Return a cookie as it travels, with the blank before it."""
    lines = host_only(b"Server: x\r\nSet-Cookie: %s\r\nX-Last: 1\r\n" % cookie, ZONE).split(b"\r\n")
    assert lines[0] == b"Server: x" and lines[2:] == [b"X-Last: 1", b""]
    return lines[1].removeprefix(b"Set-Cookie:")


@pytest.mark.parametrize(
    "domain",
    [
        b"Domain=apps.example.org", b"domain=.Apps.Example.org", b"DOMAIN = example.org ", b"Domain=org",
        b"Domain=..apps.example.org.", b"Domain=%61pps.example.org", b"\tDomain\t=\tapps.example.org", b'Domain="org"',
    ],
)  # fmt: skip
def test_cookie_for_the_gateways_domain_or_above_stays_with_its_host(domain: bytes) -> None:
    assert kept(b"id=1; Path=/; %s; Secure" % domain) == b" id=1; Path=/; Secure"
    assert kept(b"id=1; Domain=web.apps.example.org; %s" % domain) == b" id=1; Domain=web.apps.example.org"


@pytest.mark.parametrize(
    "cookie",
    [
        b"id=1", b"id=Domain=apps.example.org; Path=/", b"id=1; Domain=web.apps.example.org", b"id=1; Domain=",
        b"id=1; Domain=example.com", b"id=1; Domain=ps.example.org", b"id=1; Path=/Domain=org; Domain", b"",
    ],
)  # fmt: skip
def test_other_cookies_travel_as_they_are(cookie: bytes) -> None:
    assert kept(cookie) == b" " + cookie


def test_answer_without_cookies_is_the_same_object() -> None:
    block = b"Server: x\r\nX-Domain: Domain=org\r\n"
    assert host_only(block, ZONE) is block


def test_every_cookie_of_an_answer_is_looked_at_and_only_with_a_zone() -> None:
    raw = b"HTTP/1.1 200 OK\r\nsEt-cooKie: a=1;domain=org\r\nServer: x\r\nSet-Cookie: b=2; domain=org;Secure\r\n\r\n"
    assert answer_lines(parse_response_head(raw), ZONE) == b"sEt-cooKie: a=1\r\nServer: x\r\nSet-Cookie: b=2;Secure\r\n"
    assert b"domain=org" in answer_lines(parse_response_head(raw))

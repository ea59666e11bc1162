"""Addresses are told apart and counted in one form, and a proxy's word is taken up to the first stranger."""

import ipaddress

import pytest

from towline.gateway.forwarded import MAX_HOPS, believe_proxy, plain_address, source_key
from towline.gateway.interfaces import Peer
from towline.gateway.options import EdgeOptions
from towline.wire.http1 import parse_request_head

OPTIONS = EdgeOptions(trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")))
PROXY = Peer("10.0.0.1", 80, "http", "10.0.0.1", trusted_proxy=True)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("127.0.0.1", "127.0.0.1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("::0001", "::1")],
)
def test_address_has_one_form(text: str, plain: str) -> None:
    assert plain_address(text) == plain


def test_ipv6_customers_are_counted_by_their_network() -> None:
    assert source_key("2001:db8:1:2::1") == source_key("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert source_key("203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(("address", "trusted"), [("10.1.2.3", True), ("11.0.0.1", False), ("fd12::1", True)])
def test_trust_is_by_network(address: str, trusted: bool) -> None:
    assert OPTIONS.is_trusted(address) is trusted
    assert not EdgeOptions().is_trusted(address)


def believed(field: bytes) -> Peer:
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
    return believe_proxy(head, PROXY, OPTIONS.is_trusted)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (b"garbage, 203.0.113.9", "203.0.113.9"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b" , 203.0.113.9 ,", "203.0.113.9"),
    ],
)
def test_client_is_the_right_most_stranger(value: bytes, address: str) -> None:
    assert believed(b"X-Forwarded-For: " + value).address == address


def test_endless_chain_is_not_walked() -> None:
    chain = b", ".join([b"203.0.113.9", *[b"10.0.0.2"] * (MAX_HOPS + 5)])
    assert believed(b"X-Forwarded-For: " + chain).address == "10.0.0.2"


def test_what_upstreams_hear_follows_the_believed_client() -> None:
    peer = believed(b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https")
    assert peer.lines == b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
    assert (peer.via, peer.is_secure) == ("10.0.0.1", True)

"""Who the client is, when a trusted proxy stands in front. Everybody else's X-Forwarded-* are ignored."""

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from towline.gateway.interfaces import Peer
from towline.wire.http1 import HeadError, RequestHead
from towline.wire.http1_fields import FieldError, parse_host

MAX_HOPS = 32  # more hops than any real chain; a longer list is an attack on whoever walks it

IsTrusted = Callable[[str], bool]


def plain_address(text: str) -> str:
    """Return an address in its shortest form; IPv4 inside IPv6 becomes IPv4, zones are removed.

    Raises: ValueError: no address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def source_key(address: str) -> str:
    """Return what connections are counted by: an IPv4 address, or the /64 that one IPv6 customer owns."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def believe_proxy(head: RequestHead, peer: Peer, is_trusted: IsTrusted) -> Peer:
    """Return the client as a trusted proxy describes it, and put the public host into the head.

    The client is the right-most address of X-Forwarded-For that is not a trusted proxy itself: everything to the left
    of it was sent by that client. Raises: HeadError: the proxy's own fields make no sense.
    """
    host = head.get(b"x-forwarded-host")
    if host is not None:
        try:
            head.host, head.port = parse_host(host)
        except FieldError as error:
            raise HeadError(400, error.code, "malformed X-Forwarded-Host") from None
    address = _client_address(head, is_trusted) or peer.address
    scheme = (head.get(b"x-forwarded-proto") or peer.scheme.encode()).lower()
    if scheme not in (b"http", b"https"):
        raise HeadError(400, "bad_forwarded", "malformed X-Forwarded-Proto")
    return replace(peer, address=address, port=0, scheme=scheme.decode())


def _client_address(head: RequestHead, is_trusted: IsTrusted) -> str | None:
    values = [value for lower, _, value in head.fields if lower == b"x-forwarded-for"]
    hops = [hop for hop in b",".join(values).decode("latin-1").split(",") if hop.strip()]
    address = None
    for hop in reversed(hops[-MAX_HOPS:]):
        try:
            address = plain_address(hop.strip().strip("[]"))
        except ValueError:
            raise HeadError(400, "bad_forwarded", "malformed X-Forwarded-For") from None
        if not is_trusted(address):
            return address
    return address

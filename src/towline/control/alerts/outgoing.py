"""Where requests that an organisation configures may go: public addresses, and networks that the operator listed.

A name is resolved once and the address that was checked is the one that is dialled, so that a name which changes
between the two leads nowhere else. Source: OWASP, "Server Side Request Forgery Prevention Cheat Sheet".
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

RESOLVE_TIMEOUT = 5.0
"""Seconds that DNS gets: a worker of alerts waits meanwhile."""
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "64:ff9b::/96", "2002::/16")
)
"""Metadata services of clouds, and addresses that hide another one: refused whatever is listed."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


class OutgoingRefused(Exception):
    """The address may not be dialled, or is not known; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """An address that may be dialled."""

    address: str
    is_listed: bool
    """The operator listed its network: plain text is their choice."""


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name as this machine finds them. Raises: OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Outgoing:
    """Decides. Args: networks: listed ones, CIDR."""

    def __init__(self, networks: Sequence[str], ask: Resolve = resolve) -> None:
        self._listed = [ipaddress.ip_network(text, strict=False) for text in networks]
        self._ask = ask

    def __repr__(self) -> str:
        return f"<Outgoing public and {len(self._listed)} networks>"

    async def allowed(self, host: str, port: int) -> Allowed:
        """Return the address to dial for a host. Raises: OutgoingRefused."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                found = await self._ask(host, port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise OutgoingRefused(f"the name {host} cannot be resolved") from error
        for text in found:
            address = _plain(text)
            if address is not None and self._may(address):
                return Allowed(str(address), self._is_listed(address))
        raise OutgoingRefused(
            f"{host} is not a public address: the operator of this server lists networks in outgoing_networks"
        )

    def _may(self, address: Address) -> bool:
        if address.is_multicast or address.is_unspecified or any(address in network for network in NEVER):
            return False
        return address.is_global or self._is_listed(address)

    def _is_listed(self, address: Address) -> bool:
        return any(address in network for network in self._listed)


def _plain(text: str) -> Address | None:
    """Return an address without its zone; an IPv4 one that is written as IPv6 as what it is."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

"""Asking DNS: text records, addresses, and whether a name leads to this server. No rules about domains here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.inet
import dns.resolver

from towline.control.errors import StartupError

QUERY_TIMEOUT = 2.0
"""Seconds that one name server gets."""
ANSWER_TIMEOUT = 6.0
"""Seconds for an answer, all servers and repetitions included: somebody looks at a page meanwhile."""
DNS_PORT = 53
MOST_ANSWERS = 50
LOCALHOST = "localhost"
LOOPBACK = ("127.0.0.1", "::1")
"""What browsers and curl take every name below localhost for, without asking DNS. Source: RFC 6761, 6.3."""


class NameUnknown(Exception):
    """The name, or a record of this type under it, does not exist."""


class ResolverAway(Exception):
    """DNS did not answer, or not in a usable way."""


class Resolver:
    """Asks name servers. Args: servers: `ADDRESS` or `ADDRESS:PORT`; none: those of the system."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = [_server(one) for one in servers]

    def __repr__(self) -> str:
        return f"<Resolver {','.join(address for address, _ in self._servers) or 'system'}>"

    async def texts(self, name: str) -> list[str]:
        """Return the TXT records of a name. Raises: NameUnknown, ResolverAway."""
        records = await self._ask(name, "TXT")
        return [b"".join(record.strings).decode("utf-8", "replace") for record in records]

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name, of both families. Raises: NameUnknown, ResolverAway."""
        if name == LOCALHOST or name.endswith(f".{LOCALHOST}"):
            return list(LOOPBACK)
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in ("A", "AAAA")), return_exceptions=True)
        found = [record.address for answer in answers if not isinstance(answer, BaseException) for record in answer]
        if found:
            return found
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NameUnknown):
                raise answer
        raise NameUnknown(f"{name} has no address in DNS")

    async def records(self, name: str, kind: str) -> list[Any]:
        """Return the records of a type as dnspython has them. Raises: NameUnknown, ResolverAway."""
        return await self._ask(name, kind)

    async def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            answer = await self._resolver().resolve(f"{name}.", kind, lifetime=ANSWER_TIMEOUT)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
            raise NameUnknown(f"{name} has no {kind} record in DNS") from error
        except dns.exception.Timeout as error:
            raise ResolverAway(f"DNS did not answer about {name} in time") from error
        except (dns.exception.DNSException, OSError) as error:
            raise ResolverAway(f"DNS could not be asked about {name}: {_word(error)}") from error
        return list(answer)[:MOST_ANSWERS]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """Make one for each question: the system's servers may have changed, and nothing is remembered."""
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        resolver.timeout = QUERY_TIMEOUT
        if self._servers:
            resolver.nameservers = [address for address, _ in self._servers]
            resolver.nameserver_ports = dict(self._servers)
        return resolver


class Whereabouts:
    """Tells whether a name leads to this server, by comparing addresses.

    Args: public_name: the host name that people reach the server by; own_addresses: what this machine knows itself.
    """

    def __init__(
        self, resolver: Resolver, public_name: Callable[[], str], own_addresses: Callable[[], Iterable[str]]
    ) -> None:
        self._resolver = resolver
        self._public_name = public_name
        self._own_addresses = own_addresses

    async def leads_here(self, name: str) -> tuple[bool, str]:
        """Return whether a name resolves here, and what was found, in words with the record to set."""
        ours = await self._ours()
        try:
            found = await self._resolver.addresses(name)
        except NameUnknown as error:
            return False, f"{error}; {self._remedy(name, ours)}"
        except ResolverAway as error:
            return False, str(error)
        if set(found) & ours:
            return True, f"{name} resolves to {', '.join(sorted(found))}"
        return False, f"{name} resolves to {', '.join(sorted(found))}, which is not here; {self._remedy(name, ours)}"

    async def _ours(self) -> set[str]:
        ours, public = set(self._own_addresses()), self._public_name()
        if dns.inet.is_address(public):
            return ours | {public}
        try:
            return ours | set(await self._resolver.addresses(public))
        except (NameUnknown, ResolverAway):
            return ours | {public}

    def _remedy(self, name: str, ours: Iterable[str]) -> str:
        addresses = sorted(filter(dns.inet.is_address, ours))
        kind, value = record_to(self._public_name())
        instead = f" (or A/AAAA of {', '.join(addresses)})" if addresses and kind == "CNAME" else ""
        return f"set a record: {name} {kind} {value}{instead}"


def record_to(place: str) -> tuple[str, str]:
    """Return type and value of the record that leads to a place: a host name, or an address."""
    if not dns.inet.is_address(place):
        return "CNAME", place
    return "AAAA" if ":" in place else "A", place


def _server(text: str) -> tuple[str, int]:
    address, colon, port = text.strip().rpartition(":")
    if not colon or (":" in address and not address.startswith("[")):
        address, port = text.strip(), str(DNS_PORT)
    bare = address.strip("[]")
    if not port.isdigit() or not dns.inet.is_address(bare):
        raise StartupError(f"dns_resolvers: {text!r} is not ADDRESS or ADDRESS:PORT")
    return bare, int(port)


def _word(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]

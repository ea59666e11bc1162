"""Host names as routes and domains hold them, and which of them an organisation may publish. Pure rules.

Names are lower-case A-labels (RFC 5891) without a last dot; a wildcard stands for exactly one label, as in Ingress.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

WILDCARD = "*."
LONGEST_NAME = 253
"""Characters of a name in DNS (RFC 1035, 2.3.4), without its last dot."""
LONGEST_LABEL = 63
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NOT_IN_LABELS = re.compile(r"[^a-z0-9-]+")


class NameRefused(ValueError):
    """Not a host name, or none that can be published; the message says why and what would help."""


def host_name(text: str, *, wildcard: bool = False) -> str:
    """Return a name as we keep it. Raises: NameRefused."""
    name = text.strip().rstrip(".").lower()
    front = WILDCARD if name.startswith(WILDCARD) else ""
    if front and not wildcard:
        raise NameRefused(f"{name[:80]}: a wildcard is no name here; leave the `*.` out")
    bare = _ascii(name.removeprefix(front))
    if _is_address(bare):
        raise NameRefused(f"{bare} is an address; a certificate and a route need a host name")
    if "." not in bare:
        raise NameRefused(f"{bare[:80]!r} has no dot; write the whole name, e.g. shop.example.com")
    if len(front + bare) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise NameRefused(f"{text[:80]!r} is not a host name")
    return front + bare


def _ascii(name: str) -> str:
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise NameRefused(f"{name[:80]!r} is not a host name: {error}") from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def label(text: str) -> str:
    """Return text as one label of a name, e.g. for a name that is given automatically."""
    return _NOT_IN_LABELS.sub("-", text.lower()).strip("-")


def parents(name: str) -> Iterator[str]:
    """Yield a name and every name above it, the longest first."""
    while name:
        yield name
        name = name.partition(".")[2]


def is_under(name: str, above: str) -> bool:
    """Tell whether a name is another one, or below it."""
    return name == above or name.endswith(f".{above}")


@cache
def _suffixes() -> PublicSuffixList:
    """The list that came with the library: 80 ms to read, once, and nothing is fetched."""
    return PublicSuffixList()


def registrable(name: str) -> str:
    """Return the part of a name that somebody registers, as browsers see it; the name itself when there is none.

    Source: https://publicsuffix.org/list/, "privatesuffix": one label more than the public suffix.
    """
    return _suffixes().privatesuffix(name) or name


def is_public_suffix(name: str) -> bool:
    """Tell whether everybody registers names directly below this one, so that nobody can own it."""
    return _suffixes().privatesuffix(name) is None


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may publish which names, for one look.

    Args: own: host names of the server itself, and those below which it serves clusters. published: names that the
        settings publish.
    """

    gateway_domain: str
    own: frozenset[str]
    cluster_hosts: str = ""
    published: frozenset[str] = frozenset()

    def problem(self, host: str, verified: Collection[str], clusters: Iterable[str]) -> str:
        """Return why an organisation may not publish a host, with what would help; empty when it may.

        Args: verified: its domains. clusters: names of the clusters that the route leads to.
        """
        bare = host.removeprefix(WILDCARD)
        if host in self.own:
            return f"{host} is the server's own name"
        covered = [name for name in self.own if host != bare and name.partition(".")[2] == bare]
        if covered:
            return f"{host} covers the server's own name {covered[0]}; publish single names beside it"
        if self.cluster_hosts and is_under(bare, self.cluster_hosts):
            return f"{host} belongs to the access to clusters (`kubernetes_host`)"
        if host in self.published:
            return f"{host} is published by the server's settings (`published`)"
        if self.gateway_domain and is_under(bare, self.gateway_domain):
            return self._given(host, bare, clusters)
        if any(is_under(bare, name) for name in verified):
            return ""
        return f"{bare} is under no verified domain; an administrator proves it with: towline domains add {bare}"

    def _given(self, host: str, bare: str, clusters: Iterable[str]) -> str:
        first, _, rest = bare.partition(".")
        ends = [f"-{label(name)}" for name in clusters]
        if rest == self.gateway_domain and host == bare and any(first.endswith(end) and first != end for end in ends):
            return ""
        like = f"NAME{ends[0]}.{self.gateway_domain}" if ends else f"NAME-CLUSTER.{self.gateway_domain}"
        return f"below the gateway's domain a route is called {like}"

    def covers(self, host: str) -> bool:
        """Tell whether a name is below the gateway's domain, or is it."""
        return bool(self.gateway_domain) and is_under(host, self.gateway_domain)

    def given_name(self, name: str, cluster: str) -> str:
        """Return the name that a route gets by itself. Raises: NameRefused: there is no gateway domain."""
        if not self.gateway_domain:
            raise NameRefused("name a host: the server has no `gateway_domain` to give one out")
        end = f"-{label(cluster)}"
        first = label(name)[: LONGEST_LABEL - len(end)].strip("-") or "app"
        return f"{first}{end}.{self.gateway_domain}"


def shares_domain(gateway_domain: str, dashboard: str) -> str:
    """Return the registrable domain that both have, or nothing.

    Pages of a published service could set cookies for it, and the dashboard's browser would send them.
    """
    if not gateway_domain or not dashboard or "." not in dashboard or _is_address(dashboard):
        return ""
    ours, theirs = registrable(gateway_domain), registrable(dashboard)
    return ours if ours == theirs else ""

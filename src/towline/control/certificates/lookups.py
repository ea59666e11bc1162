"""Questions to DNS: where a name leads, and which authorities may certify it. Answers are never cached here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from towline.control.domains.resolver import NameUnknown, Resolver, ResolverAway


class LookupFailed(Exception):
    """DNS gave no answer; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class CaaRecord:
    """One record of RFC 8659 section 4.1."""

    is_critical: bool
    tag: str
    value: str


class Lookups(Protocol):
    """What is asked of DNS."""

    async def addresses(self, name: str) -> list[str]:
        """Return where a name leads; nothing when it has no address. Raises: LookupFailed."""

    async def caa(self, name: str) -> list[CaaRecord]:
        """Return the CAA records that hold for a name: its own, or those of the nearest name above it that has any.

        Raises: LookupFailed.
        """


class DnsLookups:
    """Implements `Lookups` by the resolver that domains are proved with."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def __repr__(self) -> str:
        return f"<DnsLookups {self._resolver!r}>"

    async def addresses(self, name: str) -> list[str]:
        try:
            return list(dict.fromkeys(await self._resolver.addresses(name)))
        except NameUnknown:
            return []
        except ResolverAway as error:
            raise LookupFailed(f"DNS does not answer for {name}: {error}") from error

    async def caa(self, name: str) -> list[CaaRecord]:
        bare = name.removeprefix("*.")
        while bare:
            try:
                return [_caa(record) for record in await self._resolver.records(bare, "CAA")]
            except NameUnknown:
                bare = bare.partition(".")[2]
            except ResolverAway as error:
                raise LookupFailed(f"DNS does not answer for {bare}: {error}") from error
        return []


def _caa(record: Any) -> CaaRecord:
    return CaaRecord(
        bool(record.flags & 128), record.tag.decode("ascii", "replace").lower(), record.value.decode("ascii", "replace")
    )


def caa_problem(records: Sequence[CaaRecord], identities: Sequence[str], *, wildcard: bool) -> str:
    """Return why an authority with these names may not certify; empty when it may. Source: RFC 8659 section 4."""
    if not records or not identities:
        return ""
    unknown = [each.tag for each in records if each.is_critical and each.tag not in ("issue", "issuewild", "iodef")]
    if unknown:
        return f"a CAA record asks for something unknown ({', '.join(unknown)}), which forbids every authority"
    wild = [each for each in records if each.tag == "issuewild"]
    asked = wild if wildcard and wild else [each for each in records if each.tag == "issue"]
    if not asked:
        return ""
    allowed = [each.value.partition(";")[0].strip().lower() for each in asked]
    if any(name in allowed for name in identities):
        return ""
    named = ", ".join(filter(None, allowed)) or "no authority at all"
    return f"CAA records allow {named} to certify it; set one for {identities[0]}, or ask that authority"

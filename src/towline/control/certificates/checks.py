"""The look before asking: can it work, and if not, why, in words. Nothing here asks the authority for anything.

What is certain to fail blocks: a name that leads nowhere or elsewhere, CAA records that forbid. What cannot be known
from here, as when a network lets nobody reach its own public address from inside, does not.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import httpx
from cryptography import x509

from towline.control.certificates.errors import Blocked
from towline.control.certificates.keys import ACME_IDENTIFIER
from towline.control.certificates.lookups import LookupFailed, Lookups, caa_problem
from towline.control.certificates.states import ChallengeKind
from towline.gateway.certificates import ALPN_CHALLENGE

PROBE_TIMEOUT = 3.0
"""Seconds until a connection to ourselves counts as impossible; the internet and back takes a tenth of that."""
MOST_ADDRESSES = 4
"""Addresses of one name that are tried: an authority takes one or two of them."""
PROBE_BYTES = 4096
_DIGEST_BYTES = 32

OpenProbe = Callable[[ChallengeKind, str, str], Awaitable[Callable[[], Awaitable[None]]]]
"""Makes this installation answer a probe: kind, host, token; returns what ends it. The answer is the token."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What to look at. Ports other than 80 and 443 are for authorities of tests and of one's own."""

    kinds: tuple[ChallengeKind, ...]
    http_port: int = 80
    tls_port: int = 443
    own_hosts: tuple[str, ...] = ()
    """Names of this server, whose addresses say where published names should lead."""
    cannot: tuple[tuple[ChallengeKind, str], ...] = ()
    """Challenges that the settings rule out, each with the reason."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the look found: kinds that may work, the best first, and what could not be made sure of."""

    kinds: tuple[ChallengeKind, ...]
    doubts: tuple[str, ...] = ()


class Checks:
    """Looks at one name. Args: open_probe: see there."""

    def __init__(self, lookups: Lookups, looks: Looks, open_probe: OpenProbe) -> None:
        self._lookups = lookups
        self._looks = looks
        self._open_probe = open_probe

    async def look(self, name: str, identities: Sequence[str], *, force: bool = False) -> Seen:
        """Return the challenges that may work.

        Args: identities: what CAA records call the authority. force: somebody knows better; only rules count.
        Raises: Blocked: none may, with the reasons.
        """
        await self._check_caa(name, identities)
        if name.startswith("*."):
            return Seen((self._only_dns(name),))
        reasons = [f"{kind.value}: {why}" for kind, why in self._looks.cannot]
        direct = [kind for kind in self._looks.kinds if kind is not ChallengeKind.DNS]
        doubts: list[str] = []
        usable: list[ChallengeKind] = []
        if direct:
            usable, doubts, wrong = await self._direct(name, direct, force=force)
            reasons += wrong
        if ChallengeKind.DNS in self._looks.kinds:
            usable.append(ChallengeKind.DNS)
        if not usable:
            raise Blocked("; ".join(reasons) or "no challenge is allowed: see acme_challenges")
        return Seen(tuple(usable), tuple(doubts))

    def _only_dns(self, name: str) -> ChallengeKind:
        if ChallengeKind.DNS not in self._looks.kinds:
            raise Blocked(
                f"{name} needs the dns-01 challenge, as every wildcard: set acme_dns, or upload a certificate"
            )
        return ChallengeKind.DNS

    async def _check_caa(self, name: str, identities: Sequence[str]) -> None:
        try:
            records = await self._lookups.caa(name)
        except LookupFailed as error:
            raise Blocked(f"CAA: {error}; an authority does not certify before it knows") from error
        problem = caa_problem(records, identities, wildcard=name.startswith("*."))
        if problem:
            raise Blocked(problem)

    async def _direct(
        self, name: str, kinds: Sequence[ChallengeKind], *, force: bool
    ) -> tuple[list[ChallengeKind], list[str], list[str]]:
        """Return the usable kinds, doubts about them, and why others are not."""
        try:
            addresses = await self._lookups.addresses(name)
        except LookupFailed as error:
            return [], [], [str(error)]
        if not addresses:
            return [], [], [f"{name} has no address in DNS: set {self._record(name)}"]
        found = [(kind, await self._probe(kind, name, addresses)) for kind in kinds]
        good = [kind for kind, problem in found if not problem]
        if good:
            return good, [], []
        wrong = [f"{kind.value}: {problem}" for kind, problem in found]
        if force or await self._lead_here(addresses):
            return list(kinds), wrong, []
        return [], [], [*wrong, f"{name} should lead to this server: set {self._record(name)}"]

    def _record(self, name: str) -> str:
        where = self._looks.own_hosts[0] if self._looks.own_hosts else "this server"
        return f"a record for {name} that leads to {where}"

    async def _lead_here(self, addresses: Sequence[str]) -> bool:
        """Tell whether a name leads where our own does: then a failed connection may be our network's rule."""
        for host in self._looks.own_hosts:
            try:
                ours = await self._lookups.addresses(host)
            except LookupFailed:
                continue
            if set(ours) & set(addresses):
                return True
        return False

    async def _probe(self, kind: ChallengeKind, name: str, addresses: Sequence[str]) -> str:
        """Return why a challenge would not come back to us; empty when it would."""
        token = secrets.token_urlsafe(24)
        ask = self._ask_http if kind is ChallengeKind.HTTP else self._ask_tls
        async with _opened(self._open_probe, kind, name, token):
            problems = [await ask(name, address, token) for address in addresses[:MOST_ADDRESSES]]
        return "" if "" in problems else "; ".join(problems)

    async def _ask_http(self, name: str, address: str, token: str) -> str:
        port = self._looks.http_port
        url = f"http://{_bracketed(address)}:{port}/.well-known/acme-challenge/{token}"
        where = f"{name} leads to {address}, and port {port} there"
        try:
            async with (
                httpx.AsyncClient(trust_env=False, timeout=PROBE_TIMEOUT) as client,
                client.stream("GET", url, headers={"host": name}) as answer,
            ):
                text = b""
                async for piece in answer.aiter_bytes():
                    text += piece
                    if len(text) > PROBE_BYTES:
                        break
        except (httpx.TransportError, httpx.InvalidURL):
            return f"{where} does not answer"
        if answer.status_code == 200 and text.strip() == token.encode():
            return ""
        return f"{where} is somebody else's: it answered {answer.status_code}, not with what this server gives"

    async def _ask_tls(self, name: str, address: str, token: str) -> str:
        port = self._looks.tls_port
        where = f"{name} leads to {address}, and port {port} there"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([ALPN_CHALLENGE])
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        except (OSError, TimeoutError):
            return f"{where} does not answer a TLS-ALPN challenge"
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        if shown and _digest(shown) == sha256(token.encode()).digest():
            return ""
        return f"{where} is somebody else's: it shows another certificate to a TLS-ALPN challenge"


def _digest(certificate: bytes) -> bytes:
    """Return what a challenge certificate proves; nothing for any other."""
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(ACME_IDENTIFIER).value
    except (ValueError, x509.ExtensionNotFound):
        return b""
    return found.value[-_DIGEST_BYTES:] if isinstance(found, x509.UnrecognizedExtension) else b""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@asynccontextmanager
async def _opened(open_probe: OpenProbe, kind: ChallengeKind, name: str, token: str) -> AsyncIterator[None]:
    end = await open_probe(kind, name, token)
    try:
        yield
    finally:
        await end()

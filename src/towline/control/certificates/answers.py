"""What authorities are answered when they look, and what our own look before that is answered.

Rows are truth: a token that another replica made is looked up once. `route` is asked for each request to the
challenges' path, before any routing and on both ports.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from towline.aio.clock import Clock
from towline.control.certificates import keys
from towline.control.certificates.models import AcmeChallenge
from towline.control.certificates.states import ChallengeKind
from towline.gateway.certificates import Certificates, Material
from towline.gateway.interfaces import Answer, Decided, Later, Peer
from towline.gateway.rate_limit import RateLimiter
from towline.wire.http1 import RequestHead

PATH = b"/.well-known/acme-challenge/"
TOKEN = re.compile(rb"[A-Za-z0-9_-]{16,128}")
"""Base64url, at least 128 bits (RFC 8555 section 8.3); anything else is not looked up."""
LOOKUPS_PER_SECOND = 20
"""Unknown tokens of one client address that are looked up: authorities look a few times at each, everything more is
noise. For each address by itself, or whoever makes that noise would keep an authority from being answered."""
_TEXT = b"text/plain; charset=utf-8"
_UNKNOWN = Answer(404, "challenge_unknown", "no such challenge", b"no such challenge\n", _TEXT)

LookUp = Callable[[str], Awaitable[AcmeChallenge | None]]


class ChallengeAnswers:
    """Answers HTTP-01 and TLS-ALPN-01. Args: look_up: finds the row of a token that is not known here."""

    def __init__(self, certificates: Certificates, look_up: LookUp, clock: Clock) -> None:
        self.is_on = False
        """Without an authority of ours the path belongs to published services, which may have one of their own."""
        self._certificates = certificates
        self._look_up = look_up
        self._clock = clock
        self._own: dict[str, AcmeChallenge] = {}
        """By token: what this process asked for. Stays whatever a row that was read a moment ago says."""
        self._others: dict[str, AcmeChallenge] = {}
        self._alpn: dict[str, str] = {}
        self._later = Later(self._decide, _refusal)
        self._limiter = RateLimiter(LOOKUPS_PER_SECOND)

    def __repr__(self) -> str:
        return f"<ChallengeAnswers {len(self._own)} own, {len(self._others)} in all>"

    def route(self, head: RequestHead, peer: Peer) -> Answer | Later | None:
        """Return the answer when a request is for a challenge; None when it is none, or not for us.

        What is known here is answered however often it is asked for.
        """
        if not self.is_on or not head.path.startswith(PATH):
            return None
        token = head.path[len(PATH) :]
        if head.method not in (b"GET", b"HEAD") or TOKEN.fullmatch(token) is None:
            return _UNKNOWN
        text = token.decode("ascii")
        found = self._own.get(text) or self._others.get(text)
        if found is not None and found.kind == ChallengeKind.HTTP:
            return _shown(found)
        return _UNKNOWN if self._limiter.wait(peer.address, self._clock.monotonic()) else self._later

    def add(self, row: AcmeChallenge) -> None:
        """Answer a challenge of this process until `drop`."""
        self._own[row.token] = row
        self._show_alpn()

    def drop(self, row: AcmeChallenge) -> None:
        """Answer one challenge of this process no more."""
        self._own.pop(row.token, None)
        self._others.pop(row.token, None)
        self._show_alpn()

    def own_of(self, certificate_id: str) -> list[AcmeChallenge]:
        """Return the challenges that this process made for a certificate."""
        return [row for row in self._own.values() if row.certificate_id == certificate_id]

    def replace(self, rows: Sequence[AcmeChallenge]) -> None:
        """Answer these challenges too, which other replicas may have made."""
        self._others = {row.token: row for row in rows}
        self._show_alpn()

    def _show_alpn(self) -> None:
        """Have handshakes show exactly the certificates of the TLS-ALPN challenges that are open."""
        rows = (*self._others.values(), *self._own.values())
        wanted = {row.name: row.answer for row in rows if row.kind == ChallengeKind.TLS_ALPN}
        for name in self._alpn.keys() - wanted.keys():
            self._certificates.end_challenge(name)
        for name, answer in wanted.items():
            if self._alpn.get(name) != answer:
                chain, key = keys.challenge_certificate(name, answer, self._clock.now())
                self._certificates.challenge(name, Material(f"challenge/{name}", (name,), chain, key))
        self._alpn = wanted

    def _decide(self, head: RequestHead, peer: Peer, request_id: str) -> Coroutine[Any, Any, Decided]:
        return self._find(head.path[len(PATH) :].decode("ascii"))

    async def _find(self, token: str) -> Decided:
        row = await self._look_up(token)
        if row is None or row.kind != ChallengeKind.HTTP:
            return _UNKNOWN
        return _shown(row)


def _shown(row: AcmeChallenge) -> Answer:
    return Answer(200, "challenge", "", row.answer.encode(), _TEXT)


def _refusal(head: RequestHead, status: int, code: str, message: str, error: object) -> Answer:
    return Answer(status, code, message)

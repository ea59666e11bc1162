"""Tickets: what a browser puts into the address of a WebSocket or event stream, where it cannot send a header.

A ticket is good once, for seconds, with the right of the token that asked for it, and not behind that token's end. So
it does not matter that addresses end up in histories and logs. They are kept as digests, in memory alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.aio.clock import REAL_CLOCK, Clock

TICKET_SECONDS = 30.0
"""From asking to connecting, over a slow port-forward."""
MOST_TICKETS = 1000
"""Given out and not used: a page that reconnects wildly is told to wait before it costs memory."""
TICKET_BYTES = 24
"""Of randomness."""
LONGEST = 64
"""Characters that are looked at."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    right: Right
    edition: bytes
    deadline: float


class Tickets:
    """Those that were given out and not used yet, oldest first."""

    def __init__(self, clock: Clock = REAL_CLOCK, edition: Callable[[Right], bytes] = lambda _: b"") -> None:
        """`edition` tells one token of a right from the next."""
        self._clock = clock
        self._edition = edition
        self._given: dict[bytes, _Ticket] = {}

    def __repr__(self) -> str:
        return f"<Tickets {len(self._given)}>"

    def give(self, right: Right) -> str:
        """Make a ticket. Raises: SurfaceError: too many are out."""
        now = self._clock.monotonic()
        self._forget_old(now)
        if len(self._given) >= MOST_TICKETS:
            raise SurfaceError(
                "throttled", f"{MOST_TICKETS} tickets are waiting to be used", headers={"Retry-After": "5"}
            )
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        self._given[_digest(ticket)] = _Ticket(right, self._edition(right), now + TICKET_SECONDS)
        return ticket

    def take(self, ticket: str) -> Right:
        """Use a ticket up. Returns: its right; OPEN for one that is unknown, old, used, or of a renewed token."""
        found = self._given.pop(_digest(ticket), None) if len(ticket) <= LONGEST else None
        if found is None or found.deadline <= self._clock.monotonic():
            return Right.OPEN
        return found.right if found.edition == self._edition(found.right) else Right.OPEN

    def _forget_old(self, now: float) -> None:
        """All live equally long, so that the first ones are the oldest."""
        for key in [key for key, ticket in self._given.items() if ticket.deadline <= now]:
            del self._given[key]


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).digest()

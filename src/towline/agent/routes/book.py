"""Claims as they are told: by who makes them, what changed since the last message, and messages small enough. Pure.

Nothing here knows where claims come from, or whether a link is up.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Literal

import msgspec

from towline.wire.link import MOST_CLAIMS, RouteClaim, Routes

MOST_KEPT = 5000
"""Claims of one agent; a control plane keeps no more of one cluster."""
PART_BYTES = 256 * 1024
"""Of one message, a quarter of what the link takes: job messages wait behind it."""

Source = Literal["ingress", "httproute", "compose"]
_encoder = msgspec.json.Encoder()


class ClaimBook:
    """Claims, and which of them changed. A maker is whatever claims something, e.g. `ingress/NAMESPACE/NAME`.

    What a maker takes back is told as removed. What is only out of sight, softly, is missing from a whole list
    instead: its route stays for a grace time, with what people decided about it.

    Args: on_change: called whenever something is to be told.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._by_maker: dict[str, tuple[str, ...]] = {}
        self._claims: dict[str, RouteClaim] = {}
        self._changed: set[str] = set()
        self._whole_due = True
        self.left_out = 0
        """Claims that found no room."""

    def __repr__(self) -> str:
        return f"<ClaimBook {len(self._claims)} claims, {len(self._changed)} changed>"

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def claims(self) -> tuple[RouteClaim, ...]:
        """What is claimed now."""
        return tuple(self._claims.values())

    def put(self, maker: str, claims: Iterable[RouteClaim], *, softly: bool = False) -> None:
        """Replace what a maker claims; nothing: it is gone."""
        wanted = {claim.ref: claim for claim in claims}
        for ref in self._by_maker.pop(maker, ()):
            if ref not in wanted:
                self._remove(ref, softly)
        kept = tuple(ref for ref, claim in wanted.items() if self._put(claim))
        if kept:
            self._by_maker[maker] = kept

    def let_go(self, prefix: str, but: Container[str] = ()) -> None:
        """Remove, softly, what every maker claims whose name begins so, but for some."""
        for maker in [maker for maker in self._by_maker if maker.startswith(prefix) and maker not in but]:
            self.put(maker, (), softly=True)

    def tell_whole(self) -> None:
        """Tell everything instead of what changed."""
        self._whole_due = True
        self._on_change()

    def wait_for_link(self) -> None:
        """There is nobody to tell anything: whoever comes next hears everything."""
        self._whole_due = True
        self._changed.clear()

    def take(self, followed: Iterable[Source]) -> Routes | None:
        """Return what is due, and count it as told; None when nothing is. The sequence is the teller's.

        Args: followed: the sources whose claims are known whole.
        """
        changed, self._changed = self._changed, set()
        if self._whole_due:
            self._whole_due = False
            claims = tuple(self._claims.values())
            return Routes(full=True, sequence=0, sources=tuple(sorted(followed)), claims=claims)
        if not changed:
            return None
        claims = tuple(self._claims[ref] for ref in changed if ref in self._claims)
        removed = tuple(ref for ref in changed if ref not in self._claims)
        return Routes(full=False, sequence=0, claims=claims, removed=removed)

    def _put(self, claim: RouteClaim) -> bool:
        known = self._claims.get(claim.ref)
        if known == claim:
            return True
        if known is None and len(self._claims) >= MOST_KEPT:
            self.left_out += 1
            return False
        self._claims[claim.ref] = claim
        self._changed.add(claim.ref)
        self._on_change()
        return True

    def _remove(self, ref: str, softly: bool) -> None:
        if self._claims.pop(ref, None) is None:
            return
        if softly:
            self._changed.discard(ref)
            self._whole_due = True
        else:
            self._changed.add(ref)
        self._on_change()


def in_parts(message: Routes, first_sequence: int) -> list[Routes]:
    """Cut a message into ones of MOST_CLAIMS and PART_BYTES at most, numbered from a sequence on.

    Parts of a full list are all `full`, and `more` but for the last; else only the first takes claims away.
    """
    groups: list[list[RouteClaim]] = [[]]
    room = PART_BYTES - len(_encoder.encode(message.removed))
    for claim in message.claims:
        size = len(_encoder.encode(claim)) + 1
        if groups[-1] and (size > room or len(groups[-1]) >= MOST_CLAIMS):
            groups.append([])
            room = PART_BYTES
        groups[-1].append(claim)
        room -= size
    return [
        Routes(
            full=message.full,
            sequence=first_sequence + number,
            more=message.full and number < len(groups) - 1,
            sources=message.sources,
            claims=tuple(group),
            removed=message.removed if number == 0 else (),
        )
        for number, group in enumerate(groups)
    ]

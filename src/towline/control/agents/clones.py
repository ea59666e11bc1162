"""Decide whether the agent that connects is the one we know: generations and takeovers. Pure.

Every connect moves an agent's generation on by one, and the agent writes the new one to its disk before the link is
ready. Whoever presents an older one runs from a copy. Whoever pushes another live instance aside again and again
shares its identity. Only the agent is put aside for that, never its organisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TAKEOVER_WINDOW = 300.0
"""Seconds in which takeovers are counted."""
MOST_TAKEOVERS = 3
"""Takeovers in the window that a bad line may explain; one more means two machines."""
MOST_AHEAD = 256
"""Generations an agent may be ahead of a database that was restored from a backup."""


@dataclass(frozen=True, slots=True)
class Generations:
    """What the row knows. `acked <= issued`; they differ while the newest one is not yet confirmed to be on disk."""

    issued: int
    acked: int
    resync: bool = False
    """An admin re-admitted the agent: the next one presented counts, whatever it is."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The generation to hand out, and whether the database was behind the agent."""

    issue: int
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Stale:
    """An old copy of the identity; `reason` is for the operator."""

    reason: str


def judge_generation(known: Generations, presented: int) -> Accepted | Stale:
    """Compare the generation that an agent presents with the one it should have.

    The one before the newest is right as long as the newest was never confirmed: the welcome was lost, or the host
    lost power before it was written. It is then handed out again, so that a line that breaks during each handshake
    never looks like a clone.
    """
    if presented < 0:
        return Stale(f"generation {presented} is none")
    if known.resync:
        return Accepted(max(known.issued, presented) + 1)
    if presented == known.issued:
        return Accepted(known.issued + 1)
    if presented == known.issued - 1 and known.acked < known.issued:
        return Accepted(known.issued)
    if known.issued < presented <= known.issued + MOST_AHEAD:
        return Accepted(presented + 1, ahead=True)
    return Stale(
        f"it presented generation {presented}, expected is {known.issued}: its state folder is an old copy, "
        "or two machines run with one identity"
    )


@dataclass(frozen=True, slots=True)
class Takeover:
    """A live instance was pushed aside by `instance_id` at `at` (seconds of any one clock)."""

    at: float
    instance_id: str


def recent(takeovers: Sequence[Takeover], now: float) -> tuple[Takeover, ...]:
    """Keep what lies within the window."""
    return tuple(one for one in takeovers if now - one.at < TAKEOVER_WINDOW)


def is_duel(takeovers: Sequence[Takeover], now: float) -> bool:
    """Tell whether two or more instances fight for one identity.

    Many takeovers by ever new instances are an agent that crashes; a clone is an instance that comes back after
    another one had taken its place.
    """
    window = recent(takeovers, now)
    if len(window) <= MOST_TAKEOVERS:
        return False
    ids = [one.instance_id for one in window]
    turns = [one for at, one in enumerate(ids) if at == 0 or ids[at - 1] != one]
    return len(turns) > len(set(turns))

"""The states of a command that a REST agent fetches, and what follows when its lease has run out. Pure.

waiting ──> handed ──> ended ──> stored
   │  ^        │         ^
   │  └────────┴─────────┤  lease over: again where it only reads, else its outcome is unknown
   └─────────────────────┘  cancelled, or never fetched

A command is handed out by one conditional UPDATE, and its result is taken by another: neither a server that dies nor
an agent that asks twice begins one that writes a second time.
"""

from __future__ import annotations

from enum import StrEnum

from towline.control.protocols.pipeops.rest_orders import NOT_FETCHED, SILENT, UNCERTAIN, Ending

LEASE_MARGIN = 90.0
"""Seconds beyond a command's own time limit until its result must be there: an agent that lost its line tries to tell
it again at its next tick or two."""
FETCH_WITHIN = 300.0
"""Seconds in which an agent that is there asks for its commands: ten of its ticks."""
MOST_HANDED = 3
"""Times that a command that only reads is handed out: one that ends its agent would do so for ever."""


class CommandState(StrEnum):
    WAITING = "waiting"
    """The agent has not asked for it yet."""
    HANDED = "handed"
    """The agent has it, until its lease is over."""
    ENDED = "ended"
    """How it ended is known here, and not yet stored with the job."""
    STORED = "stored"
    """Kept for an agent that tells its result again."""


OPEN = frozenset({CommandState.WAITING, CommandState.HANDED})


def after_lease(state: CommandState, *, reads: bool, handed: int, cancelling: bool) -> Ending | None:
    """Decide what becomes of a command whose time is over. Returns: how it ended; None: it may be fetched again."""
    if state is CommandState.WAITING:
        return Ending("failed", NOT_FETCHED, "not_fetched")
    if cancelling and reads:
        return Ending("cancelled", "cancelled; the agent never told how far it came", "cancelled")
    if not reads:
        return Ending("failed", UNCERTAIN, "interrupted")
    if handed >= MOST_HANDED:
        return Ending("failed", SILENT.format(handed), "timed_out")
    return None

"""The states of an agent and what may follow what. Pure.

pending ──> active <──> suspect
   └────────┬─┴────────────┘
            v
         revoked ──> removed
"""

from collections.abc import Mapping
from enum import StrEnum


class AgentState(StrEnum):
    PENDING = "pending"
    """Enrolled with a token that asks for approval: connected, without work."""
    ACTIVE = "active"
    SUSPECT = "suspect"
    """Two machines seem to share its identity: cut, until an admin re-admits one."""
    REVOKED = "revoked"
    REMOVED = "removed"
    """Its cluster is gone; the row stays for a while to tell it so."""


P, A, S, R = AgentState.PENDING, AgentState.ACTIVE, AgentState.SUSPECT, AgentState.REVOKED

NEXT: Mapping[AgentState, frozenset[AgentState]] = {
    P: frozenset({A, S, R, AgentState.REMOVED}),
    A: frozenset({S, R, AgentState.REMOVED}),
    S: frozenset({A, R, AgentState.REMOVED}),
    R: frozenset({AgentState.REMOVED}),
}

CONNECTABLE = frozenset({P, A})
FINAL = frozenset({R, AgentState.REMOVED})
"""These are told to stop for good."""


def before(following: AgentState) -> frozenset[AgentState]:
    """Return the states from which one may be reached."""
    return frozenset(state for state, after in NEXT.items() if following in after)

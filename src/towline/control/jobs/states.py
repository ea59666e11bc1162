"""The states of a job and every way from one to another. Pure; the only place that says what may follow what.

queued ──> sent ──> running ──> succeeded | failed | cancelled
  │  ^      │ ^        │
  v  │      │ └ again, while the agent has not taken it
waiting     └──> cancelling ──> cancelled | succeeded | failed
  └──> superseded | expired | cancelled
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    WAITING = "waiting"
    """As queued, and the agent is away."""
    SENT = "sent"
    """Claimed: the order is being prepared or is on its way. The agent has not confirmed it."""
    RUNNING = "running"
    """In the agent's journal. It goes on without the link."""
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


Q, W, S, R, C = JobState.QUEUED, JobState.WAITING, JobState.SENT, JobState.RUNNING, JobState.CANCELLING

PENDING = frozenset({Q, W})
"""Nobody has begun."""
ACTIVE = frozenset({S, R, C})
"""Perhaps on a host: at most one of these per serial key."""
ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED, JobState.EXPIRED})
OUTCOMES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""How an agent's work ends."""

_UNBEGUN_ENDS = {JobState.CANCELLED, JobState.SUPERSEDED, JobState.EXPIRED, JobState.FAILED}

NEXT: Mapping[JobState, frozenset[JobState]] = {
    Q: frozenset({W, S, *_UNBEGUN_ENDS}),
    W: frozenset({Q, S, *_UNBEGUN_ENDS}),
    S: frozenset({Q, W, R, C, *OUTCOMES}),
    R: frozenset({C, *OUTCOMES}),
    C: frozenset(OUTCOMES),
}


def may_become(state: JobState, following: JobState) -> bool:
    """Tell whether one state may follow another."""
    return following in NEXT.get(state, frozenset())


def before(following: JobState) -> frozenset[JobState]:
    """Return the states from which one may be reached: the WHERE of each UPDATE."""
    return frozenset(state for state, after in NEXT.items() if following in after)


def outcome_state(outcome: str) -> JobState:
    """Translate an agent's word for how it ended; a refusal is a failure of ours to ask for the right thing."""
    return JobState.FAILED if outcome == "refused" else JobState(outcome)

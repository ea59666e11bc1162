"""The states of an alert and what follows what. Pure: plain moments in, a `Step` out.

    (none) ──seen──▶ pending ──long enough──▶ firing ──gone──▶ resolved
                        └──gone──▶ forgotten          ▲            │
                                                      └──pending ◀─┘ seen again

Gone means not seen for the rule's `clear_seconds`: what comes and goes within them stays as it is.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    PENDING = "pending"
    """Seen, and not for long enough to tell anybody."""
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long something must be seen, and must be gone. Seconds."""

    after_seconds: float
    clear_seconds: float
    not_before: datetime | None = None
    """Nothing fires before: the server has to find out first."""


@dataclass(frozen=True, slots=True)
class Held:
    """Where an alert stands."""

    state: State
    began_at: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    absent_at: datetime | None = None
    due_at: datetime | None = None
    """When time alone would move it on."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where an alert stands now. `held` is None when nothing is left to remember."""

    held: Held | None
    fires: bool = False
    ends: bool = False


def step(held: Held | None, *, seen: bool, now: datetime, timing: Timing) -> Step:
    """Say what becomes of an alert that is seen, or not, at a moment."""
    if seen:
        return _seen(held, now, timing)
    return Step(None) if held is None else _missing(held, now, timing)


def _seen(held: Held | None, now: datetime, timing: Timing) -> Step:
    if held is None or held.state is State.RESOLVED:
        before = (held.fired_at, held.resolved_at) if held is not None else (None, None)
        held = Held(State.PENDING, now, *before)
    held = replace(held, absent_at=None, due_at=None)
    if held.state is State.FIRING:
        return Step(held)
    due = held.began_at + timedelta(seconds=timing.after_seconds)
    due = max(due, timing.not_before) if timing.not_before is not None else due
    if now < due:
        return Step(replace(held, due_at=due))
    return Step(replace(held, state=State.FIRING, fired_at=now, resolved_at=None), fires=True)


def _missing(held: Held, now: datetime, timing: Timing) -> Step:
    if held.state is State.RESOLVED:
        return Step(held)
    absent = held.absent_at or now
    due = absent + timedelta(seconds=timing.clear_seconds)
    if now < due:
        return Step(replace(held, absent_at=absent, due_at=due))
    if held.state is State.FIRING:
        return Step(replace(held, state=State.RESOLVED, resolved_at=now, absent_at=None, due_at=None), ends=True)
    if held.fired_at is None:
        return Step(None)  # it never told anybody anything
    return Step(replace(held, state=State.RESOLVED, resolved_at=held.resolved_at or now, absent_at=None, due_at=None))

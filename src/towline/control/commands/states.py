"""How a run goes on: which targets are next, which are left out, and when it has ended. Pure; the only place for it.

target: pending ──> active ──> succeeded | failed | cancelled | expired
           ├──> refused   its turn came, and the person may not do this there
           ├──> skipped   a target before it failed, and the run stops then
           └──> cancelled
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class RunState(StrEnum):
    RUNNING = "running"
    CANCELLING = "cancelling"
    """No more targets begin; those at work were asked to stop."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Some target did not succeed, or none was allowed."""
    CANCELLED = "cancelled"


class TargetState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    """It has a job."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its agent was away for too long."""
    REFUSED = "refused"
    SKIPPED = "skipped"


OPEN_RUNS = frozenset({RunState.RUNNING, RunState.CANCELLING})
OPEN_TARGETS = frozenset({TargetState.PENDING, TargetState.ACTIVE})
STOPPING = frozenset({TargetState.FAILED, TargetState.EXPIRED, TargetState.CANCELLED})
"""Ends after which a run that stops on failure begins nothing more. Who may not is no failure of the command."""
OF_JOB = {
    "succeeded": TargetState.SUCCEEDED, "failed": TargetState.FAILED, "cancelled": TargetState.CANCELLED,
    "superseded": TargetState.CANCELLED, "expired": TargetState.EXPIRED,
}  # fmt: skip


class Target(Protocol):
    """What is read of a target."""

    @property
    def position(self) -> int: ...
    @property
    def wave(self) -> int: ...
    @property
    def state(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a run now. Nothing at all while a whole wave is at work."""

    begin: tuple[int, ...] = ()
    """Positions of the targets whose turn it is."""
    leave_out: tuple[int, ...] = ()
    """Positions of targets that never have a turn."""
    end: RunState | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many targets of a run are in each state."""

    counts: dict[TargetState, int] = field(default_factory=dict)

    @property
    def all_good(self) -> bool:
        return set(self.counts) == {TargetState.SUCCEEDED}


def waves(count: int, size: int) -> list[int]:
    """Return the wave of each of some targets, in their order. Args: size: 0 for one wave."""
    return [place // size if size else 0 for place in range(count)]


def next_step(state: RunState, targets: Sequence[Target], *, stop_on_failure: bool) -> Step:
    """Decide what a run does now, from where its targets stand."""
    pending = [one for one in targets if one.state == TargetState.PENDING]
    at_work = any(one.state == TargetState.ACTIVE for one in targets)
    stops = state is RunState.CANCELLING or (stop_on_failure and any(one.state in STOPPING for one in targets))
    if stops:
        left_out = tuple(one.position for one in pending)
        return Step(leave_out=left_out, end=None if at_work else _end(state, targets, cut_short=bool(left_out)))
    if at_work:  # the rest of a wave that has begun, if there is one
        wave = max(one.wave for one in targets if one.state == TargetState.ACTIVE)
        return Step(begin=tuple(one.position for one in pending if one.wave <= wave))
    if not pending:
        return Step(end=_end(state, targets))
    wave = min(one.wave for one in pending)
    return Step(begin=tuple(one.position for one in pending if one.wave == wave))


def left_out_state(state: RunState) -> TargetState:
    """Return what becomes of targets that never have a turn."""
    return TargetState.CANCELLED if state is RunState.CANCELLING else TargetState.SKIPPED


def tally(targets: Sequence[Target]) -> Tally:
    """Count targets by state."""
    counts: dict[TargetState, int] = {}
    for one in targets:
        key = TargetState(one.state)
        counts[key] = counts.get(key, 0) + 1
    return Tally(counts)


def _end(state: RunState, targets: Sequence[Target], *, cut_short: bool = False) -> RunState:
    if state is RunState.CANCELLING:
        return RunState.CANCELLED
    return RunState.SUCCEEDED if tally(targets).all_good and not cut_short else RunState.FAILED

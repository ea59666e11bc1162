"""What the end of a job means for a revision and its deployment: pure decisions, performed by `handlers`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from towline.control.jobs.work import JobEnd
from towline.wire import orders


class Outcome(StrEnum):
    """What became of a revision."""

    PENDING = "pending"
    GOOD = "good"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    ADOPTED = "adopted"


GOOD_OUTCOMES = frozenset({Outcome.GOOD, Outcome.ADOPTED})
"""Those that a rollback may return to by itself."""

UNTOUCHED_CODES = frozenset(
    {"bad_order", "policy_violation", "invalid_project", "bundle_missing", "secrets_unreadable", "pull_failed",
     "build_failed", "not_found", "docker_away", "disk_full"}
)  # fmt: skip
"""A deploy that ends with one of these changed nothing on the host."""


@dataclass(frozen=True, slots=True)
class DeployEnd:
    """What to write after a deploy job. None: leave as it is."""

    outcome: Outcome | None
    error: str = ""
    code: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    failing: tuple[Mapping[str, Any], ...] = ()
    rolled_back_to: int | None = None
    running_id: str | None = None
    """Id of the revision that runs now; empty: none; None: as before."""


_FIRST_ENDS: Mapping[str, Outcome] = {
    "succeeded": Outcome.GOOD,
    "cancelled": Outcome.CANCELLED,
    "superseded": Outcome.SUPERSEDED,
}


def conclude_deploy(end: JobEnd, *, revision_id: str, before: Outcome) -> DeployEnd:
    """Decide what a deploy's end means for its revision.

    A revision that was good once stays good: deploying it again may fail for reasons of the day.
    """
    detail = _deploy_detail(end)
    return DeployEnd(
        outcome=_outcome(end, before),
        error="" if end.is_success else (end.error or end.state),
        code="" if end.is_success else (end.code or end.state),
        images=dict(detail.images) if end.is_success else {},
        failing=tuple(msgspec.to_builtins(failing) for failing in detail.failing),
        rolled_back_to=detail.rolled_back_to,
        running_id=_running(end, detail, revision_id),
    )


def _outcome(end: JobEnd, before: Outcome) -> Outcome | None:
    if before in GOOD_OUTCOMES:
        return Outcome.GOOD if end.is_success else None
    return _FIRST_ENDS.get(end.state, Outcome.FAILED)


def _running(end: JobEnd, detail: orders.DeployDetail, revision_id: str) -> str | None:
    if end.is_success:
        return revision_id
    if detail.running_revision_id:
        return detail.running_revision_id
    if not end.detail or end.code in UNTOUCHED_CODES:
        return None
    return detail.rolled_back_to_id or ""


def _deploy_detail(end: JobEnd) -> orders.DeployDetail:
    """Read the agent's detail; one that cannot be read counts as absent, for the outcome itself is known."""
    try:
        return orders.parse_detail(orders.DeployDetail, dict(end.detail))
    except orders.BadOrder:
        return orders.DeployDetail()


def previous_good(numbers: list[int], running: int) -> int | None:
    """Pick the revision that a rollback without a number returns to.

    Args: numbers: the good revisions. running: number of the one that runs; 0: none.
    """
    older = [number for number in numbers if not running or number < running]
    return max(older, default=None)

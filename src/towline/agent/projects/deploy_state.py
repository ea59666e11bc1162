"""Where a deploy stands, as the journal keeps it: the plan's own state and what its steps found out."""

from __future__ import annotations

from typing import Any

import msgspec

from towline.compose import plan
from towline.wire import orders


class DeployState(msgspec.Struct, frozen=True, kw_only=True):
    """Written to the journal before each step."""

    plan: plan.Deploy
    fallback: str = ""
    """Revision to put back."""
    up_began_at: float = 0.0
    """Wall clock, seconds; 0 before the first `up`."""
    up_again_began_at: float = 0.0
    had_ended: dict[str, str] = {}
    """Services that had ended before the first `up` changed anything, with their configuration's hash."""
    pins: dict[str, str] | None = None
    """Of the order's pins, those that are needed here; None before that is known."""
    code: str = ""
    failing: tuple[orders.Failing, ...] = ()
    violations: tuple[orders.Problem, ...] = ()
    errors: tuple[orders.Problem, ...] = ()
    services: dict[str, orders.ServiceOutcome] = {}
    images: dict[str, str] = {}
    seconds: dict[str, float] = {}

    def changed(self, **changes: Any) -> DeployState:
        return msgspec.structs.replace(self, **changes)

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    def detail(self, order: orders.Deploy, running: str, number: int | None) -> orders.DeployDetail:
        """Return the result's detail. Args: running: id of the revision in the folder. number: that put back."""
        outcome = self.plan.outcome
        put_back = outcome is plan.Outcome.ROLLED_BACK or (outcome is plan.Outcome.CANCELLED and number is not None)
        return orders.DeployDetail(
            revision=order.revision,
            revision_id=order.revision_id,
            images=self.images,
            services=self.services,
            failing=self.failing,
            violations=self.violations,
            errors=self.errors,
            rolled_back_to=number if put_back else None,
            rolled_back_to_id=self.fallback if put_back and number is not None else "",
            rollback_error=self.plan.second_reason,
            running_revision_id=running,
            seconds=self.seconds,
        )


def decode(data: bytes) -> DeployState:
    """Read a state back from the journal."""
    return msgspec.json.decode(data, type=DeployState)

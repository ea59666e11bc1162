"""How a job ended, before it becomes a message."""

from __future__ import annotations

from dataclasses import dataclass

from towline.wire import link, orders


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` and `error` are empty when it succeeded."""

    outcome: link.JobOutcome
    code: str = ""
    error: str = ""
    detail: orders.Detail | None = None

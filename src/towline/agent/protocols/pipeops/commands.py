"""Commands of a PipeOps REST control plane as jobs of our own, and what is told of their ends. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from towline.agent.journal import Entry
from towline.agent.protocols import ids
from towline.wire import link, orders, rfc3339
from towline.wire import pipeops_rest as rest
from towline.wire.link import JobEvent

PREFIX = "pipeops"
KIND = "command.run"

USER = "towline:pipeops"
"""Whom the cluster's audit log names when the control plane names nobody."""
GROUPS = ("towline:role:operator",)
"""What that one may do there: see and operate, as with the operator's token of the local surface."""

USUAL_SECONDS = 600.0
LONGEST_SECONDS = 24 * 3600.0

_TOLD = ("exit_code", "truncated")
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
"""Output of one result: spelt in JSON it stays below what the other side takes."""


def job(command: rest.Command) -> link.Job:
    """Turn a command into a job. Raises: rest.BadBody: unknown type, or wrong fields. ids.BadId."""
    run = rest.run_payload(command)
    seconds = run.timeout if 0 < run.timeout <= LONGEST_SECONDS else USUAL_SECONDS
    order = orders.Command(
        project=run.project,
        program=_program(command.type),
        arguments=run.args,
        user=run.user or USER,
        groups=run.groups or GROUPS,
        namespace=run.namespace or "default",
        stdin=run.stdin,
        output_bytes=min(run.output_bytes or orders.OUTPUT_BYTES, MAX_OUTPUT_BYTES),
    )
    name = ids.job_id(PREFIX, command.id)
    return link.Job(job_id=name, kind=KIND, fence=0, attempt=1, timeout=seconds, payload=orders.encode(order))


def _program(name: str) -> orders.Program:
    found: orders.Program = msgspec.convert(name, orders.Program)
    return found


def result(entry: Entry, events: Sequence[JobEvent]) -> rest.Result:
    """Return what is told of a job that ended. What a run before a restart printed is void."""
    ended = entry.result
    assert ended is not None
    begin = max((place + 1 for place, event in enumerate(events) if event.stage == orders.RESTARTED), default=0)
    printed = {stage: _text(events[begin:], stage) for stage in (orders.STDOUT, orders.STDERR)}
    metadata: dict[str, Any] = {key: ended.detail[key] for key in _TOLD if key in ended.detail}
    metadata |= {"outcome": ended.outcome, "code": ended.code, "stderr": printed[orders.STDERR]}
    return rest.Result(
        success=ended.outcome == "succeeded",
        output=printed[orders.STDOUT],
        error=ended.error,
        metadata={key: value for key, value in metadata.items() if value not in ("", None)},
        timestamp=_moment(ended.finished_at),
    )


def refusal(reason: str, now: float) -> rest.Result:
    """Return what is told of a command that cannot be begun."""
    metadata = {"outcome": "refused", "code": "bad_command"}
    return rest.Result(success=False, error=reason[:2000], metadata=metadata, timestamp=_moment(now))


def _text(events: Sequence[JobEvent], stage: str) -> str:
    return "".join(event.text for event in events if event.stage == stage)


def _moment(seconds: float) -> str:
    return rfc3339.write(datetime.fromtimestamp(seconds, UTC))

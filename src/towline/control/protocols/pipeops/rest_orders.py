"""Orders and results between the jobs of Towline and the commands of a PipeOps REST agent. Pure: structs in and out.

What that agent's build of October 2025 understands of a command's `type` and `payload` was never seen: it did not ask
for commands yet. Ours are the types `kubectl`, `docker` and `compose`, whose payload is `pipeops_rest.Run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.commandline.errors import BadCommand
from towline.commandline.reading import parse
from towline.wire import link, orders
from towline.wire import pipeops_rest as rest

COMMAND = "command.run"
OUTPUT_EVENTS = 200
"""Pieces of output in one message: below the size of a control message, whatever is in them."""
ERROR_CHARACTERS = 4000
"""Of what an agent says went wrong; the rest of it is in its standard error."""
_NAMESPACE_FLAGS = ("-n", "--namespace", "-A", "--all-namespaces")

_OUTCOMES: dict[str, link.JobOutcome] = {"refused": "refused", "cancelled": "cancelled"}

UNCERTAIN = (
    "the agent took the command and never told how it ended: what the command changes may or may not have happened; "
    "look"
)
SILENT = "the agent took the command {} times and never told how it ended"
NOT_FETCHED = (
    "the agent does not ask for commands: the build of October 2025 only reports; a later one, or Towline's own agent, "
    "runs them"
)
CANCELLED = "cancelled before the agent asked for it"


class NotCarried(Exception):
    """A job that this protocol has no command for; says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job as a command."""

    type: str
    run: rest.Run = field(repr=False)
    reads: bool
    """It changes nothing, so that it may be begun a second time."""


def order_of(job: link.Job) -> Order:
    """Turn a job into a command. Raises: NotCarried."""
    if job.kind != COMMAND:
        raise NotCarried(
            f"a PipeOps REST agent runs commands and tells its status; {job.kind} takes Towline's own agent"
        )
    try:
        found = orders.decode(job.kind, job.payload)
        assert isinstance(found, orders.Command)
        plan = parse(
            found.program, found.arguments, stdin=found.stdin, namespace=found.namespace, project=found.project
        )
    except (orders.BadOrder, BadCommand) as error:
        raise NotCarried(str(error)) from error
    if plan.follows:
        raise NotCarried(
            "a PipeOps REST agent answers when a command has ended, and this one follows; leave the flag out, or use "
            "Towline's own agent"
        )
    run = rest.Run(
        args=_arguments(found),
        timeout=job.timeout,
        stdin=found.stdin,
        namespace=found.namespace,
        project=found.project,
        user=found.user,
        groups=found.groups,
        output_bytes=found.output_bytes,
    )
    return Order(found.program, run, reads=not plan.writes)


def _arguments(found: orders.Command) -> tuple[str, ...]:
    """Return the arguments with the namespace among them: kubectl on another machine has a default of its own."""
    named = any(each.partition("=")[0] in _NAMESPACE_FLAGS or each[:2] in ("-n", "-A") for each in found.arguments)
    if found.program != "kubectl" or named:
        return found.arguments
    told = (f"--namespace={found.namespace}", *found.arguments)
    try:
        parse(found.program, told, stdin=found.stdin, namespace=found.namespace)
    except BadCommand:
        return found.arguments  # a verb without namespaces
    return told


# -- results -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended, as it is kept until the job's result is stored."""

    outcome: link.JobOutcome
    error: str = ""
    code: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)


def ending_of(result: rest.Result, *, most_bytes: int) -> Ending:
    """Read an agent's result. Args: most_bytes: output that is kept; what goes past is counted."""
    told_error = _text(result.metadata.get("stderr")) or ("" if result.success else result.error)
    stdout, left = _cut(result.output, most_bytes)
    stderr, _ = _cut(told_error, left)
    detail: dict[str, Any] = {
        "stdout_bytes": len(result.output.encode("utf-8", "surrogatepass")),
        "stderr_bytes": len(told_error.encode("utf-8", "surrogatepass")),
        "truncated": result.metadata.get("truncated") is True or (stdout, stderr) != (result.output, told_error),
    }
    exit_code = result.metadata.get("exit_code")
    if isinstance(exit_code, int) and not isinstance(exit_code, bool):
        detail["exit_code"] = exit_code
    if result.success:
        return Ending("succeeded", detail=detail, stdout=stdout, stderr=stderr)
    code = _text(result.metadata.get("code"))
    if code in orders.CODES and code != "command_exit":  # Towline's own agent says what it was
        outcome: link.JobOutcome = _OUTCOMES.get(_text(result.metadata.get("outcome")), "failed")
        return Ending(outcome, result.error[:ERROR_CHARACTERS] or orders.CODES[code], code, detail, stdout, stderr)
    if "exit_code" in detail:
        words = result.error[:ERROR_CHARACTERS] or f"the command ended with the exit code {exit_code}"
        return Ending("failed", words, "command_exit", detail, stdout, stderr)
    # Its error may be what the command printed, which not everybody may read who may see the job.
    return Ending("failed", "the agent says that the command failed; its output says why", "command_failed", detail,
                  stdout, stderr)  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _cut(text: str, most_bytes: int) -> tuple[str, int]:
    """Return the beginning of a text that fits, and how many bytes are left."""
    data = text.encode("utf-8", "replace")
    kept = text if len(data) <= most_bytes else data[:most_bytes].decode("utf-8", "ignore")
    return kept, max(0, most_bytes - len(data))


def messages(job_id: str, fence: int, ending: Ending, *, after: int, at: float) -> Iterator[link.Message]:
    """Return what is told of a command that ended; the same each time it is told.

    Args: after: number of the last event that was told before.
    """
    pieces = [*_pieces(orders.STDOUT, ending.stdout), *_pieces(orders.STDERR, ending.stderr)]
    events = [
        link.JobEvent(seq=after + place, at=at, stage=stage, text=text)
        for place, (stage, text) in enumerate(pieces, start=1)
    ]
    for begin in range(0, len(events), OUTPUT_EVENTS):
        yield link.JobProgress(job_id=job_id, fence=fence, events=tuple(events[begin : begin + OUTPUT_EVENTS]))
    yield link.JobResult(
        job_id=job_id,
        fence=fence,
        outcome=ending.outcome,
        error=ending.error,
        code=ending.code,
        detail=ending.detail,
        finished_at=at,
        last_seq=after + len(events),
    )


def _pieces(stage: str, text: str) -> Sequence[tuple[str, str]]:
    size = orders.MAX_OUTPUT_CHUNK
    return [(stage, text[begin : begin + size]) for begin in range(0, len(text), size)]

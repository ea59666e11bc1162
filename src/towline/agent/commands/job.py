"""A command as a job of the control plane: judged again, done once, reported as it goes.

A command that writes is noted in the journal before its first change. Found begun after a restart, it is not done
again: nobody can know how far it got. One that only reads begins anew, behind a marker that makes what came before
void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from towline.agent.commands.cluster import Cluster
from towline.agent.commands.ending import CANCELLED, FAILED, SUCCEEDED, TIMED_OUT, NotAnnounced
from towline.agent.commands.execution import check, execute
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.output import Output
from towline.agent.errors import AgentError, PolicyRefused
from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.aio.tasks import TaskOwner
from towline.commandline.errors import BadCommand
from towline.commandline.plan import Plan
from towline.commandline.reading import parse
from towline.kube.errors import BadIdentity
from towline.kube.identity import Identity
from towline.kube.identity import check as check_identity
from towline.wire import link, orders

RECHECK_INTERVAL = 5.0
"""Seconds between two looks at whether a command would still be allowed: a narrowed policy ends it within ten."""

BEGUN, WRITING = b"begun", b"writing"
"""What the journal holds of a command: it was begun; it may have changed something."""

UNCERTAIN = "the agent was restarted in the middle: what the command changes may or may not have happened; look"


@dataclass(frozen=True, slots=True)
class _Stopped:
    """Why a command that had not ended was ended."""

    code: str
    exit_code: int
    words: str
    outcome: link.JobOutcome = "failed"


async def run(context: JobContext, order: orders.Command) -> Ended:
    """Do a command, or say why not. Raises: StorageError: the journal cannot be written."""
    try:
        plan = parse(
            order.program, order.arguments, stdin=order.stdin, namespace=order.namespace, project=order.project
        )
        identity = _identity(order)
    except (BadCommand, BadIdentity) as error:
        return Ended("refused", "bad_command", str(error))
    if context.entry.plan == WRITING:
        return Ended("failed", "interrupted", UNCERTAIN, orders.CommandDetail(exit_code=FAILED))
    if context.cancelled.is_set():
        return Ended("cancelled", "cancelled", "cancelled before it had done anything")
    if context.entry.plan is not None:
        context.reporter.output(orders.RESTARTED, "the agent was restarted; the command begins anew")
    return await _run(context, order, plan, identity)


async def _run(context: JobContext, order: orders.Command, plan: Plan, identity: Identity) -> Ended:
    host = context.host
    output = Output(context.reporter.output, min(order.output_bytes, orders.MAX_OUTPUT_BYTES), clock=host.clock)
    noted = _Noted(context, plan)
    api = None
    if plan.program == "kubectl" and host.kubernetes is not None:
        api = Cluster(
            host.kubernetes, identity, plan, host.policy, before_write=noted.before_write, clock=host.clock
        )  # fmt: skip
    invocation = Invocation(plan, output, host.policy, host.engine, noted.before_write, api, host.clock)
    try:
        check(invocation)
        context.host.journal.keep_plan(context.job_id, BEGUN)
        ended = await _until_stopped(context, invocation)
    except (PolicyRefused, NotAnnounced) as error:
        output.close()
        outcome: link.JobOutcome = "failed" if noted.is_writing else "refused"
        return Ended(outcome, "forbidden", str(error), _detail(output, FAILED))
    finally:
        output.close()
        if api is not None:
            api.close()
    return _ended(ended, output, may_have_happened=noted.is_writing)


class _Noted:
    """Writes down, once, that the command is about to change something."""

    def __init__(self, context: JobContext, plan: Plan) -> None:
        self._context = context
        self._writes = plan.writes
        self.is_writing = False

    def before_write(self) -> None:
        if self._writes and not self.is_writing:
            self._context.host.journal.keep_plan(self._context.job_id, WRITING)
            self.is_writing = True


def _identity(order: orders.Command) -> Identity:
    identity = Identity(order.user, order.groups)
    check_identity(identity)
    return identity


async def _until_stopped(context: JobContext, invocation: Invocation) -> int | _Stopped:
    """Do the command until it ends, somebody cancels it, its time is up, or the policy forbids it."""
    deadline = context.host.clock.monotonic() + context.time_left()
    async with TaskOwner(f"command of {context.job_id}") as owner:
        working = owner.spawn("work", _kept(execute(invocation)))
        cancelled = owner.spawn("cancel", _wait(context.cancelled))
        while not working.done():
            left = deadline - context.host.clock.monotonic()
            if left <= 0:
                return _Stopped("timed_out", TIMED_OUT, "the command took longer than its time limit")
            await asyncio.wait(
                {working, cancelled}, timeout=min(left, RECHECK_INTERVAL), return_when=asyncio.FIRST_COMPLETED
            )
            if working.done():
                break
            if cancelled.done():
                return _Stopped("cancelled", CANCELLED, "cancelled", "cancelled")
            check(invocation)
        result = working.result()
    if isinstance(result, Exception):
        raise result
    return result


async def _kept(work: Awaitable[int]) -> int | Exception:
    """Hand an expected failure over instead of having it logged as a task's."""
    try:
        return await work
    except AgentError as error:
        return error


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _ended(ended: int | _Stopped, output: Output, *, may_have_happened: bool) -> Ended:
    if isinstance(ended, _Stopped):
        words = ended.words + ("; what it changes may have happened in part" if may_have_happened else "")
        return Ended(ended.outcome, ended.code, words, _detail(output, ended.exit_code))
    if ended == SUCCEEDED:
        return Ended("succeeded", detail=_detail(output, ended))
    words = output.last_error_line or f"the command ended with the exit code {ended}"
    return Ended("failed", "command_exit", words, _detail(output, ended))


def _detail(output: Output, exit_code: int) -> orders.CommandDetail:
    return orders.CommandDetail(
        exit_code=exit_code,
        stdout_bytes=output.bytes[orders.STDOUT],
        stderr_bytes=output.bytes[orders.STDERR],
        truncated=output.truncated,
    )

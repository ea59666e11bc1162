"""A command until it ends, or until somebody or something ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from towline.agent.commands.ending import CANCELLED, SUCCEEDED, TIMED_OUT
from towline.agent.commands.execution import check, execute
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.output import Output
from towline.agent.errors import AgentError
from towline.agent.jobs.outcome import Ended
from towline.aio.tasks import TaskOwner
from towline.wire import link, orders

RECHECK_INTERVAL = 5.0
"""Seconds between two looks at whether a command would still be allowed: a narrowed policy ends it within ten."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a command that had not ended was ended."""

    code: str
    exit_code: int
    words: str
    outcome: link.JobOutcome


_TIMED_OUT = Stopped("timed_out", TIMED_OUT, "the command took longer than its time limit", "failed")
_CANCELLED = Stopped("cancelled", CANCELLED, "cancelled", "cancelled")


async def until_stopped(invocation: Invocation, cancelled: asyncio.Event, seconds: float) -> int | Stopped:
    """Do a command until it ends, it is cancelled, its time is up, or the policy forbids it.

    Returns: its exit code, or what stopped it. Raises: PolicyRefused, NotAnnounced, StorageError.
    """
    deadline = invocation.clock.monotonic() + seconds
    async with TaskOwner("command") as owner:
        working = owner.spawn("work", _kept(execute(invocation)))
        waiting = owner.spawn("cancel", _wait(cancelled))
        while not working.done():
            left = deadline - invocation.clock.monotonic()
            if left <= 0:
                return _TIMED_OUT
            pause = min(left, RECHECK_INTERVAL)
            await asyncio.wait({working, waiting}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                if waiting.done():
                    return _CANCELLED
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


def ended(found: int | Stopped, output: Output, *, may_have_happened: bool) -> Ended:
    """Return how a command ended. `may_have_happened`: it had begun to change something."""
    if isinstance(found, Stopped):
        words = found.words + ("; what it changes may have happened in part" if may_have_happened else "")
        return Ended(found.outcome, found.code, words, detail(output, found.exit_code))
    if found == SUCCEEDED:
        return Ended("succeeded", detail=detail(output, found))
    words = output.last_error_line or f"the command ended with the exit code {found}"
    return Ended("failed", "command_exit", words, detail(output, found))


def detail(output: Output, exit_code: int) -> orders.CommandDetail:
    """Return what is told of a command's output."""
    return orders.CommandDetail(
        exit_code=exit_code,
        stdout_bytes=output.bytes[orders.STDOUT],
        stderr_bytes=output.bytes[orders.STDERR],
        truncated=output.truncated,
    )

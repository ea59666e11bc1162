"""Ending a simple job that somebody cancelled: its command is told to end, or what it waits for is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from towline.agent.jobs.context import JobContext
from towline.agent.jobs.outcome import Ended
from towline.aio.tasks import TaskOwner

if TYPE_CHECKING:
    from towline.agent.projects.commands import Commands


async def until_cancelled(context: JobContext, commands: Commands, work: Coroutine[Any, Any, Ended]) -> Ended:
    """Do the work; returns `cancelled` when somebody cancelled it first. Raises: what the work raises."""
    async with TaskOwner(f"work of {context.job_id}") as owner:
        working = owner.spawn("work", _kept(work))
        waiting = owner.spawn("cancel", _wait(context.cancelled))
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            if commands.current is not None:
                commands.current.stop()
                await asyncio.wait({working})
            else:
                working.cancel()
            return Ended("cancelled", "cancelled", "cancelled")
        result = working.result()
    if isinstance(result, Exception):
        raise result
    return result


async def _kept(work: Coroutine[Any, Any, Ended]) -> Ended | Exception:
    """Hand an expected failure over instead of having it logged as a task's."""
    try:
        return await work
    except Exception as error:
        return error


async def _wait(event: asyncio.Event) -> None:
    await event.wait()

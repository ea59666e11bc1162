"""What lasts: answers that go on until somebody has enough, and how they end when they should not go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from towline.agent.errors import AgentError
from towline.agent.surface.requests import statistics_of
from towline.aio.tasks import TaskOwner

RECHECK_INTERVAL = 5.0
"""Seconds between two looks at whether a stream would still be allowed: a narrowed policy ends it within ten."""


async def while_allowed(check: Callable[[], object], work: Coroutine[Any, Any, None]) -> None:
    """Do something that lasts, for as long as a check passes.

    Raises: what the work raises, and what the check raises when the policy was narrowed meanwhile.
    """
    async with TaskOwner("local stream") as owner:
        task = owner.spawn("work", outcome(work))
        while not task.done():
            await asyncio.wait({task}, timeout=RECHECK_INTERVAL)
            if not task.done():
                check()
        if (failure := task.result()) is not None:
            raise failure


async def outcome(work: Coroutine[Any, Any, None]) -> AgentError | None:
    """Do something. Returns: why it could not go on; None when it is done, or its client is gone."""
    try:
        await work
    except ConnectionError:
        return None
    except AgentError as error:
        return error
    return None


def cut(request: web.Request, kind: str) -> None:
    """End a connection whose other side does not take what it asked for. `kind` is what the surface counts it as."""
    statistics_of(request).cut[kind] += 1
    if request.transport is not None:
        request.transport.abort()

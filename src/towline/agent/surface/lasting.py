"""What lasts: answers that go on until somebody has enough, and how they end when they should not go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from towline.agent.surface.requests import statistics_of
from towline.aio.tasks import TaskOwner

RECHECK_INTERVAL = 5.0
"""Seconds between two looks at whether a stream would still be allowed: a narrowed policy ends it within ten."""


async def while_allowed(check: Callable[[], object], work: Coroutine[Any, Any, None]) -> None:
    """Do something that lasts, for as long as a check passes.

    Raises: what the work raises, and what the check raises when the policy was narrowed meanwhile.
    """
    async with TaskOwner("local stream") as owner:
        task = owner.spawn("work", until_disconnected(work))
        while not task.done():
            await asyncio.wait({task}, timeout=RECHECK_INTERVAL)
            if not task.done():
                check()
        task.result()


async def until_disconnected(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionError):  # the client has what it wanted, or has gone
        await work


def cut(request: web.Request, kind: str) -> None:
    """End a connection whose other side does not take what it asked for. `kind` is what the surface counts it as."""
    statistics_of(request).cut[kind] += 1
    if request.transport is not None:
        request.transport.abort()

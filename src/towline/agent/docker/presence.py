"""Noticing that the engine went away, even for a moment: a connection that says nothing is held, and breaks with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from towline.agent.docker.engine import Engine
from towline.agent.errors import DockerError
from towline.aio.tasks import TaskOwner

_NOTHING = {"container": ["-"]}
"""A filter that no event passes."""


class Presence:
    """`lost` becomes True when the engine went away meanwhile, and stays."""

    def __init__(self) -> None:
        self.lost = False


@asynccontextmanager
async def watched(engine: Engine) -> AsyncIterator[Presence]:
    """Watch the engine for the length of a block."""
    presence = Presence()
    async with TaskOwner("presence of Docker") as owner:
        owner.spawn("connection", _hold(engine, presence))
        yield presence


async def _hold(engine: Engine, presence: Presence) -> None:
    try:
        async with engine.stream("GET", "/events", filters=_NOTHING) as chunks:
            async for _ in chunks:
                continue
    except DockerError:
        # How it ended does not matter: it ends with the engine alone.
        presence.lost = True
        return
    presence.lost = True

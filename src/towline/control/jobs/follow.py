"""Following a job: its events as they are stored, until it ends. Reads rows; hints only say when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from towline.control.bus import Bus, Subscription
from towline.control.db import Database
from towline.control.jobs import repository
from towline.control.jobs.models import Job, JobEvent
from towline.control.jobs.states import ENDED

PAGE = 500
"""Events of one read."""
LOOK_INTERVAL = 10.0
"""Seconds without a hint after which the row is read anyway; also how often a silent stream says that it lives."""


def show_event(event: JobEvent) -> dict[str, Any]:
    """Return the JSON of an event."""
    names = ("seq", "stage", "text", "service", "level", "current", "total")
    at = event.at.isoformat().replace("+00:00", "Z")
    return {name: getattr(event, name) for name in names} | {"at": at}


async def follow(db: Database, bus: Bus, job_id: str, after: int) -> AsyncIterator[tuple[Job, list[JobEvent]] | None]:
    """Yield a job with what is new of it, from the beginning and at each change; the last one has ended.

    None is yielded when nothing has happened for a while, so that a caller can show that it is alive.
    """
    async with bus.subscribe("job") as hints:
        state = ""
        while True:
            async with db.read() as tx:
                job = await repository.by_id(tx, job_id)
                events = list(await repository.events(tx, job_id, after, PAGE))
            if job is None:
                return
            if events or job.state != state:
                state = job.state
                after = events[-1].seq if events else after
                yield job, events
            if len(events) == PAGE:
                continue
            if job.state in ENDED:
                return
            if not await _hinted(hints, job_id):
                yield None


async def _hinted(hints: Subscription, job_id: str) -> bool:
    """Wait for a hint about a job. False: none came."""
    try:
        async with asyncio.timeout(LOOK_INTERVAL):
            async for event in hints:
                if event.ids.get("id", job_id) == job_id:
                    return True
    except TimeoutError:
        return False
    await asyncio.sleep(0.1)  # the bus is closed: the server stops
    return True


def sse(event: str, data: Any, *, id: int | str | None = None) -> bytes:
    """Return one server-sent event. Source: HTML Living Standard, 9.2.5."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


EVENT_STREAM = "text/event-stream"
KEEP_ALIVE = b": still here\n\n"

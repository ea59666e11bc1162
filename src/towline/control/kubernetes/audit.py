"""The record of every request to a cluster: one event when it is accepted or refused, one when it ends.

Written in batches, because kubectl asks ten times in a second and a disk confirms a hundred times. What changes
something, opens a shell or reveals a secret waits until its event is on the disk; plain reads go on, and a process that
is killed loses those of the last moment. When the events cannot be written, nobody gets further: the queue is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from towline.aio.clock import Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import Actor
from towline.control.audit.service import AuditLog, Draft, Result, draft
from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.places import Place
from towline.control.kubernetes.requests import Asked
from towline.control.logging import get_logger
from towline.gateway.interfaces import Ended

_log = get_logger("kubernetes")

LINGER = 0.1
"""Seconds that events of reads wait for more of them: a batch costs hardly more than one."""
BATCH = 500
QUEUE = 20_000
"""Events that wait while the database does not take them; some 40 MiB. Then requests are refused."""
RETRY = 1.0

_Entry = tuple[Draft, "asyncio.Future[None] | None"]


class Records:
    """Writes the events of one process."""

    def __init__(self, db: Database, audit: AuditLog, clock: Clock, *, reads: bool) -> None:
        self._db = db
        self._audit = audit
        self._clock = clock
        self._reads = reads
        self._queue: deque[_Entry] = deque()
        self._some = asyncio.Event()
        self._urgent = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks = TaskOwner("kubernetes-records")

    def __repr__(self) -> str:
        return f"<Records {len(self._queue)} waiting>"

    def start(self) -> None:
        """Begin to write."""
        self._tasks.spawn("write", self._write_for_ever())

    async def stop(self) -> None:
        """Write what is left."""
        async with self._writing:  # a batch that is cut off may be on the disk, and would be written twice
            await self._tasks.close()
        while self._queue:
            if not await self._write():
                _log.error("events of requests to clusters are lost", events=len(self._queue))
                return

    @property
    def is_full(self) -> bool:
        """True while nothing more may be accepted, because it could not be recorded."""
        return len(self._queue) >= QUEUE

    def wants(self, asked: Asked) -> bool:
        """Tell whether a request is recorded at all: plain reads can be left out by a setting."""
        return self._reads or asked.must_be_recorded

    def note(self, event: Draft) -> None:
        """Write an event soon."""
        self._queue.append((event, None))
        self._some.set()

    async def write(self, event: Draft) -> None:
        """Return when an event is on the disk. Raises: ApiError: it is not, and will not be."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((event, written))
        self._some.set()
        self._urgent.set()
        await written

    async def _write_for_ever(self) -> None:
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._urgent.wait()
            self._urgent.clear()
            if not await self._write():
                await self._clock.sleep(RETRY)

    async def _write(self) -> bool:
        async with self._writing:
            return await self._write_batch()

    async def _write_batch(self) -> bool:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        try:
            if batch:
                await self._audit.append(self._db, [event for event, _ in batch])
        except ApiError as error:
            _log.warning("requests to clusters are not recorded", why=error.message, events=len(batch))
            self._give_up(batch, error)
            return False
        except BaseException:
            self._give_up(batch, ApiError(ErrorCode.UNAVAILABLE, "the audit log could not be written"))
            raise
        for _, written in batch:
            if written is not None and not written.done():
                written.set_result(None)
        if not self._queue:
            self._some.clear()
        elif any(written for _, written in self._queue):
            self._urgent.set()
        return True

    def _give_up(self, batch: list[_Entry], error: ApiError) -> None:
        """Those who wait are told, and their requests never happen; the other events stay."""
        for _, written in batch:
            if written is not None and not written.done():
                written.set_exception(error)
        self._queue.extendleft(reversed([(event, None) for event, written in batch if written is None]))


def accepted(
    asked: Asked, actor: Actor, place: Place, *, result: Result = "done", reason: str = "", **more: Any
) -> Draft:
    """Return the event of a request that goes out, or of one that was refused."""
    access = asked.access
    what = access.subresource if access.is_exec_family or access.is_proxy else access.verb
    return _event(f"kubernetes.{what or 'request'}", actor, place, result, reason, asked.detail() | more)


def ended(asked: Asked, actor: Actor, place: Place, how: Ended) -> Draft:
    """Return the event of a request's end."""
    is_good = how.outcome in ("done", "upgraded") and how.status < 500
    detail = {"verb": asked.access.verb, "resource": asked.access.kind, "name": asked.access.name}
    detail |= {"namespace": asked.access.namespace, "outcome": how.outcome}
    figures: dict[str, Any] = {"status": how.status, "seconds": round(how.seconds, 3)}
    figures |= {"up_bytes": how.received_bytes, "down_bytes": how.sent_bytes}
    result: Result = "done" if is_good else "failed"
    return _event("kubernetes.end", actor, place, result, how.detail, {k: v for k, v in detail.items() if v} | figures)


def _event(action: str, actor: Actor, place: Place, result: Result, reason: str, detail: dict[str, Any]) -> Draft:
    return draft(
        actor,
        action=action,
        target_kind="cluster",
        target_id=place.id,
        target_name=place.name,
        cluster_id=place.id,
        result=result,
        reason=reason,
        detail=detail,
    )

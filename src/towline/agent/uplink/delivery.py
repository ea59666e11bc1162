"""Telling the control plane about jobs: accepted, progress, results; again after each connect until it is stored.

What is told comes from the journal alone, so that an agent that starts again tells the same.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from towline.agent.journal import Journal
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel.session import Session
from towline.wire import link

MAX_EVENTS_PER_MESSAGE = 200
"""Events in one message: more are more than a page can show at once."""

MAX_EVENTS_BYTES = 512 * 1024
"""JSON of the events in one message: the output of a command fills its events, and a message ends at 1 MiB."""

_log = structlog.get_logger("towline.agent")


class Delivery:
    """Sends what the journal holds while there is a link. One message is on its way at a time, so order holds."""

    def __init__(self, journal: Journal, owner: TaskOwner) -> None:
        self._journal = journal
        self._owner = owner
        self._session: Session | None = None
        self._sent: dict[str, int] = {}
        """Job to the last event that was sent on the present link."""
        self._results_sent: set[str] = set()
        self._wanted: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Delivery {self._session!r} {len(self._wanted)} wanted>"

    async def connected(self, session: Session) -> None:
        """Tell a new link what is held, and everything that it may not know. Raises: TunnelClosed."""
        self._session = session
        self._sent.clear()
        self._results_sent.clear()
        unfinished, unstored = self._journal.unfinished(), self._journal.unstored()
        held = link.JobsHeld(
            running=tuple(entry.job_id for entry in unfinished), finished=tuple(entry.job_id for entry in unstored)
        )
        await session.send(held)
        for entry in (*unfinished, *unstored):
            self.publish(entry.job_id)

    def disconnected(self) -> None:
        """Keep quiet until the next link."""
        self._session = None

    async def accepted(self, job_id: str) -> None:
        """Confirm an order; a repeated one is answered again, with its result when there is one."""
        entry = self._journal.entry(job_id)
        if entry is None or self._session is None:
            return
        await self._session.send(link.JobAccepted(job_id=job_id, fence=entry.fence))
        self._results_sent.discard(job_id)
        self.publish(job_id)

    def stored(self, job_id: str) -> None:
        """Forget what was remembered for sending."""
        self._sent.pop(job_id, None)
        self._results_sent.discard(job_id)

    def publish(self, job_id: str) -> None:
        """Send what is new about a job, soon."""
        if self._session is None or self._owner.closed:
            return
        self._wanted[job_id] = None
        if self._task is None or self._task.done():
            self._task = self._owner.spawn("delivery", self._deliver())

    async def _deliver(self) -> None:
        while self._wanted and self._session is not None:
            job_id = next(iter(self._wanted))
            del self._wanted[job_id]
            try:
                await self._tell(self._session, job_id)
            except StreamError as error:
                _log.debug("delivery stopped", reason=error.reason)
                return

    async def _tell(self, session: Session, job_id: str) -> None:
        entry = self._journal.entry(job_id)
        if entry is None:
            return
        while events := self._journal.events(job_id, self._sent.get(job_id, 0), MAX_EVENTS_PER_MESSAGE):
            events = _fitting(events)
            await session.send(link.JobProgress(job_id=job_id, fence=entry.fence, events=events))
            self._sent[job_id] = events[-1].seq
        if entry.result is not None and not entry.stored and job_id not in self._results_sent:
            self._results_sent.add(job_id)
            await session.send(entry.result)


def _fitting(events: tuple[link.JobEvent, ...]) -> tuple[link.JobEvent, ...]:
    """Return as many events as one message holds, at least one."""
    size = 0
    for number, event in enumerate(events):
        size += len(msgspec.json.encode(event))
        if size > MAX_EVENTS_BYTES and number:
            return events[:number]
    return events

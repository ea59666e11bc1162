"""`GET /api/realtime/events`: server-sent events out of the ring, from now on or from behind the last id.

A listener costs its connection and a number. One that does not read is cut, and comes back with its last id.
Source: HTML Living Standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from towline.agent.surface.endpoints import Endpoint, Parameter, Right
from towline.agent.surface.errors import bad_parameter
from towline.agent.surface.feed import EVENT, KINDS, Feed
from towline.agent.surface.lasting import cut, outcome
from towline.agent.surface.live import live_of
from towline.agent.surface.requests import given
from towline.agent.surface.ring import Entry, Ring
from towline.aio.tasks import TaskOwner

HEARTBEAT_INTERVAL = 15.0
"""Seconds without an event before a comment is sent: proxies give up after 30 and more."""
HEARTBEAT = b": still here\n\n"
SLOW_SECONDS = 10.0
"""That a client has to take what was written; then it is cut, because others' events must not wait in memory for it."""
RETRY_MILLISECONDS = 2000
"""Before a browser connects again."""
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """One answer of server-sent events."""

    def __init__(self, request: web.Request, kind: str) -> None:
        """`kind` is what the surface counts it as."""
        self._request = request
        self._kind = kind
        self._written = 0
        self._response = web.StreamResponse(headers=HEADERS)

    async def begin(self) -> web.StreamResponse:
        """Send the head."""
        await self._response.prepare(self._request)
        await self.write(b"retry: %d\n\n" % RETRY_MILLISECONDS)
        return self._response

    async def write(self, data: bytes) -> None:
        """Send whole events. Raises: ConnectionError: the client is gone, or too slow and therefore cut."""
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._response.write(data)
                self._written += 1
        except TimeoutError as error:
            cut(self._request, self._kind)
            raise ConnectionResetError("the client does not take its events") from error

    async def while_beating(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that writes, with a comment whenever nothing was written for a while.

        Raises: AgentError: what the work raised. ConnectionError: the client is gone.
        """
        async with TaskOwner("event stream") as owner:
            task = owner.spawn("work", outcome(work))
            while not task.done():
                written = self._written
                await asyncio.wait({task}, timeout=HEARTBEAT_INTERVAL)
                if not task.done() and written == self._written:
                    await self.write(HEARTBEAT)
            if (failure := task.result()) is not None:
                raise failure

    async def tell(self, kind: str, payload: Any) -> None:
        """Send an event that no id belongs to. Raises: as `write`."""
        await self.write(b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(payload)))


async def events(request: web.Request) -> web.StreamResponse:
    """Stream events for as long as the client listens."""
    live = live_of(request)
    kinds, namespace = _kinds(given(request, "types")), given(request, "namespace")
    last_id = request.headers.get("Last-Event-ID", "") or given(request, "lastEventId")
    with live.hold("events"), live.feed.listening() as ring:
        stream = EventStream(request, "events")
        begun = await stream.begin()
        await _send(stream, live.feed, ring, partial(_is_wanted, kinds, namespace), last_id[:100])
        return begun


def _is_wanted(kinds: frozenset[str], namespace: str, entry: Entry) -> bool:
    return entry.kind in kinds and (not namespace or entry.kind != EVENT or entry.namespace == namespace)


async def _send(stream: EventStream, feed: Feed, ring: Ring, wanted: Callable[[Entry], bool], last_id: str) -> None:
    found = ring.position(last_id)
    number = ring.last if found is None else found
    await stream.tell("status", feed.status())
    if last_id and found is None:
        await stream.tell("gap", {"missed": None, "reason": "this id is not known any more"})
    while True:
        if ring.has_lost(number):
            missed = ring.first - 1 - number
            number = ring.first - 1
            await stream.tell("gap", {"missed": missed, "reason": "more happened than is kept"})
        fresh = ring.after(number)
        if not fresh:
            await _wait(stream, ring, number)
            continue
        number = fresh[-1].number
        if data := b"".join(entry.sse for entry in fresh if wanted(entry)):
            await stream.write(data)


async def _wait(stream: EventStream, ring: Ring, number: int) -> None:
    try:
        async with asyncio.timeout(HEARTBEAT_INTERVAL):
            await ring.wait(number)
    except TimeoutError:
        await stream.write(HEARTBEAT)


def _kinds(text: str) -> frozenset[str]:
    """Raises: SurfaceError."""
    kinds = frozenset(word.strip() for word in text.split(",") if word.strip())
    if not kinds or not kinds <= set(KINDS):
        raise bad_parameter("types", f"must be some of {', '.join(KINDS)}")
    return kinds


NAMESPACE = Parameter(
    "namespace",
    "Of the events, those alone that are about objects of this namespace.",
    default="",
    most=63,
)

ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/realtime/events",
        events,
        Right.READ,
        "Server-sent events `status`, `event` and `metrics`; `gap` says that some were missed.",
        '-N --max-time 2 -H "Authorization: Bearer $TOKEN" $URL/api/realtime/events',
        parameters=(
            Parameter("types", "Which events, separated by commas.", default=",".join(KINDS)),
            NAMESPACE,
            Parameter(
                "lastEventId", "Id of the last event, where the header Last-Event-ID cannot be sent.", default=""
            ),
        ),
        takes_ticket=True,
        answer="text/event-stream",
    ),
)

"""Requests to a route as they end, for people who watch: server-sent events, from this process's edge alone.

Lines hold visitors' addresses and paths, so that they need what reading logs needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from towline.control.access.actor import AccessLost
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.access.throttle import throttled
from towline.control.jobs.follow import EVENT_STREAM, KEEP_ALIVE, sse
from towline.gateway.request_tail import RequestTail, TailLine, TooManyWatchers

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

router = APIRouter(prefix="/api/v1", tags=["routes"])

CanWatch = Annotated[Access, needs(Permission.LOGS_READ)]
SILENCE = 10.0
"""Seconds after which a silent stream says that it lives."""
MOST_LINES = 500


class RequestLine(BaseModel):
    """One finished request."""

    at: datetime
    route: str
    request_id: str
    address: str
    method: str
    host: str
    path: str
    status: int
    received_bytes: int
    sent_bytes: int
    seconds: float
    outcome: str


@router.get(
    "/routes/{route}/tail",
    response_model=list[RequestLine],
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def tail(
    request: Request,
    access: CanWatch,
    route: str,
    last: Annotated[int, Query(ge=0, le=MOST_LINES, description="Begin with so many requests of before.")] = 20,
    follow: Annotated[bool, Query(description="Go on with server-sent events as requests end.")] = True,
    failed: Annotated[
        bool, Query(description="Only those that were answered with 400 or more, or not at all.")
    ] = False,
) -> Response:
    """Show the last requests to a route, and then each as it ends: `request` events, `dropped` when too many came."""
    control: ControlPlane = request.app.state.control
    view = await control.routes.get(access, route)
    resource = await control.routes.watched(access, view.row.id, Permission.LOGS_READ)
    route_id = view.row.id

    def wanted(line: TailLine) -> bool:
        return line.route_id == route_id and (not failed or line.status >= 400 or line.status == 0)

    before = control.requests.last(wanted, last) if last else []
    if not follow:
        return JSONResponse([shown(line) for line in before])
    stream = _stream(access, resource, control.requests, wanted, before)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers={"cache-control": "no-store"})


async def _stream(
    access: Access, resource: Resource, requests: RequestTail, wanted: Any, before: list[TailLine]
) -> AsyncIterator[bytes]:
    try:
        watcher = requests.watch(wanted)
    except TooManyWatchers:
        yield sse("end", throttled("watchers of requests", 10).body())
        return
    try:
        for line in before:
            yield sse("request", shown(line))
        yield KEEP_ALIVE
        dropped = 0
        async with access.watch(Permission.LOGS_READ, resource):
            while True:
                lines = await watcher.next(SILENCE)
                if watcher.dropped != dropped:
                    yield sse("dropped", {"count": watcher.dropped - dropped})
                    dropped = watcher.dropped
                yield b"".join(sse("request", shown(line)) for line in lines) or KEEP_ALIVE
    except AccessLost as error:
        yield sse("end", error.body())
    finally:
        watcher.close()


def shown(line: TailLine) -> dict[str, Any]:
    """Return the JSON of a request."""
    found = asdict(line)
    found["at"] = datetime.fromtimestamp(found["at"], UTC).isoformat().replace("+00:00", "Z")
    found["seconds"] = round(found["seconds"], 4)
    del found["route_id"]
    return found

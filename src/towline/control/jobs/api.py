"""REST routes of jobs. Thin: permission, call, shape."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from towline.control.access.actor import AccessLost
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.fleet import Fleet
from towline.control.jobs.follow import EVENT_STREAM, KEEP_ALIVE, follow, show_event, sse
from towline.control.jobs.models import Job
from towline.control.jobs.service import show
from towline.control.listing import ListQuery, Page, list_query

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

CanRead = Annotated[Access, needs(Permission.JOB_READ)]
CanCancel = Annotated[Access, needs(Permission.JOB_CANCEL)]
MOST_EVENTS = 5000
"""Events of one answer without `follow`; ask again with `after` for more."""


class Named(BaseModel):
    id: str
    name: str


class JobOut(BaseModel):
    id: str
    kind: str
    cluster: Named
    deployment: Named | None
    project: str
    state: str
    stage: str
    error: str
    code: str
    attempt: int
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    last_seq: int
    detail: dict[str, Any]


class JobEventOut(BaseModel):
    seq: int
    at: datetime
    stage: str
    text: str
    service: str
    level: str
    current: int
    total: int


def _fleet(request: Request) -> Fleet:
    fleet: Fleet = request.app.state.control.fleet
    return fleet


@router.get("")
async def list_jobs(
    request: Request,
    access: CanRead,
    asked: Annotated[ListQuery, Depends(list_query)],
    cluster: Annotated[str, Query(max_length=64)] = "",
    deployment: Annotated[str, Query(max_length=64, description="Id of a deployment.")] = "",
    state: Annotated[list[str], Query()] = [],  # noqa: B006
    kind: Annotated[list[str], Query()] = [],  # noqa: B006
) -> Page[JobOut]:
    """List jobs, newest first."""
    found, names = await _fleet(request).jobs.page(
        access, asked, cluster=cluster, deployment_id=deployment, states=state, kinds=kind
    )
    items = [_out(job, names.get(job.cluster_id, ""), access) for job in found.rows]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total)


@router.get("/{job}")
async def get_job(request: Request, access: CanRead, job: str) -> JobOut:
    """Show one job."""
    return _out(*await _fleet(request).jobs.get(access, job), access)


@router.post("/{job}/cancel", status_code=202)
async def cancel_job(request: Request, access: CanCancel, job: str) -> JobOut:
    """Cancel a job: at once while nobody has begun it, else its agent stops it as soon as that is safe."""
    return _out(*await _fleet(request).jobs.request_cancel(access, job), access)


@router.get(
    "/{job}/events",
    response_model=list[JobEventOut],
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def job_events(
    request: Request,
    access: CanRead,
    job: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only events behind this number.")] = 0,
    follow: Annotated[bool, Query(description="Go on with server-sent events until the job ends.")] = False,
) -> Response:
    """Show what happened in a job; with `follow`, or asked for an event stream, also what happens next."""
    fleet, control = _fleet(request), request.app.state.control
    last = request.headers.get("last-event-id", "")
    after = max(after, int(last)) if last.isascii() and last.isdigit() and len(last) < 10 else after
    async with control.db.read() as tx:
        row, resource = await fleet.jobs.find(tx, access, job)
        if not follow and EVENT_STREAM not in request.headers.get("accept", ""):
            events = await fleet.jobs.events(tx, row.id, after, MOST_EVENTS)
            shows = await fleet.jobs.reader(tx, access, row)
            return JSONResponse([show_event(event) for event in events if shows(event)])
        name = (await fleet.jobs.get(access, job))[1]
    stream = _stream(request, access, resource, row.id, name, after)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers={"cache-control": "no-store"})


async def _stream(
    request: Request, access: Access, resource: Resource, job_id: str, cluster_name: str, after: int
) -> AsyncIterator[bytes]:
    control = request.app.state.control
    shown: dict[str, Any] = {}
    try:
        async with access.watch(Permission.JOB_READ, resource):
            async for news in follow(control.db, control.bus, job_id, after):
                if news is None:
                    yield KEEP_ALIVE
                    continue
                job, events = news
                async with control.db.read() as tx:
                    if control.fleet.jobs.is_discreet(job.kind):  # a stream outlives the right to read it
                        access = await control.access.renewed(tx, access)
                    shows = await control.fleet.jobs.reader(tx, access, job)
                for event in filter(shows, events):
                    yield sse("progress", show_event(event), id=event.seq)
                if show(job, cluster_name, access)["state"] != shown.get("state"):
                    shown = show(job, cluster_name, access)
                    yield sse("state", shown)
            yield sse("end", shown)
    except AccessLost as error:
        yield sse("end", error.body())


def _out(job: Job, cluster_name: str, access: Access) -> JobOut:
    return JobOut.model_validate(show(job, cluster_name, access))

"""REST routes of recorded sessions and of what is recorded. Thin: permission, call, shape."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.listing import ListQuery, Page, list_query, page
from towline.control.recordings import asciicast
from towline.control.recordings.models import Recording
from towline.control.recordings.schemas import PolicyNow, PolicyOut, PolicyRules, RecordingOut
from towline.control.recordings.service import Recordings, title

router = APIRouter(prefix="/api/v1", tags=["recordings"])

Anybody = Annotated[Access, needs(Permission.SELF)]
Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
Manager = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Remover = Annotated[Access, needs(Permission.RECORDING_REMOVE)]
Asked = Annotated[ListQuery, Depends(list_query)]
Word = Annotated[str, Query(max_length=255)]
_SHOWN = (
    "id", "cluster_id", "kind", "action", "namespace", "project", "target", "container", "command", "tty", "keys",
    "address", "request_id", "began_at", "ended_at", "expires_at", "state", "reason", "seconds", "columns", "rows",
    "shown_bytes", "dropped_bytes", "stored_bytes", "exit",
)  # fmt: skip


def recordings_of(request: Request) -> Recordings:
    service: Recordings = request.app.state.control.recordings
    return service


@router.get("/recordings")
async def list_recordings(
    request: Request,
    access: Anybody,
    asked: Asked,
    user: Word = "",
    cluster: Word = "",
    namespace: Word = "",
    target: Annotated[str, Query(max_length=255, description="A pod; on a Docker host a service or container.")] = "",
    state: Annotated[Literal["", "running", "whole", "partial", "broken"], Query()] = "",
) -> Page[RecordingOut]:
    """List the recorded sessions that the caller may play: their own, and those of places that they administer."""
    found = await recordings_of(request).page(
        access, asked, user_name=user, cluster_name=cluster, namespace=namespace, target=target, state=state
    )
    return page(found, shown)


@router.get("/recordings/{recording}")
async def get_recording(request: Request, access: Anybody, recording: str) -> RecordingOut:
    """Show one recorded session, without what was shown in it."""
    return shown(await recordings_of(request).get(access, recording))


@router.get(
    "/recordings/{recording}/cast",
    response_class=StreamingResponse,
    responses={200: {"content": {asciicast.MEDIA_TYPE: {}}}},
)
async def get_cast(
    request: Request, access: Anybody, recording: str, how: Literal["play", "download"] = "download"
) -> StreamingResponse:
    """Return a recording as asciicast v2; each time goes into the audit log."""
    row, lines = await recordings_of(request).play(access, recording, how)
    headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{row.id}.cast"'}
    return StreamingResponse(lines, media_type=asciicast.MEDIA_TYPE, headers=headers)


@router.delete("/recordings/{recording}", status_code=204)
async def remove_recording(request: Request, access: Remover, recording: str) -> Response:
    """Remove a recording before its time. Owners only: it is evidence."""
    await recordings_of(request).remove(access, recording)
    return Response(status_code=204)


@router.get("/clusters/{cluster}/recording-policy")
async def get_recording_policy(request: Request, access: Reader, cluster: str) -> PolicyOut:
    """Show what is recorded on a cluster: its own rules, and what they come to with the settings."""
    name, own, policy = await recordings_of(request).policy_of(access, cluster)
    return PolicyOut(cluster=name, own=PolicyRules(**own), now=PolicyNow(**policy.as_json()))


@router.put("/clusters/{cluster}/recording-policy")
async def set_recording_policy(request: Request, access: Manager, cluster: str, body: PolicyRules) -> PolicyOut:
    """Replace a cluster's own rules. Sessions that run keep those they began with."""
    rules = body.model_dump(mode="json", exclude_none=True)
    await recordings_of(request).set_policy(access, cluster, rules)
    return await get_recording_policy(request, access, cluster)


def shown(row: Recording) -> RecordingOut:
    """Return the JSON of a recording."""
    fields = {name: getattr(row, name) for name in _SHOWN}
    return RecordingOut(title=title(row), cluster=row.cluster_name, user=row.user_name, **fields)

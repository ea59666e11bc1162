"""Pages of recorded sessions: the list, and the player. Rules are the API's."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.errors import ApiError
from towline.control.listing import ListQuery, list_query
from towline.control.recordings import api
from towline.control.recordings.schemas import PolicyRules
from towline.control.web import CSP_TERMINAL, Notice, redirect
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Anybody = Annotated[Access, needs(Permission.SELF)]
Manager = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Remover = Annotated[Access, needs(Permission.RECORDING_REMOVE)]
STATES = ("running", "whole", "partial", "broken")


@router.get("/recordings")
async def recordings_page(
    request: Request, access: Anybody, asked: Annotated[ListQuery, Depends(list_query)], user: str = "",
    cluster: str = "", namespace: str = "", target: str = "", state: str = "",
) -> Response:  # fmt: skip
    """Show the sessions that the user may play."""
    filters = {"search": asked.search, "user": user, "cluster": cluster, "namespace": namespace, "target": target}
    filters["state"] = state if state in STATES else ""
    wanted = {key: value for key, value in filters.items() if key != "search"}
    found = await api.list_recordings(request, access, asked, **wanted)  # type: ignore[arg-type]
    page: Response = request.app.state.control.web.page(
        request, "recordings/list.html", access=access, section="audit", page=found.model_dump(), filters=filters,
        states=STATES, page_url=with_query("/recordings", dict(filters)), is_filtered=any(filters.values()),
        sees_all=access.may(Permission.RECORDING_READ, Resource(access.org_id)),
    )  # fmt: skip
    return page


@router.get("/recordings/{recording}")
async def recording_page(request: Request, access: Anybody, recording: str) -> Response:
    """Show one session, with a player."""
    found = await api.get_recording(request, access, recording)
    page: Response = request.app.state.control.web.page(
        request, "recordings/recording.html", access=access, section="audit", recording=found, csp=CSP_TERMINAL,
        removable=access.rights.gives(Permission.RECORDING_REMOVE) and found.state != "running",
    )  # fmt: skip
    return page


@router.post("/recordings/{recording}/remove")
async def remove_recording(request: Request, access: Remover, recording: str) -> Response:
    """Remove a recording whose user was typed."""
    form = await forms.read(request)
    found = await api.get_recording(request, access, recording)
    if form.line("confirm") != found.user:
        return redirect(request, f"/recordings/{recording}", Notice("error", f"type {found.user} to remove it"))

    async def action() -> None:
        await api.remove_recording(request, access, recording)

    return await forms.act(request, "/recordings", "the recording was removed", action)


@router.post("/clusters/{cluster}/recording-policy")
async def change_policy(request: Request, access: Manager, cluster: str) -> Response:
    """Save what is recorded on a cluster; an empty field follows the settings."""
    form = await forms.read(request)
    url = f"/clusters/{cluster}/settings"
    chosen = {name: form.line(name) for name in ("mode", "on_loss", "on_unreadable", "keys", "minutes", "keep_days")}
    rules: dict[str, object] = {name: value for name, value in chosen.items() if value}
    names = [name.strip() for name in form.line("namespaces").split(",") if name.strip()]
    try:
        asked = forms.body(PolicyRules, **rules, **({"namespaces": names} if names else {}))
        await api.set_recording_policy(request, access, cluster, asked)
    except ApiError as error:
        return redirect(request, url, Notice("error", error.message, error.hint))
    return redirect(request, url, Notice("done", "saved; sessions that run keep the rules they began with"))

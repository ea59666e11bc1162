"""The page of agents of older systems: tokens for them, and what to set there. Rules are the API's."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import SecretStr

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.listing import ListQuery, list_query
from towline.control.protocols import api
from towline.control.protocols.api import CompatTokenMinted, CompatTokenRequest, OpenRequest
from towline.control.protocols.pipeops import routes_api as pipeops
from towline.control.protocols.words import SYSTEMS, settings_of
from towline.control.web import Notice

router = APIRouter(include_in_schema=False)

PLACE = "/fleet/join/older"
Manager = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Joiner = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
Asked = Annotated[ListQuery, Depends(list_query)]
WINDOW = 24 * 3600.0
"""Seconds that the page's button opens a shared token for."""


@router.get(PLACE)
async def older_agents_page(request: Request, access: Joiner, asked: Asked) -> Response:
    """List the tokens of older agents and ask for a new one."""
    return await _page(request, access, asked)


@router.post(PLACE)
async def make_older_token(request: Request, access: Joiner) -> Response:
    """Make a token and show, this once, what to set on the host."""
    form = await forms.read(request)
    notices: list[Notice] = []
    made: CompatTokenMinted | None = None
    async with forms.noticed(notices):
        secret = form.line("secret")
        wanted = forms.body(
            CompatTokenRequest, protocol=form.line("protocol"), cluster=form.line("cluster") or None,
            shared=form.checked("shared"), labels=forms.labels(form.line("labels")),
            open_for=form.number("open_for", 0), secret=SecretStr(secret) if secret else None,
        )  # fmt: skip
        made = await api.create_compat_token(request, access, wanted)
    return await _page(request, access, ListQuery(), made, tuple(notices))


@router.post(PLACE + "/{token_id}/{word}")
async def act_on_older_token(request: Request, access: Joiner, token_id: str, word: str) -> Response:
    """Open, close or revoke a token."""
    if word == "revoke":
        return await forms.act(
            request, PLACE, "the token was revoked", lambda: api.revoke_compat_token(request, access, token_id)
        )
    seconds = WINDOW if word == "open" else 0.0
    done = "agents that come within a day need no approval" if seconds else "agents need approval again"
    body = OpenRequest(seconds=seconds)
    return await forms.act(request, PLACE, done, lambda: api.open_compat_token(request, access, token_id, body))


async def _page(
    request: Request,
    access: Access,
    asked: ListQuery,
    made: CompatTokenMinted | None = None,
    notices: tuple[Notice, ...] = (),
) -> Response:
    found = await api.list_compat_tokens(request, access, asked)
    lines = settings_of(made.protocol, request.app.state.control.addresses().origin, made.token) if made else ""
    page: Response = request.app.state.control.web.page(
        request, "clusters/join_older.html", access=access, section="fleet", page=found.model_dump(), made=made,
        lines=lines, systems=SYSTEMS, notices=notices, page_url=PLACE, now=request.app.state.control.clock.now(),
    )  # fmt: skip
    if made is not None:
        page.headers["cache-control"] = "no-store"
    return page


@router.post("/clusters/{name}/registered-token")
async def switch_registered_token(request: Request, access: Manager, name: str) -> Response:
    """Allow or forbid to use the token that a cluster's PipeOps agent registered."""
    form = await forms.read(request)
    allowed = form.line("allowed") == "true"
    done = f"the registered token is {'used' if allowed else 'not used'} from now on"
    wanted = pipeops.RegisteredToken(allowed=allowed)
    return await forms.act(
        request,
        f"/clusters/{name}/settings",
        done,
        lambda: pipeops.set_registered_token(request, access, name, wanted),
    )

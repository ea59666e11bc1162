"""Pages of domains: which names the organisation may publish, the record that proves each, and the gateway's own."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.domains.api import shown
from towline.control.domains.resolver import record_to
from towline.control.domains.schemas import DomainRequest
from towline.control.domains.service import Domains
from towline.control.errors import ApiError
from towline.control.routes.pages import TABS, Asked, Reader, gateway_of
from towline.control.web import Notice, redirect
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Manager = Annotated[Access, needs(Permission.DOMAIN_MANAGE)]


def _domains(request: Request) -> Domains:
    service: Domains = request.app.state.control.domains
    return service


@router.get("/domains")
async def list_page(request: Request, access: Reader, asked: Asked, test: Annotated[bool, Query()] = False) -> Response:
    """Show every domain with the record that proves it; with `test` the gateway's own name is looked up now."""
    found = await _domains(request).page(access, asked)
    gateway = gateway_of(request)
    domain = gateway.ownership().gateway_domain
    looked = await gateway.status() if domain and test else None
    page: Response = request.app.state.control.web.page(
        request, "domains/list.html", access=access, section="routes", tabs=TABS, tab="domains",
        rows=[shown(row) for row in found.rows], filters={"search": asked.search}, sort=asked.sort or "name",
        page={"items": found.rows, "next_cursor": found.next_cursor, "total": found.total}, domain=domain,
        record_to=record_to(gateway.public_name()), gateway=looked, tested=test,
        sort_url=with_query("/domains", {"search": asked.search}),
        page_url=with_query("/domains", {"search": asked.search, "sort": asked.sort}),
        may={"manage": access.may(Permission.DOMAIN_MANAGE, Resource(access.org_id))},
    )  # fmt: skip
    return page


@router.post("/domains")
async def add(request: Request, access: Manager) -> Response:
    """Add a domain; the list has its record then."""
    form = await forms.read(request)
    try:
        made = await _domains(request).add(access, forms.body(DomainRequest, name=form.line("name")).name)
        done = Notice("working", f"{made.name} was added; set its record, then verify it")
        return redirect(request, f"/domains#{quote(made.id)}", done)
    except ApiError as error:
        return redirect(request, "/domains", Notice("error", error.message, error.hint))


@router.post("/domains/{name}/verify")
async def verify(request: Request, access: Manager, name: str) -> Response:
    """Look for the proof in DNS now."""
    return await forms.act(
        request, "/domains", f"{name} is verified: its routes were decided anew",
        lambda: _domains(request).verify(access, name),
    )  # fmt: skip


@router.post("/domains/{name}/remove")
async def remove(request: Request, access: Manager, name: str) -> Response:
    """Give a domain up when its name was typed."""
    form = await forms.read(request)
    if form.line("confirm") != name:
        return redirect(request, "/domains", Notice("error", f"type {name} to give it up"))
    return await forms.act(request, "/domains", f"{name} was given up", lambda: _domains(request).remove(access, name))

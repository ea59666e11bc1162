"""Pages of one route: the way to its target from end to end, live requests, settings. Rules are the service's."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import ApiError
from towline.control.listing import ListQuery
from towline.control.routes import option_fields, tail, words
from towline.control.routes.pages import Reader, Writer, gateway_of, passwords, rare, target
from towline.control.routes.schemas import RouteOut, RoutePatch
from towline.control.routes.service import View, Wanted
from towline.control.routes.states import DECLARED
from towline.control.routes.views import shown
from towline.control.web import Notice, redirect

router = APIRouter(include_in_schema=False)

Watcher = Annotated[Access, needs(Permission.LOGS_READ)]
PLACE = "/routes/{route}"
FIRST_LINES = 200
"""Requests of before that the page begins with."""
RIVALS = 50
"""Routes with the same host that are looked at for the one that holds its name."""


@router.get(PLACE)
async def overview_page(
    request: Request, access: Reader, route: str, test: Annotated[bool, Query()] = False
) -> Response:
    """Show the way to the target as lights; with `test` each is looked at now."""
    gateway = gateway_of(request)
    view = await gateway.routes.get(access, route)
    found = shown(gateway, view)
    lights = (await gateway.checks.check(access, route)).lights if test else words.untested(found)
    head = await _head(request, access, view, "overview")
    page: Response = request.app.state.control.web.page(
        request, "routes/overview.html", access=access, lamps=words.lamps(lights), tested=test,
        options=option_fields.words(found.options), source=words.SOURCES.get(found.source, found.source),
        rival=await _rival(request, access, found), **head,
        figures=words.figures(request.app.state.control.figures.find(found.id)),
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/requests")
async def requests_page(request: Request, access: Watcher, route: str) -> Response:
    """Show the last requests; the page's script goes on with those that end."""
    gateway, control = gateway_of(request), request.app.state.control
    view = await gateway.routes.get(access, route)
    await gateway.routes.watched(access, view.row.id, Permission.LOGS_READ)
    lines = control.requests.last(lambda line: line.route_id == view.row.id, FIRST_LINES)
    page: Response = control.web.page(
        request, "routes/requests.html", access=access, lines=[tail.shown(line) for line in reversed(lines)],
        tail_url=f"/api/v1/routes/{quote(view.row.id)}/tail?last={FIRST_LINES}",
        **await _head(request, access, view, "requests"),
    )  # fmt: skip
    return page


@router.get(f"{PLACE}/settings")
async def settings_page(request: Request, access: Writer, route: str) -> Response:
    """Show what can be changed about a route."""
    view = await gateway_of(request).routes.get(access, route)
    found = shown(gateway_of(request), view)
    form = {
        "host": found.host, "path": found.path, "path_type": found.path_type,
        "to": found.targets[0].to if found.targets else "",
        "clusters": ", ".join(one.cluster.name for one in found.targets),
    }  # fmt: skip
    return await _settings(request, access, view, form, option_fields.groups(found.options, rare=rare(request)))


async def _settings(
    request: Request, access: Access, view: View, form: dict[str, str], groups: list[option_fields.Group],
    notices: tuple[Notice, ...] = (),
) -> Response:  # fmt: skip
    head = await _head(request, access, view, "settings")
    page: Response = request.app.state.control.web.page(
        request, "routes/settings.html", access=access, form=form, groups=groups, choices=option_fields.CHOICES,
        users=head["route"].users, notices=notices, **head,
    )  # fmt: skip
    return page


async def _head(request: Request, access: Access, view: View, tab: str) -> dict[str, Any]:
    gateway = gateway_of(request)
    route = shown(gateway, view)
    base = words.page_of(route)
    may = {"write": route.id in await gateway.routes.writable(access, [view])}
    tabs = [("overview", base, "Overview")]
    tabs += [("requests", f"{base}/requests", "Live requests")] if await _may_watch(request, access, view) else []
    tabs += [("settings", f"{base}/settings", "Settings")] if may["write"] else []
    return {
        "section": "routes", "route": route, "said": words.state(route), "base": base, "tabs": tabs, "tab": tab,
        "may": may, "declared": route.source == DECLARED,
    }  # fmt: skip


async def _may_watch(request: Request, access: Access, view: View) -> bool:
    try:
        await gateway_of(request).routes.watched(access, view.row.id, Permission.LOGS_READ)
    except ApiError:
        return False
    return True


async def _rival(request: Request, access: Access, route: RouteOut) -> str:
    """Return the name of the route that holds what this one wants, when the reader may see it."""
    if route.state != "conflict":
        return ""
    routes = gateway_of(request).routes
    found = await routes.page(access, ListQuery(limit=RIVALS, search=route.host), Wanted(("active", "leaving")))
    same = (route.host, route.path, route.path_type)
    holders = (view.row.name for view in found.rows if (view.row.host, view.row.path, view.row.path_type) == same)
    return next(holders, "")


# -- actions -----------------------------------------------------------------------------------


@router.post(f"{PLACE}/settings")
async def save(request: Request, access: Writer, route: str) -> Response:
    """Save host, path, target and options."""
    form, gateway = await forms.read(request), gateway_of(request)
    notices: list[Notice] = []
    try:
        patch = forms.body(
            RoutePatch, host=form.line("host") or None, path=form.line("path") or None,
            path_type=form.line("path_type") or None, to=target(form),
            clusters=form.line("clusters").replace(",", " ").split() or None,
            options=option_fields.typed(form), passwords={} if form.checked("no_passwords") else passwords(form),
        )  # fmt: skip
        await gateway.routes.change(access, route, patch)
        return redirect(request, f"/routes/{quote(route)}", Notice("done", "saved; the gateway knows already"))
    except ApiError as error:
        notices.append(Notice("error", error.message, error.hint))
    typed = {key: form.line(key) for key in ("host", "path", "path_type", "to", "clusters")}
    view = await gateway.routes.get(access, route)
    return await _settings(
        request, access, view, typed, option_fields.as_typed(form, rare=rare(request)), tuple(notices)
    )


@router.post(f"{PLACE}/switch")
async def switch(request: Request, access: Writer, route: str) -> Response:
    """Switch a route on or off."""
    form = await forms.read(request)
    on = form.line("to") == "on"
    done = f"{route} is switched {'on' if on else 'off: its name answers 404'}"
    patch = RoutePatch(enabled=on)
    return await forms.act(
        request, f"/routes/{quote(route)}", done, lambda: gateway_of(request).routes.change(access, route, patch)
    )


@router.post(f"{PLACE}/remove")
async def remove(request: Request, access: Writer, route: str) -> Response:
    """Take a route away when its name was typed."""
    form = await forms.read(request)
    here = f"/routes/{quote(route)}/settings"
    name = (await gateway_of(request).routes.get(access, route)).row.name
    if form.line("confirm") != name:
        return redirect(request, here, Notice("error", f"type {name} to take it away"))
    try:
        await gateway_of(request).routes.remove(access, route)
        return redirect(request, "/routes", Notice("done", f"{name} is published no more"))
    except ApiError as error:
        return redirect(request, here, Notice("error", error.message, error.hint))

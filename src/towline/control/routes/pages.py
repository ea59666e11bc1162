"""Pages of published routes: the list with its proposals, and publishing. Rules are the service's.

One route's pages are in `route_pages`, a cluster's in `cluster_pages`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.domains.names import label
from towline.control.errors import ApiError
from towline.control.listing import LARGEST_LIMIT, Listed, ListQuery, list_query
from towline.control.routes import offers, option_fields, words
from towline.control.routes.schemas import RouteOut, RouteRequest
from towline.control.routes.service import View, Wanted
from towline.control.routes.views import shown
from towline.control.web import Notice, redirect
from towline.control.web import query as with_query

if TYPE_CHECKING:
    from towline.control.routes.feature import Gateway

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.ROUTE_READ)]
Writer = Annotated[Access, needs(Permission.ROUTE_WRITE)]
Asked = Annotated[ListQuery, Depends(list_query)]
Word = Annotated[str, Query(max_length=64)]
TargetText = Annotated[str, Query(max_length=500)]
MOST_PROPOSALS = LARGEST_LIMIT
"""Counted above the list: more are said to be more."""
MOST_CHOICES = 100
"""Clusters that a filter lists; with more it is typed."""
VERIFIED_SHOWN = 5
"""Domains that the publish form names as places for a host."""
TABS = (
    ("routes", "/routes", "Routes"),
    ("domains", "/domains", "Domains"),
    ("certificates", "/certificates", "Certificates"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One route in a list."""

    route: RouteOut
    said: words.Said
    may_write: bool


def gateway_of(request: Request) -> "Gateway":
    gateway: Gateway = request.app.state.control.gateway
    return gateway


async def rows_of(request: Request, access: Access, views: Sequence[View]) -> list[Row]:
    """Return routes as lists show them, with what the reader may do."""
    gateway = gateway_of(request)
    mine = await gateway.routes.writable(access, views)
    routes = [shown(gateway, view) for view in views]
    return [Row(route, words.state(route), route.id in mine) for route in routes]


@router.get("/routes")
async def list_page(
    request: Request, access: Reader, asked: Asked, state: Word = "", source: Word = "", cluster: Word = ""
) -> Response:
    """Show what is published, with the state of each, and what waits for somebody to accept it."""
    gateway, filters = (
        gateway_of(request),
        {"search": asked.search, "state": state, "source": source, "cluster": cluster},
    )
    wanted = Wanted((state,) if state in words.STATES else (), (source,) if source in words.SOURCES else (), cluster)
    notices: list[Notice] = []
    found: Listed[View] = Listed([], None, 0)
    async with forms.noticed(notices):
        found = await gateway.routes.page(access, asked, wanted)
    choices = await _choices(request, access, Permission.ROUTE_READ)
    page: Response = request.app.state.control.web.page(
        request, "routes/list.html", access=access, section="routes", tabs=TABS, tab="routes", notices=notices,
        rows=await rows_of(request, access, found.rows), filters=filters, sort=asked.sort or "name",
        page={"items": found.rows, "next_cursor": found.next_cursor, "total": found.total},
        filtered=any(filters.values()), page_of=words.page_of, sort_url=with_query("/routes", dict(filters)),
        page_url=with_query("/routes", filters | {"sort": asked.sort}),
        proposals=await proposals(request, access), sources=words.SOURCES, states=words.STATES,
        clusters=choices if len(choices) <= MOST_CHOICES else None, domain=gateway.ownership().gateway_domain,
        may={"publish": access.rights.gives(Permission.ROUTE_WRITE)},
    )  # fmt: skip
    return page


async def proposals(request: Request, access: Access) -> list[tuple[str, int]]:
    """Return the clusters with proposals that the reader may accept, and how many of them."""
    if not access.rights.gives(Permission.ROUTE_WRITE):
        return []
    routes = gateway_of(request).routes
    found = await routes.page(access, ListQuery(limit=MOST_PROPOSALS), Wanted(("proposed",)))
    mine = await routes.writable(access, found.rows)
    counted = Counter(view.names.get(view.row.cluster_id or "", "") for view in found.rows if view.row.id in mine)
    return sorted((name, count) for name, count in counted.items() if name)


# -- accepting ---------------------------------------------------------------------------------


@router.post("/routes/accept")
async def accept_all(request: Request, access: Writer) -> Response:
    """Accept every proposal of a cluster."""
    form = await forms.read(request)
    cluster, back = form.line("cluster"), _back(form)
    try:
        count = await gateway_of(request).routes.accept_all(access, cluster)
    except ApiError as error:
        return redirect(request, back, Notice("error", error.message, error.hint))
    return redirect(request, back, Notice("done", f"{count} of {cluster} accepted"))


@router.post("/routes/{route}/decide")
async def decide(request: Request, access: Writer, route: str) -> Response:
    """Accept or refuse what a source claims."""
    form = await forms.read(request)
    word = "accepted" if form.line("decision") == "accepted" else "refused"
    return await forms.act(
        request, _back(form), f"{route} was {word}", lambda: gateway_of(request).routes.decide(access, route, word)
    )


def _back(form: forms.Form) -> str:
    return forms.local_path(form.line("back") or "/routes")


# -- publishing --------------------------------------------------------------------------------


@router.get("/routes/new")
async def new_page(
    request: Request, access: Writer, cluster: Word = "", to: TargetText = "", name: Word = "", host: TargetText = ""
) -> Response:
    """Ask what to publish, and under which name."""
    form = {"name": name or suggested_name(to), "to": to, "host": host, "path": "/", "path_type": "prefix"}
    return await _form(request, access, cluster, form, option_fields.groups({}, rare=rare(request)))


@router.post("/routes/new")
async def publish(request: Request, access: Writer) -> Response:
    """Publish what was chosen. What was typed is kept when it cannot be."""
    form = await forms.read(request)
    notices: list[Notice] = []
    try:
        asked = forms.body(
            RouteRequest, name=form.line("name"), to=target(form), host=form.line("host"),
            clusters=[form.line("cluster"), *_more(form)] if form.line("cluster") else [],
            path=form.line("path") or "/", path_type=form.line("path_type") or "prefix",
            options={key: value for key, value in option_fields.typed(form).items() if value is not None},
            passwords=passwords(form),
        )  # fmt: skip
        made = shown(gateway_of(request), await gateway_of(request).routes.create(access, asked))
        return redirect(request, words.page_of(made), Notice("done", f"{made.name} is published at {made.url}"))
    except ApiError as error:
        notices.append(Notice("error", error.message, error.hint))
    typed = {key: form.line(key) for key in ("name", "to", "address", "port", "host", "path", "path_type", "also")}
    return await _form(
        request, access, form.line("cluster"), typed, option_fields.as_typed(form, rare=rare(request)), notices
    )


def target(form: forms.Form) -> str:
    """Return the target that was chosen, or typed as an address."""
    chosen, port = form.line("to"), form.line("port")
    if not chosen:
        typed = form.line("address")
        return typed if "/" in typed else f"tcp/{typed}"
    return f"{chosen.rpartition(':')[0]}:{port}" if port else chosen


def _more(form: forms.Form) -> list[str]:
    return [name for name in form.line("also").replace(",", " ").split() if name != form.line("cluster")]


def passwords(form: forms.Form) -> dict[str, str] | None:
    """Return the visitors that were typed; None when there are none."""
    pairs = zip(form.all("visitor"), form.all("visitor_password"), strict=False)
    return {name.strip(): secret for name, secret in pairs if name.strip()} or None


def suggested_name(to: str) -> str:
    """Return what a route to a target could be called."""
    return label(to.rpartition("/")[2].partition(":")[0])


async def _form(
    request: Request, access: Access, cluster: str, form: dict[str, str], groups: Sequence[option_fields.Group],
    notices: Sequence[Notice] = (),
) -> Response:  # fmt: skip
    choices = await _choices(request, access, Permission.ROUTE_WRITE)
    present = [one.name for one in choices if one.connected] + [one.name for one in choices]
    chosen = cluster or (present[0] if present else "")
    domain = gateway_of(request).ownership().gateway_domain
    found = await offers.of_cluster(request, access, chosen) if chosen else offers.Offers()
    form = {"address": "", "port": "", "also": ""} | form | {"to": found.best(form["to"])}
    page: Response = request.app.state.control.web.page(
        request, "routes/new.html", access=access, section="routes", notices=list(notices), clusters=choices,
        cluster=chosen, form=form, groups=groups,
        choices=option_fields.CHOICES, offers=found, domain=domain,
        verified=await _verified(request, access), label=label, users=(),
    )  # fmt: skip
    return page


def rare(request: Request) -> bool:
    """Tell whether the server has ports for routes that are no HTTP."""
    return bool(request.app.state.control.settings.tcp_ports)


async def _choices(request: Request, access: Access, permission: Permission) -> Sequence[Any]:
    found: Sequence[Any] = await request.app.state.control.fleet.clusters.choices(access, permission)
    return found


async def _verified(request: Request, access: Access) -> list[str]:
    """Return some domains of the organisation: where a host may be."""
    found = await request.app.state.control.domains.page(access, ListQuery(sort="-state", limit=VERIFIED_SHOWN))
    return [row.name for row in found.rows if row.state == "verified"]

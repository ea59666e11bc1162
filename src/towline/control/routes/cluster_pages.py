"""The routes of one cluster: what leads to it, and what its own ingresses, HTTPRoutes and labels may publish."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.clusters import api as clusters_api
from towline.control.clusters import pages as cluster_pages
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import heading
from towline.control.routes import words
from towline.control.routes.pages import Asked, Reader, gateway_of, proposals, rows_of
from towline.control.routes.schemas import ClusterGatewayPatch
from towline.control.routes.service import Wanted
from towline.control.routes.views import shown_sources
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Manager = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
PLACE = "/clusters/{name}/routes"
MODES = {
    "automatic": "go live by themselves",
    "proposals": "wait until somebody accepts them",
    "off": "are refused",
}
WATCHING = {"auto": "only while the cluster is private", "on": "always", "off": "never"}


@router.get(PLACE)
async def cluster_routes(request: Request, access: Reader, name: str, asked: Asked) -> Response:
    """Show the routes that lead to a cluster, and what its own sources may publish."""
    gateway = gateway_of(request)
    head = await _head(request, access, name)
    found = await gateway.routes.page(access, asked, Wanted(cluster=name))
    base = f"/clusters/{quote(name)}/routes"
    waiting = dict(await proposals(request, access)).get(head["cluster"].name, 0)
    page: Response = request.app.state.control.web.page(
        request, "routes/cluster.html", **head, rows=await rows_of(request, access, found.rows),
        page={"items": found.rows, "next_cursor": found.next_cursor, "total": found.total}, page_of=words.page_of,
        sort=asked.sort or "name", sort_url=with_query(base, {"search": asked.search}), sources=words.SOURCES,
        page_url=with_query(base, {"search": asked.search, "sort": asked.sort}), filters={"search": asked.search},
        proposals=[(head["cluster"].name, waiting)] if waiting else [], back=base, modes=MODES, watching=WATCHING,
        settings=shown_sources(await gateway.sources.get(access, name)),
    )  # fmt: skip
    return page


@router.post(PLACE)
async def save(request: Request, access: Manager, name: str) -> Response:
    """Save what the cluster's sources may publish."""
    form = await forms.read(request)

    async def action() -> None:
        names = ("existing", "appearing", "watch_ingresses")
        patch = forms.body(ClusterGatewayPatch, **{key: form.line(key) for key in names if form.line(key)})
        await gateway_of(request).sources.change(access, name, patch)

    return await forms.act(request, f"/clusters/{quote(name)}/routes", "saved; its routes were decided anew", action)


async def _head(request: Request, access: Access, name: str) -> dict[str, Any]:
    """Return what stands above every page of a cluster. Raises: ApiError: cluster_not_found."""
    try:
        here = await heading.here(request, access, name)
    except ApiError as error:
        if error.code not in (ErrorCode.NOT_FOUND, ErrorCode.CLUSTER_NOT_FOUND):
            raise
    else:
        may = _may(access, here.place.id, dict(here.place.labels))
        return {**here.context("routes"), "is_kubernetes": True, "may": may}
    cluster = await clusters_api.get_cluster(request, access, name)
    may = _may(access, cluster.id, cluster.labels)
    head = cluster_pages.head(cluster, access)
    head |= {"may": head["may"] | may}
    return {"section": "fleet", "tab": "routes", "access": access, "is_kubernetes": False, **head}


def _may(access: Access, cluster_id: str, labels: dict[str, str]) -> dict[str, bool]:
    place = Resource(access.org_id, cluster_id=cluster_id, labels=labels)
    return {
        "publish": access.rights.gives(Permission.ROUTE_WRITE),
        "manage": access.may(Permission.CLUSTER_MANAGE, place),
    }

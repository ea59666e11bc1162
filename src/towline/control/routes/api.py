"""REST routes of published routes and of what clusters may publish. Thin: permission, call, shape."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.listing import ListQuery, Page, list_query, page
from towline.control.routes.schemas import (
    Accepted,
    AcceptRequest,
    ClusterGatewayOut,
    ClusterGatewayPatch,
    GatewayOut,
    RouteCheck,
    RouteOut,
    RoutePatch,
    RouteRequest,
)
from towline.control.routes.service import Wanted
from towline.control.routes.views import shown, shown_sources

if TYPE_CHECKING:
    from towline.control.routes.feature import Gateway

T = TypeVar("T")

router = APIRouter(prefix="/api/v1", tags=["routes"])

CanRead = Annotated[Access, needs(Permission.ROUTE_READ)]
CanWrite = Annotated[Access, needs(Permission.ROUTE_WRITE)]
CanManage = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Words = Annotated[list[str], Query(max_length=8)]


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.control.gateway
    return gateway


async def _in_effect(gateway: Gateway, change: Awaitable[T]) -> T:
    """Make a change, and return once the edge of this process acts on it."""
    made = await change
    await gateway.registry.settled()
    return made


@router.get("/routes")
async def list_routes(
    request: Request,
    access: CanRead,
    query: Annotated[ListQuery, Depends(list_query)],
    state: Words = [],  # noqa: B006 - read by FastAPI, never changed
    source: Words = [],  # noqa: B006
    cluster: Annotated[str, Query(max_length=64)] = "",
) -> Page[RouteOut]:
    """List published routes with their state and its reason."""
    gateway = _gateway(request)
    found = await gateway.routes.page(access, query, Wanted(tuple(state), tuple(source), cluster))
    return page(found, lambda view: shown(gateway, view))


@router.post("/routes", status_code=201)
async def publish(request: Request, access: CanWrite, body: RouteRequest) -> RouteOut:
    """Publish a service under a public name."""
    gateway = _gateway(request)
    return shown(gateway, await _in_effect(gateway, gateway.routes.create(access, body)))


@router.post("/routes/accept")
async def accept_all(request: Request, access: CanWrite, body: AcceptRequest) -> Accepted:
    """Accept every proposal of one cluster that the caller may publish."""
    gateway = _gateway(request)
    return Accepted(accepted=await _in_effect(gateway, gateway.routes.accept_all(access, body.cluster)))


@router.get("/routes/{route}")
async def get_route(request: Request, access: CanRead, route: str) -> RouteOut:
    """Show one route, by name or id."""
    gateway = _gateway(request)
    return shown(gateway, await gateway.routes.get(access, route))


@router.patch("/routes/{route}")
async def change_route(request: Request, access: CanWrite, route: str, body: RoutePatch) -> RouteOut:
    """Change a route; what is absent stays. Options are merged, and `null` takes one back."""
    gateway = _gateway(request)
    return shown(gateway, await _in_effect(gateway, gateway.routes.change(access, route, body)))


@router.delete("/routes/{route}", status_code=204)
async def unpublish(request: Request, access: CanWrite, route: str) -> Response:
    """Take a declared route away; its name answers 404 at once."""
    gateway = _gateway(request)
    await _in_effect(gateway, gateway.routes.remove(access, route))
    return Response(status_code=204)


@router.post("/routes/{route}/accept")
async def accept(request: Request, access: CanWrite, route: str) -> RouteOut:
    """Let a proposed route answer for its name."""
    gateway = _gateway(request)
    return shown(gateway, await _in_effect(gateway, gateway.routes.decide(access, route, "accepted")))


@router.post("/routes/{route}/refuse")
async def refuse(request: Request, access: CanWrite, route: str) -> RouteOut:
    """Keep a claimed route from answering, also when its source claims it again."""
    gateway = _gateway(request)
    return shown(gateway, await _in_effect(gateway, gateway.routes.decide(access, route, "refused")))


@router.get("/routes/{route}/check")
async def check(request: Request, access: CanRead, route: str) -> RouteCheck:
    """Look at a route from end to end, now: name, certificate, agent, target. Takes some seconds at most."""
    return await _gateway(request).checks.check(access, route)


@router.get("/clusters/{cluster}/gateway")
async def get_sources(request: Request, access: CanRead, cluster: str) -> ClusterGatewayOut:
    """Show what a cluster's ingresses, HTTPRoutes and Compose labels may publish."""
    return shown_sources(await _gateway(request).sources.get(access, cluster))


@router.patch("/clusters/{cluster}/gateway")
async def change_sources(
    request: Request, access: CanManage, cluster: str, body: ClusterGatewayPatch
) -> ClusterGatewayOut:
    """Change what a cluster's sources may publish: automatic, proposals or off."""
    return shown_sources(await _gateway(request).sources.change(access, cluster, body))


@router.get("/gateway")
async def get_gateway(request: Request, access: CanRead) -> GatewayOut:
    """Show the gateway's domain, the record that it needs, and whether it leads here."""
    return await _gateway(request).status()

"""Pages about everything at once: search over clusters, projects and containers."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.clusters import api as clusters_api
from towline.control.kubernetes.kinds import page_of
from towline.control.kubernetes.models import KubeObject
from towline.control.listing import SEARCH_CHARACTERS, ListQuery
from towline.control.routes.pages import rows_of
from towline.control.routes.service import Wanted as AnyRoute
from towline.control.routes.words import page_of as route_page

router = APIRouter(include_in_schema=False)

HITS = 20
"""Hits of one kind: more than that wants a better word, and the lists' own filters."""


@dataclass(frozen=True, slots=True)
class Hit:
    name: str
    url: str
    state: str
    word: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    hits: list[Hit] = field(default_factory=list)


@router.get("/search")
async def search_page(
    request: Request, access: Annotated[Access, needs(Permission.CLUSTER_READ)], q: str = ""
) -> Response:
    """Find clusters by name and label, deployments, containers, workloads and pods by name, routes by name and host."""
    wanted = q.strip()[:SEARCH_CHARACTERS]
    groups = await _groups(request, access, wanted) if wanted else []
    page: Response = request.app.state.control.web.page(
        request, "system/search.html", access=access, groups=groups, found=any(group.hits for group in groups)
    )
    return page


async def _groups(request: Request, access: Access, wanted: str) -> list[Group]:
    from towline.control.deployments.service import Wanted

    asked = ListQuery(limit=HITS, search=wanted)
    clusters = (await clusters_api.list_clusters(request, access, asked, "", [])).items
    service = request.app.state.control.deployments.service
    deployments = (await service.find_many(access, asked, Wanted())).items
    containers = await request.app.state.control.fleet.clusters.search_containers(access, wanted, HITS)
    objects = await request.app.state.control.kube_inventory.search(access, wanted, HITS)
    return [
        Group("Clusters", [Hit(c.name, f"/clusters/{c.name}", c.health.state, text=c.health.reason) for c in clusters]),
        Group(
            "Deployments",
            [
                Hit(d.name, f"/clusters/{d.cluster.name}/deployments/{d.name}", d.state, text=f"on {d.cluster.name}")
                for d in deployments
            ],
        ),
        Group(
            "Containers",
            [
                Hit(row.name, f"/clusters/{cluster}", "healthy" if row.state == "running" else "unknown", row.state,
                    f"{row.image} on {cluster}")
                for row, cluster in containers
            ],
        ),
        Group("Kubernetes", [_object(row, cluster) for row, cluster in objects]),
        Group("Routes", await _routes(request, access, asked)),
    ]  # fmt: skip


async def _routes(request: Request, access: Access, asked: ListQuery) -> list[Hit]:
    if not access.rights.gives(Permission.ROUTE_READ):
        return []
    found = await request.app.state.control.routes.page(access, asked, AnyRoute())
    rows = await rows_of(request, access, found.rows)
    return [
        Hit(row.route.name, route_page(row.route), row.said.tone, row.said.word, f"{row.route.host}{row.route.path}")
        for row in rows
    ]


def _object(row: KubeObject, cluster: str) -> Hit:
    kind = row.kind or "Node"
    where = f"{kind} in {row.namespace} on {cluster}" if row.namespace else f"{kind} on {cluster}"
    text = f"{where}: {row.reason}" if row.reason else where
    return Hit(
        row.name, page_of(cluster, kind, row.namespace, row.name), "degraded" if row.rank else "healthy", text=text
    )

"""REST routes of clusters. Thin: permission, call, shape."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.clusters.models import InventoryContainer, InventoryProject
from towline.control.clusters.schemas import ClusterOut, ClusterPatch, ContainerOut, ProjectOut
from towline.control.clusters.selectors import MAX_SELECTOR
from towline.control.clusters.service import Clusters, View, Wanted
from towline.control.listing import SEARCH_CHARACTERS, ListQuery, Page, list_query, page

router = APIRouter(prefix="/api/v1/clusters", tags=["clusters"])

CanRead = Annotated[Access, needs(Permission.CLUSTER_READ)]
CanManage = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Asked = Annotated[ListQuery, Depends(list_query)]


def _clusters(request: Request) -> Clusters:
    service: Clusters = request.app.state.control.fleet.clusters
    return service


@router.get("")
async def list_clusters(
    request: Request,
    access: CanRead,
    asked: Asked,
    selector: Annotated[str, Query(max_length=MAX_SELECTOR, description="Labels, e.g. `env=prod,!legacy`.")] = "",
    state: Annotated[list[str], Query(description="healthy, degraded, down, working or unknown.")] = [],  # noqa: B006
) -> Page[ClusterOut]:
    """List the clusters that the caller may see."""
    return page(await _clusters(request).page(access, asked, Wanted(selector, tuple(state))), shown)


@router.get("/{cluster}")
async def get_cluster(request: Request, access: CanRead, cluster: str) -> ClusterOut:
    """Show one cluster, by name or id."""
    return shown(await _clusters(request).get(access, cluster))


@router.patch("/{cluster}")
async def change_cluster(request: Request, access: CanManage, cluster: str, body: ClusterPatch) -> ClusterOut:
    """Change name, labels or description."""
    return shown(
        await _clusters(request).change(
            access, cluster, name=body.name, labels=body.labels, description=body.description
        )
    )


@router.delete("/{cluster}", status_code=204)
async def remove_cluster(request: Request, access: CanManage, cluster: str) -> Response:
    """Remove a cluster. Its agent stops for good; what runs on the host keeps running."""
    await _clusters(request).remove(access, cluster)
    return Response(status_code=204)


@router.get("/{cluster}/containers")
async def list_containers(
    request: Request, access: CanRead, cluster: str, asked: Asked, project: Annotated[str, Query(max_length=255)] = ""
) -> Page[ContainerOut]:
    """List the containers that were seen last on a cluster."""
    return page(await _clusters(request).containers(access, cluster, asked, project=project), _container)


@router.get("/{cluster}/projects")
async def list_projects(
    request: Request, access: CanRead, cluster: str, search: Annotated[str, Query(max_length=SEARCH_CHARACTERS)] = ""
) -> Page[ProjectOut]:
    """List the Compose projects that were seen last on a cluster, managed here or not."""
    items = [_project(row) for row in await _clusters(request).projects(access, cluster, search)]
    return Page(items=items, total=len(items))


def shown(view: View) -> ClusterOut:
    """Return the JSON of a cluster."""
    row = view.row
    return ClusterOut.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "labels": dict(view.labels),
            "capabilities": row.capabilities,
            "health": {"state": row.health_state, "reason": row.health_reason, "since": row.health_since},
            "last_seen_at": row.last_seen_at,
            "facts": row.facts,
            "facts_at": row.facts_at,
            "heartbeat": row.heartbeat,
            "link": _link(view),
            "agents": [_agent(view, one) for one in view.agents],
            "projects_count": view.projects,
            "containers_count": view.containers,
            "created_at": row.created_at,
            "created_by": row.created_by,
        }
    )


def _link(view: View) -> dict[str, Any]:
    row, live = view.row, view.link
    return {
        "connected": live is not None,
        "rtt_ms": live.rtt_ms() if live else None,
        "reconnects": row.link_reconnects,
        "connected_since": live.connected_at if live else None,
        "last_error": row.link_last_error,
        "address": live.session.remote_address if live else row.link_address,
        "clock_offset": round(live.clock_offset, 1) if live else 0.0,
    }


def _agent(view: View, agent: Any) -> dict[str, Any]:
    names = (
        "id", "state", "state_reason", "state_since", "version", "hostname", "last_seen_at", "address",
        "instance_id", "epoch", "generation", "max_instances", "rivals", "created_at",
    )  # fmt: skip
    live = view.live_instances.get(agent.id)
    shown = {name: getattr(agent, name) for name in names}
    return shown | {"connected": live is not None, "instances": [name for name in live or () if name]}


def _container(row: InventoryContainer) -> ContainerOut:
    names = ("name", "project", "service", "image", "state", "health")
    return ContainerOut(id=row.container_id, detail=row.data, **{name: getattr(row, name) for name in names})


def _project(row: InventoryProject) -> ProjectOut:
    return ProjectOut(
        name=row.name,
        folder=row.data.get("folder", ""),
        managed=row.managed,
        revision=row.revision,
        revision_id=row.data.get("revision_id", ""),
        drift=list(row.data.get("drift", ())),
        config_files=list(row.data.get("config_files", ())),
    )

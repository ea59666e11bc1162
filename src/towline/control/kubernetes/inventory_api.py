"""REST routes of what is known of Kubernetes clusters. Thin: permission, call, shape."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.kubernetes.inventory import KubernetesInventory, Overview, Wanted
from towline.control.kubernetes.inventory_rows import EPOCH
from towline.control.kubernetes.inventory_schemas import (
    AmountsOut,
    ClusterName,
    KindCountsOut,
    KubeEventOut,
    KubernetesOut,
    MissingOut,
    NamespaceOut,
    NodeCountsOut,
    NodeOut,
    PodCountsOut,
    UnwellOut,
    UnwellPodOut,
    WorkloadCountsOut,
    WorkloadOut,
)
from towline.control.kubernetes.models import KubeObject
from towline.control.listing import ListQuery, Page, list_query, page

router = APIRouter(prefix="/api/v1/clusters/{cluster}/kubernetes", tags=["kubernetes"])

CanRead = Annotated[Access, needs(Permission.CLUSTER_READ)]
Asked = Annotated[ListQuery, Depends(list_query)]
Namespace = Annotated[str, Query(max_length=63, description="One namespace alone.")]
Kind = Annotated[str, Query(max_length=128, description="One kind alone, e.g. `Deployment`.")]
States = Annotated[list[str], Query(max_length=20, description="One of these states.")]


def _inventory(request: Request) -> KubernetesInventory:
    service: KubernetesInventory = request.app.state.control.kube_inventory
    return service


@router.get("")
async def show_kubernetes(request: Request, access: CanRead, cluster: str) -> KubernetesOut:
    """Show what is known of a cluster: size, what is not well, and how fresh that is."""
    return overview(await _inventory(request).overview(access, cluster))


@router.get("/nodes")
async def list_nodes(
    request: Request,
    access: CanRead,
    cluster: str,
    asked: Asked,
    state: States = [],  # noqa: B006
) -> Page[NodeOut]:
    """List nodes. Whoever sees some namespaces alone does not see them."""
    found = await _inventory(request).page(access, cluster, "nodes", asked, Wanted(states=tuple(state)))
    return page(found, lambda row: NodeOut.model_validate(row.data))


@router.get("/namespaces")
async def list_namespaces(
    request: Request,
    access: CanRead,
    cluster: str,
    asked: Asked,
    state: States = [],  # noqa: B006
) -> Page[NamespaceOut]:
    """List namespaces with counts of their pods."""
    found = await _inventory(request).page(access, cluster, "namespaces", asked, Wanted(states=tuple(state)))
    return page(found, lambda row: NamespaceOut.model_validate(row.data))


@router.get("/workloads")
async def list_workloads(
    request: Request,
    access: CanRead,
    cluster: str,
    asked: Asked,
    namespace: Namespace = "",
    kind: Kind = "",
    state: States = [],  # noqa: B006
) -> Page[WorkloadOut]:
    """List deployments, stateful sets, daemon sets, jobs and cron jobs."""
    wanted = Wanted(namespace, kind, tuple(state))
    found = await _inventory(request).page(access, cluster, "workloads", asked, wanted)
    return page(found, lambda row: WorkloadOut.model_validate(row.data))


@router.get("/pods")
async def list_unwell_pods(
    request: Request,
    access: CanRead,
    cluster: str,
    asked: Asked,
    namespace: Namespace = "",
    state: Annotated[Literal["unwell"], Query(description="Only these are kept.")] = "unwell",
) -> Page[UnwellPodOut]:
    """List the pods that are not well, with the reason. All others are counted only."""
    found = await _inventory(request).page(access, cluster, "pods", asked, Wanted(namespace))
    return page(found, lambda row: UnwellPodOut.model_validate(row.data))


@router.get("/events")
async def list_kube_events(
    request: Request, access: CanRead, cluster: str, asked: Asked, namespace: Namespace = "", kind: Kind = ""
) -> Page[KubeEventOut]:
    """List the warnings of the last hour before `as_of`."""
    found = await _inventory(request).page(access, cluster, "events", asked, Wanted(namespace, kind))
    return page(found, lambda row: KubeEventOut.model_validate(row.data))


# -- the overview ------------------------------------------------------------------------------


def overview(found: Overview) -> KubernetesOut:
    """Return the JSON of an overview."""
    known, fresh = found.known, found.freshness
    missing = [] if known is None or found.restricted else known.missing
    return KubernetesOut(
        cluster=ClusterName(id=found.row.id, name=found.row.name),
        state=fresh.state,
        reason=fresh.reason,
        connected=found.row.connected,
        as_of=fresh.as_of,
        age=round(fresh.age, 1),
        version=known.version if known is not None else "",
        platform=known.platform if known is not None else "",
        metrics=known is not None and known.metrics,
        namespaces_read=[] if known is None or found.restricted else list(known.namespaces),
        missing=[MissingOut.model_validate(one) for one in missing],
        restricted=found.restricted,
        nodes=None if found.restricted else _nodes(found.nodes),
        namespaces=len(found.namespaces),
        pods=_pods(found.namespaces),
        workloads=_workloads(found.counts),
        events=sum(count for section, *_, count in found.counts if section == "events"),
        unwell=[_unwell(row) for row in found.unwell],
    )


def _nodes(data: Sequence[Mapping[str, Any]]) -> NodeCountsOut:
    usages = [one["usage"] for one in data if one.get("usage")]
    return NodeCountsOut(
        total=len(data),
        ready=sum(bool(one.get("ready")) for one in data),
        unwell=sum(bool(one.get("trouble")) for one in data),
        capacity=_sum([one.get("capacity", {}) for one in data]),
        allocatable=_sum([one.get("allocatable", {}) for one in data]),
        usage=_sum(usages) if usages else None,
    )


def _sum(amounts: Sequence[Mapping[str, Any]]) -> AmountsOut:
    names = ("cpu", "memory_bytes", "pods", "storage_bytes")
    return AmountsOut(**{name: sum(one.get(name, 0) for one in amounts) for name in names})


def _pods(namespaces: Sequence[Mapping[str, Any]]) -> PodCountsOut:
    counts = [one.get("pods", {}) for one in namespaces]
    return PodCountsOut(**{name: sum(one.get(name, 0) for one in counts) for name in PodCountsOut.model_fields})


def _workloads(counts: Sequence[tuple[str, str, str, bool, int]]) -> WorkloadCountsOut:
    kinds: dict[str, KindCountsOut] = {}
    for section, kind, _, is_unwell, count in counts:
        if section == "workloads":
            of_kind = kinds.setdefault(kind, KindCountsOut())
            of_kind.total += count
            of_kind.unwell += count if is_unwell else 0
    total, unwell = sum(one.total for one in kinds.values()), sum(one.unwell for one in kinds.values())
    return WorkloadCountsOut(total=total, unwell=unwell, kinds=kinds)


def _unwell(row: KubeObject) -> UnwellOut:
    kind = "Node" if row.section == "nodes" else row.kind
    since = _since(row)
    return UnwellOut(kind=kind, namespace=row.namespace, name=row.name, reason=row.reason, since=since)


def _since(row: KubeObject) -> Any:
    """Only of pods it is known since when."""
    return row.moment if row.section == "pods" and row.moment > EPOCH else None

"""Pages of a Kubernetes cluster: what is unwell, workloads by namespace, pods, nodes and events. Rules are the API's.

What the agent told last comes from the inventory and is there while the agent is away; pods are asked of the cluster
itself, as who is signed in. One object's pages are in `object_pages`.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import ApiError
from towline.control.kubernetes import heading, inventory_api, pod_rows
from towline.control.kubernetes.kinds import NAME, PODS, page_of
from towline.control.listing import ListQuery, list_query
from towline.control.usage import pages as usage_pages
from towline.control.usage.views import RANGES
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
Asked = Annotated[ListQuery, Depends(list_query)]
Namespace = Annotated[str, Query(max_length=63, pattern=rf"{NAME}|^$")]
Word = Annotated[str, Query(max_length=128)]
WORKLOAD_TONES = {
    "degraded": "degraded", "failed": "down", "progressing": "working", "ready": "healthy", "running": "working",
    "complete": "healthy", "scheduled": "healthy", "paused": "unknown", "suspended": "unknown",
}  # fmt: skip
"""States of workloads as the agent tells them, the gravest first."""
WORKLOAD_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
FIRST_PODS = 100
"""Rows of the page before its script runs; the script asks for all."""


async def overview(request: Request, access: Access, cluster: str) -> dict[str, Any]:
    """Return what the overview shows of Kubernetes, for the page of the cluster. Raises: ApiError."""
    found = inventory_api.overview(await request.app.state.control.kube_inventory.overview(access, cluster))
    urls = [page_of(found.cluster.name, one.kind, one.namespace, one.name) for one in found.unwell]
    charts = None
    if not found.restricted:
        about = f"the cluster {found.cluster.name}"
        charts = await usage_pages.charts_of(request, access, cluster, "cluster", about=about)
    return {
        "kube": found.model_dump(), "kinds": sorted(found.workloads.kinds.items()), "unwell_urls": urls,
        "charts": charts, "ranges": RANGES,
    }  # fmt: skip


async def restricted_overview(request: Request, access: Access, cluster: str) -> Response:
    """Show what there is for whoever was granted namespaces of a cluster alone. Raises: ApiError."""
    here = await heading.here(request, access, cluster)
    shown = await overview(request, access, cluster)
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/overview.html", **here.context("overview"), **shown
    )
    return page


@router.get("/clusters/{cluster}/workloads")
async def workloads_page(
    request: Request, access: Reader, cluster: str, asked: Asked, namespace: Namespace = "", kind: Word = "",
    state: Word = "",
) -> Response:  # fmt: skip
    """Show deployments, stateful sets, daemon sets, jobs and cron jobs, by namespace."""
    here = await heading.here(request, access, cluster)
    states = [state] if state in WORKLOAD_TONES else []
    found = await inventory_api.list_workloads(request, access, cluster, asked, namespace, kind, states)
    filters = {"search": asked.search, "namespace": namespace, "kind": kind, "state": state}
    return _list(
        request, here, "workloads", found, asked, filters, tones=WORKLOAD_TONES, kinds=WORKLOAD_KINDS,
        states=tuple(WORKLOAD_TONES),
    )  # fmt: skip


@router.get("/clusters/{cluster}/nodes")
async def nodes_page(request: Request, access: Reader, cluster: str, asked: Asked) -> Response:
    """Show nodes with their conditions, capacity and usage."""
    here = await heading.here(request, access, cluster)
    found = await inventory_api.list_nodes(request, access, cluster, asked)
    return _list(request, here, "nodes", found, asked, {"search": asked.search})


@router.get("/clusters/{cluster}/events")
async def events_page(
    request: Request, access: Reader, cluster: str, asked: Asked, namespace: Namespace = "", kind: Word = ""
) -> Response:
    """Show the warnings of the last hour that is known."""
    here = await heading.here(request, access, cluster)
    found = await inventory_api.list_kube_events(request, access, cluster, asked, namespace, kind)
    filters = {"search": asked.search, "namespace": namespace, "kind": kind}
    return _list(request, here, "events", found, asked, filters)


def _list(
    request: Request, here: heading.Here, tab: str, found: Any, asked: ListQuery, filters: dict[str, str], **more: Any
) -> Response:
    base = f"/clusters/{here.row.name}/{tab}"
    page: Response = request.app.state.control.web.page(
        request, f"kubernetes/{tab}.html", page=found.model_dump(), filters=filters, sort=asked.sort, page_of=page_of,
        sort_url=with_query(base, dict(filters)), page_url=with_query(base, filters | {"sort": asked.sort}),
        **here.context(tab), **more,
    )  # fmt: skip
    return page


# -- pods --------------------------------------------------------------------------------------


@router.get("/clusters/{cluster}/pods")
async def pods_page(
    request: Request, access: Reader, cluster: str, asked: Asked, namespace: Namespace = "", state: Word = ""
) -> Response:
    """Show the pods of a namespace or of all, as the cluster has them now; while it is away, those that were unwell."""
    here = await heading.here(request, access, cluster)
    namespace = namespace or _only(here)
    rows: list[pod_rows.Row] = []
    problem: ApiError | None = None
    try:
        talker = request.app.state.control.kubernetes.talker
        rows = (await pod_rows.first(talker, access, here.row.name, namespace, FIRST_PODS)).rows
    except ApiError as error:
        problem = error
    known = await inventory_api.list_unwell_pods(request, access, cluster, ListQuery(limit=FIRST_PODS), namespace)
    filters = {"search": asked.search, "namespace": namespace, "state": state}
    base = f"/clusters/{here.row.name}/pods"
    page: Response = request.app.state.control.web.page(
        request, "kubernetes/pods.html", rows=rows, problem=problem, filters=filters, most=FIRST_PODS,
        unwell=known.model_dump()["items"], rows_url=with_query(f"{base}/rows", {"namespace": namespace}),
        page_of=page_of, **here.context("pods"),
    )  # fmt: skip
    return page


@router.get("/clusters/{cluster}/pods/rows")
async def pod_rows_stream(request: Request, access: Reader, cluster: str, namespace: Namespace = "") -> Response:
    """Stream every pod of the list, and each change of one, as lines of JSON."""
    here = await heading.here(request, access, cluster)
    namespace = namespace or _only(here)
    here.require(PODS.asked("list", namespace))
    here.require(PODS.asked("watch", namespace))
    return pod_rows.RowStream(request.app.state.control.kubernetes.talker, access, here.row.name, namespace)


def _only(here: heading.Here) -> str:
    """Who sees some namespaces alone begins with one of them: a list of all would be refused."""
    return here.namespaces[0] if here.restricted and here.namespaces else ""

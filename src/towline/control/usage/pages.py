"""Pages of the history of usage: a cluster's tab, a node's page, and the charts that other pages show."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.kubernetes import heading, inventory_api
from towline.control.kubernetes.kinds import NAME
from towline.control.listing import ListQuery
from towline.control.usage import views
from towline.control.usage.api import history_of
from towline.control.usage.history import Asked, History
from towline.control.usage.known import STEP
from towline.control.usage.rollup import floor
from towline.control.usage.views import DEFAULT_RANGE, RANGES
from towline.wire.kube_usage import Kind

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
RangeWord = Annotated[str, Query(alias="range", max_length=4)]
Namespace = Annotated[str, Query(max_length=63, pattern=rf"{NAME}|^$")]
NodeName = Annotated[str, Path(max_length=253, pattern=NAME)]
WRITTEN_AFTER = 15.0
"""Seconds after which a minute that has ended is surely written."""
TOP = 20
"""Lines of a table."""


async def read(
    request: Request, access: Access, cluster: str, kind: Kind, range_: str, *, namespace: str = "", name: str = "",
    limit: int = 1,
) -> History:  # fmt: skip
    """Return the history of one kind until now. Raises: ApiError."""
    now = request.app.state.control.clock.now().timestamp()
    end = floor(now, STEP)
    begin = end - RANGES[range_]
    found = await history_of(request).read(
        access, cluster, Asked(kind, begin, end, namespace=namespace, name=name, limit=limit)
    )
    return without_last(found) if now - end < WRITTEN_AFTER else found


def without_last(found: History) -> History:
    """Return a history without its last minute, when that is not written yet: it would look like a gap."""
    if found.step != STEP or any(one.points[-1] is not None for one in found.series):
        return found
    series = [replace(one, points=one.points[:-1]) for one in found.series]
    return replace(found, end=found.end - STEP, series=series)


async def charts_of(
    request: Request, access: Access, cluster: str, kind: Kind, *, namespace: str = "", name: str = "", about: str
) -> views.Shown:
    """Return the charts of one thing for a page, of the range in its address. Raises: ApiError."""
    range_ = chosen(request.query_params.get("range", ""))
    found = await read(request, access, cluster, kind, range_, namespace=namespace, name=name)
    return views.shown(found, range_, about)


def chosen(word: str) -> str:
    """Return a range that there is."""
    return word if word in RANGES else DEFAULT_RANGE


@router.get("/clusters/{cluster}/usage")
async def usage_page(
    request: Request, access: Reader, cluster: str, range_: RangeWord = "", namespace: Namespace = ""
) -> Response:
    """Show what the cluster uses, or one namespace, and who uses most of it."""
    here = await heading.here(request, access, cluster)
    range_, name = chosen(range_), here.row.name
    whole: Kind = "namespace" if namespace else "cluster"
    about = f"the namespace {namespace}" if namespace else f"the cluster {name}"
    charts = None
    if namespace or not here.restricted:
        found = await read(request, access, name, whole, range_, name=namespace)
        charts = views.shown(found, range_, about)
    tables: dict[str, Any] = {}
    kinds: list[Kind] = [] if namespace else (["namespace"] if here.restricted else ["node", "namespace"])
    for kind in kinds:
        tables[kind] = await read(request, access, name, kind, range_, limit=TOP)
    pods_range = range_ if namespace else DEFAULT_RANGE
    tables["pod"] = await _pods(request, access, name, pods_range, namespace)
    page: Response = request.app.state.control.web.page(
        request, "usage/usage.html", charts=charts, range=range_, pods_range=pods_range, namespace=namespace,
        state=await history_of(request).state(access, name), ranges=RANGES,
        tables=[(kind, views.rows(found), found.total) for kind, found in tables.items()],
        base=f"/clusters/{name}/usage", **here.context("usage"),
    )  # fmt: skip
    return page


async def _pods(request: Request, access: Access, cluster: str, range_: str, namespace: str) -> History:
    """Return the pods that use most; of a namespace with too many of them for a long time, those of the last hour."""
    try:
        return await read(request, access, cluster, "pod", range_, namespace=namespace, limit=TOP)
    except ApiError as error:
        if error.code is not ErrorCode.INVALID or range_ == DEFAULT_RANGE:
            raise
    return await read(request, access, cluster, "pod", DEFAULT_RANGE, namespace=namespace, limit=TOP)


@router.get("/clusters/{cluster}/nodes/{name}")
async def node_page(request: Request, access: Reader, cluster: str, name: NodeName) -> Response:
    """Show one node: its conditions, what it has and gives, and what it used."""
    here = await heading.here(request, access, cluster)
    listed = await inventory_api.list_nodes(request, access, cluster, ListQuery(search=name, limit=200))
    node = next((one for one in listed.items if one.name == name), None)
    if node is None:
        raise not_found("node", name)
    charts = await charts_of(request, access, here.row.name, "node", name=name, about=f"the node {name}")
    page: Response = request.app.state.control.web.page(
        request, "usage/node.html", node=node.model_dump(), charts=charts, ranges=RANGES,
        base=f"/clusters/{here.row.name}/nodes/{name}", **here.context("nodes"),
    )  # fmt: skip
    return page

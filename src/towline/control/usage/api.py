"""The REST route of the history of usage. Thin: permission, call, shape."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.kubernetes.inventory_schemas import ClusterName
from towline.control.usage.history import Asked, History, Series, State, UsageHistory, moment
from towline.control.usage.packing import Point
from towline.control.usage.schemas import PointOut, RangeOut, SeriesOut, UsageOut
from towline.wire.kube_usage import CPU_UNITS, MEMORY_UNIT, Kind

router = APIRouter(prefix="/api/v1/clusters/{cluster}", tags=["kubernetes"])

CanRead = Annotated[Access, needs(Permission.CLUSTER_READ)]
HOUR = 3600.0
MOST_SERIES = 100
"""Of one answer: of a day they are 29,000 points, some 5 MB."""


def history_of(request: Request) -> UsageHistory:
    service: UsageHistory = request.app.state.control.usage.history
    return service


@router.get("/usage")
async def show_usage(
    request: Request,
    access: CanRead,
    cluster: str,
    kind: Annotated[Kind, Query(description="Whose: the cluster's as a whole, nodes', namespaces' or pods'.")] = "node",
    namespace: Annotated[str, Query(max_length=63, description="Of one namespace alone.")] = "",
    name: Annotated[str, Query(max_length=253, description="Of this one alone; of a pod with its namespace.")] = "",
    begin: Annotated[datetime | None, Query(alias="from", description="Default: an hour before `to`.")] = None,
    end: Annotated[datetime | None, Query(alias="to", description="Default: now.")] = None,
    step: Annotated[
        int, Query(ge=0, le=3600, description="Seconds of a point. 0: 60 of the last hour, 300 of the last day.")
    ] = 0,
    sort: Annotated[Literal["cpu", "memory", "name"], Query(description="By the mean of the whole time.")] = "cpu",
    limit: Annotated[int, Query(ge=1, le=MOST_SERIES, description="Series; `total` says how many there are.")] = 20,
) -> UsageOut:
    """Show CPU and memory of the last 24 hours. Whoever sees some namespaces alone sees their sums and pods."""
    to = _seconds(end) if end is not None else request.app.state.control.clock.now().timestamp()
    since = _seconds(begin) if begin is not None else to - HOUR
    asked = Asked(kind, since, to, step, namespace, name, sort, limit)
    return shown(await history_of(request).read(access, cluster, asked))


def _seconds(at: datetime) -> float:
    """Read a moment; one without a zone is in UTC, as everything here."""
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def shown(found: History) -> UsageOut:
    """Return the JSON of a history."""
    return UsageOut(
        cluster=ClusterName(id=found.cluster.id, name=found.cluster.name),
        kind=found.kind,
        begins_at=moment(found.begin),
        ends_at=moment(found.end),
        step=found.step,
        total=found.total,
        series=[_series(one, found) for one in found.series],
        **state_fields(found.state),
    )


def state_fields(state: State) -> dict[str, Any]:
    """Return what every answer says of how well a cluster is measured."""
    return {
        "state": state.word, "reason": state.reason, "source": state.source, "left_out": state.left_out,
        "sampled_at": state.sampled_at,
    }  # fmt: skip


def _series(one: Series, found: History) -> SeriesOut:
    points = [
        None if point is None else PointOut(at=moment(found.begin + place * found.step), **_ranges(point))
        for place, point in enumerate(one.points)
    ]
    return SeriesOut(namespace=one.namespace, name=one.name, points=points, **_ranges(one.whole))


def _ranges(point: Point) -> dict[str, RangeOut]:
    return {"cpu": cpu_of(point), "memory_bytes": memory_of(point)}


def cpu_of(point: Point) -> RangeOut:
    """Return a point's CPU in cores."""
    return RangeOut(min=point.cpu_low / CPU_UNITS, avg=point.cpu / CPU_UNITS, max=point.cpu_high / CPU_UNITS)


def memory_of(point: Point) -> RangeOut:
    """Return a point's memory in bytes."""
    return RangeOut(
        min=point.memory_low * MEMORY_UNIT, avg=point.memory * MEMORY_UNIT, max=point.memory_high * MEMORY_UNIT
    )

"""REST routes about the links of clusters. Thin: permission, call, shape."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.agents import repository as agents
from towline.control.clusters.api import shown
from towline.control.clusters.schemas import LinkOut, RoundTrips
from towline.control.fleet import Fleet
from towline.control.links.doctor import examine
from towline.control.links.measure import measure
from towline.control.streams.opening import actor_of, refused

router = APIRouter(prefix="/api/v1/clusters/{cluster}/link", tags=["links"])

CanRead = Annotated[Access, needs(Permission.CLUSTER_READ)]
CanManage = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
LONGEST_TEST = 30.0
"""Seconds each way: the line is busy meanwhile."""


class CheckOut(BaseModel):
    name: str
    ok: bool
    reason: str


class DoctorOut(BaseModel):
    link: LinkOut
    checks: list[CheckOut]


class TestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(3.0, ge=0.5, le=LONGEST_TEST, description="Seconds to measure each way.")


class TestOut(BaseModel):
    up_bytes_per_second: float
    """To the cluster."""
    down_bytes_per_second: float
    rtt_ms: RoundTrips


def _fleet(request: Request) -> Fleet:
    fleet: Fleet = request.app.state.control.fleet
    return fleet


@router.get("/doctor")
async def link_doctor(request: Request, access: CanRead, cluster: str) -> DoctorOut:
    """Say what the server sees of a link, and what to try when it is down."""
    fleet, db = _fleet(request), request.app.state.control.db
    view = await fleet.clusters.get(access, cluster)
    async with db.read() as tx:
        rows = await agents.agents_of(tx, [view.row.id])
    checks = examine(view.row, rows, view.link, fleet.clock.now())
    items = [CheckOut(name=check.name, ok=check.ok, reason=check.reason) for check in checks]
    return DoctorOut(link=shown(view).link, checks=items)


@router.post("/test")
async def test_link(request: Request, access: CanManage, cluster: str, body: TestRequest) -> TestOut:
    """Measure the throughput of a link both ways, and its round trip."""
    fleet, db = _fleet(request), request.app.state.control.db
    async with db.read() as tx:
        row, _ = await fleet.clusters.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
    one = fleet.links.of_cluster(row.id)
    if one is None:
        raise await fleet.clusters.away(row.id)
    with refused(row.name):
        found = await measure(one.session, body.seconds, actor_of(access), fleet.clock)
    one.note_round_trip(one.session.rtt)
    times: dict[str, Any] = one.rtt_ms() or {"min": 0.0, "median": 0.0, "max": 0.0}
    return TestOut(
        up_bytes_per_second=round(found.up), down_bytes_per_second=round(found.down), rtt_ms=RoundTrips(**times)
    )

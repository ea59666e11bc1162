"""Routes that are taken out of the table leave nothing behind."""

from typing import cast

import pytest

from towline.control.bus import Bus
from towline.control.db import Database
from towline.control.links.registry import Links
from towline.control.routes.entries import EntryMaker, Sealer
from towline.control.routes.registry import RouteRegistry
from towline.gateway.interfaces import Connector, ToTarget
from towline.gateway.route_figures import MAX_ROUTES, OTHER, RouteFigures
from towline.gateway.routing import RouteEntry

NOWHERE = cast(Connector, None)


def preview(number: int) -> RouteEntry:
    route_id = f"rte_{number}"
    return RouteEntry(route_id, f"{route_id}.example.net", ToTarget(route_id, NOWHERE, id=route_id))


@pytest.mark.parametrize("reads_all", [True, False])
def test_routes_that_went_leave_room_for_the_figures_of_others(reads_all: bool) -> None:
    entries = EntryMaker(cast(Links, None), cast(Sealer, None), knows_own_name=True)
    registry = RouteRegistry(cast(Database, None), Bus(), entries, own_hosts=frozenset, zone="")
    figures = RouteFigures()
    registry.also_when_gone.append(figures.forget)
    for number in range(MAX_ROUTES):
        entry = preview(number)
        registry.table.put(entry)
        figures.of(cast(ToTarget, entry.route))
    assert figures.of(ToTarget("late", NOWHERE, id="rte_late")).name == OTHER
    if reads_all:
        registry._hold({})
    else:
        for number in range(MAX_ROUTES):
            registry._take_out(f"rte_{number}")
    assert len(registry.table) == 0
    assert figures.of(ToTarget("late", NOWHERE, id="rte_late")).name == "late"

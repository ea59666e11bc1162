"""Which connections are passed through: as the table says, and never a part of a name."""

import ssl
from typing import Any, cast

import pytest

from towline.control.bus import Bus
from towline.control.db import Database
from towline.control.errors import ApiError
from towline.control.routes.entries import EntryMaker
from towline.control.routes.given import Sealer, set_options
from towline.control.routes.models import PublishedRoute
from towline.control.routes.raw import RawRoutes
from towline.control.routes.registry import RouteRegistry
from towline.gateway.interfaces import Connector, ToTarget
from towline.gateway.route_options import RouteOptions
from towline.gateway.routing import RouteEntry
from towline.wire.client_hello import ClientHello

NOWHERE = cast(Connector, None)
OWN = "own.example.net"


class Usual:
    """Passes nothing through."""

    wants_hello = False

    def choose(self, hello: ClientHello) -> ssl.SSLContext | ToTarget | None:
        return None


def entry(name: str, host: str, **options: Any) -> RouteEntry:
    return RouteEntry(f"rte_{name}", host, ToTarget(name, NOWHERE, options=RouteOptions(**options), id=f"rte_{name}"))


def registry_of(*entries: RouteEntry) -> RouteRegistry:
    registry = RouteRegistry(
        cast(Database, None), Bus(), cast(EntryMaker, None), own_hosts=lambda: frozenset({OWN}), zone=""
    )
    registry._own = frozenset({OWN})  # as after its start, which reads a database
    registry.table.replace(entries)
    return registry


async def test_wildcard_pass_through_takes_neither_an_exact_name_nor_the_servers_own() -> None:
    registry = registry_of(entry("wild", "*.example.net", tls_passthrough=True), entry("web", "web.example.net"))
    raw = RawRoutes(registry, Bus(), Usual(), range(0))
    await raw.refresh()
    passed = raw.choose(ClientHello("db.example.net"))
    assert passed is not None and isinstance(passed, ToTarget) and passed.name == "wild"
    assert raw.choose(ClientHello("web.example.net")) is None
    assert raw.choose(ClientHello(OWN)) is None


def test_pass_through_of_a_part_of_a_name_is_refused_in_words() -> None:
    row = PublishedRoute(id="rte_1", org_id="org_1", path="/api", path_type="prefix", options={}, sealed=None)
    with pytest.raises(ApiError, match="needs the path `/`") as caught:
        set_options(cast(Sealer, None), row, {"tls_passthrough": True}, None)
    assert caught.value.status == 422


async def test_port_stays_with_the_route_that_has_it_and_the_other_one_is_a_conflict() -> None:
    first, second = entry("b", "b.example.net", tcp_port=5432), entry("c", "c.example.net", tcp_port=5432)
    registry = registry_of(first)
    raw = RawRoutes(registry, Bus(), Usual(), range(5432, 5433))
    assert raw._wanted()[1] == {5432: first.route}
    for late in (second, entry("a", "a.example.net", tcp_port=5432)):
        registry.table.put(late)
        registry.table.put(entry("b", "b.example.net", tcp_port=5432, idle_timeout=5.0))  # as when it is edited
        assert raw._wanted()[1][5432].name == "b"
    assert registry.lost_ports.keys() == {"rte_a", "rte_c"}
    assert registry.lost_ports["rte_a"].reason([""]) == "the route b has port 5432 already; first come stays"
    assert "route b" not in registry.lost_ports["rte_a"].reason(["clu_other"])
    registry.table.remove("rte_b")
    assert raw._wanted()[1][5432].name == "a"
    assert registry.lost_ports.keys() == {"rte_c"}


async def test_port_goes_to_the_oldest_route_after_a_restart() -> None:
    registry = registry_of(entry("z", "z.example.net", tcp_port=5432), entry("a", "a.example.net", tcp_port=5432))
    raw = RawRoutes(registry, Bus(), Usual(), range(5432, 5433))
    assert raw._wanted()[1][5432].name == "a"

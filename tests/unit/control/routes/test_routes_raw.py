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

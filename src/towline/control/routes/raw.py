"""Routes that serve no HTTP: which TLS names are passed through, and which ports the gateway listens on for them."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC
from towline.control.logging import get_logger
from towline.control.routes.states import PortLost
from towline.gateway.interfaces import HelloReader, ToTarget
from towline.gateway.raw_ports import RawPorts
from towline.gateway.routing import ROOT
from towline.wire.client_hello import ClientHello

if TYPE_CHECKING:
    from towline.control.bus import Bus
    from towline.control.routes.registry import RouteRegistry

_log = get_logger("routes")

PAUSE = 0.5
"""Seconds between two walks over the table: a storm of changes costs no more than that."""


class RawRoutes:
    """Implements `gateway.interfaces.HelloReader` over another one, and keeps the ports of raw TCP routes right.

    Args: hellos: asked for everything that is not passed through. ports: that routes may ask for.
    """

    def __init__(self, registry: RouteRegistry, bus: Bus, hellos: HelloReader, ports: range) -> None:
        self._registry = registry
        self._bus = bus
        self._hellos = hellos
        self._ports = ports
        self._names: frozenset[str] = frozenset()
        self._holders: dict[int, str] = {}
        """The ids of the routes that have ports: a port does not change hands because its route is edited."""
        self._listening: RawPorts | None = None
        self._tasks = TaskOwner("raw-routes")

    def __repr__(self) -> str:
        return f"<RawRoutes {len(self._names)} names, {self._listening!r}>"

    # what the edge asks before TLS

    @property
    def wants_hello(self) -> bool:
        return bool(self._names) or self._hellos.wants_hello

    def choose(self, hello: ClientHello) -> ssl.SSLContext | ToTarget | None:
        name = (hello.server_name or "").lower()
        if name in self._names or f"*.{name.partition('.')[2]}" in self._names:
            route = self._registry.find(name, ROOT)  # never for a name of the server itself
            if isinstance(route, ToTarget) and route.options is not None and route.options.tls_passthrough:
                return route
        return self._hellos.choose(hello)

    # following the table

    async def start(self, listening: RawPorts) -> None:
        """Listen for what there is, and follow changes."""
        self._listening = listening
        ready = asyncio.Event()
        self._tasks.spawn("follow", self._follow(ready))
        await ready.wait()
        await self.refresh()

    async def stop(self) -> None:
        await self._tasks.close()

    async def refresh(self) -> None:
        """Walk the table once."""
        names, wanted = self._wanted()
        self._names = names
        if self._listening is not None:
            await self._listening.update(wanted)

    def _wanted(self) -> tuple[frozenset[str], Mapping[int, ToTarget]]:
        names, rivals = set(), defaultdict[int, dict[str, ToTarget]](dict)
        for entry in self._registry.table:
            route = entry.route
            if not isinstance(route, ToTarget) or route.options is None or not route.options.is_raw:
                continue
            if route.options.tls_passthrough:
                names.add(entry.host)
            elif route.options.tcp_port in self._ports:
                rivals[route.options.tcp_port][entry.id] = route
        return frozenset(names), self._give_out(rivals)

    def _give_out(self, rivals: Mapping[int, Mapping[str, ToTarget]]) -> Mapping[int, ToTarget]:
        """Give each port to one route: to the one that has it, else to the oldest, whose id is the smallest."""
        before = self._holders
        self._holders = {
            port: before[port] if before.get(port) in routes else min(routes) for port, routes in rivals.items()
        }
        lost: dict[str, PortLost] = {}
        for port, routes in rivals.items():
            holder = routes[self._holders[port]]
            lost |= {route_id: PortLost(port, holder) for route_id in routes.keys() - {self._holders[port]}}
        for route_id in lost.keys() - self._registry.lost_ports.keys():
            _log.warning("two routes want one port", port=lost[route_id].port, route=route_id)
        self._registry.lost_ports = lost
        return {port: routes[self._holders[port]] for port, routes in rivals.items()}

    async def _follow(self, ready: asyncio.Event) -> None:
        async with self._bus.subscribe("route", "cluster", "domain", RESYNC) as events:
            ready.set()
            async for _ in events:
                await self._registry.settled()
                await self.refresh()
                await asyncio.sleep(PAUSE)

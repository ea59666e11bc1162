"""Services that the settings publish under a host name: which cluster's agent dials which address for it.

They are routes of the gateway's table without rows of their own; no other route gets their names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.bus import RESYNC
from towline.control.errors import ApiError, StartupError
from towline.control.logging import get_logger
from towline.control.routes.registry import PINNED, RouteRegistry
from towline.control.settings import Settings
from towline.gateway.interfaces import Answer, Route, ToTarget
from towline.gateway.tunnelled import TunnelConnector
from towline.tunnel.session import Session
from towline.wire import streams

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("published")

LOOK_INTERVAL = 30.0
"""Seconds between two looks for clusters that did not exist, or were renamed, when no hint comes."""
AWAY = Answer(503, "cluster_unknown", "what is published under this name is not set up yet")


@dataclass(frozen=True, slots=True)
class PublishedTarget:
    """One entry of the setting."""

    cluster: str
    host: str
    port: int


class PublishedRoutes:
    """Keeps the routes of the setting in the table."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._targets = parse(control.settings)
        self._registry: RouteRegistry = control.gateway.registry
        self._clusters: dict[str, str] = {}
        self._tasks = TaskOwner("published")

    def __repr__(self) -> str:
        return f"<PublishedRoutes {','.join(self._targets)}>"

    async def start(self) -> None:
        """Make the routes and keep them right."""
        for name in self._targets:
            self._registry.pin(name, AWAY)
        if self._targets:
            await self.refresh()
            self._tasks.spawn("refresh", self._refresh_for_ever())

    async def stop(self) -> None:
        """Stop following changes."""
        await self._tasks.close()

    async def refresh(self) -> None:
        """Look each cluster's name up; a route stays the same object while its cluster does."""
        for name, target in self._targets.items():
            cluster_id = await self._cluster_id(target.cluster)
            if cluster_id == self._clusters.get(name, ""):
                continue
            self._clusters[name] = cluster_id
            self._registry.pin(name, self._route(name, target, cluster_id) if cluster_id else AWAY)
            _log.info("published", host=name, cluster=cluster_id or "unknown", port=target.port)

    def _route(self, name: str, target: PublishedTarget, cluster_id: str) -> Route:
        links = self._control.fleet.links

        def session() -> Session | None:
            found = links.for_stream(cluster_id)
            return found.session if found is not None else None

        connector = TunnelConnector(session, streams.Tcp(host=target.host, port=target.port))
        return ToTarget(name, connector, id=f"{PINNED}{name}", cluster_id=cluster_id)

    async def _cluster_id(self, name: str) -> str:
        try:
            return (await self._control.fleet.clusters.get(system_access("published"), name)).row.id
        except ApiError:
            return ""

    async def _refresh_for_ever(self) -> None:
        async with self._control.bus.subscribe("cluster", RESYNC) as events:
            while True:
                try:
                    async with asyncio.timeout(LOOK_INTERVAL):
                        await anext(events)
                except TimeoutError:
                    pass
                except StopAsyncIteration:
                    return
                await self.refresh()


def parse(settings: Settings) -> dict[str, PublishedTarget]:
    """Return the targets by host name. Raises: StartupError: an entry that is none."""
    found = {}
    for host, target in settings.published.items():
        cluster, slash, address = target.partition("/")
        name, colon, port = address.rpartition(":")
        if not slash or not colon or not cluster or not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise StartupError(f"published: {host} must name CLUSTER/ADDRESS:PORT, not {target!r}")
        found[host.lower()] = PublishedTarget(cluster, name.strip("[]"), int(port))
    return found

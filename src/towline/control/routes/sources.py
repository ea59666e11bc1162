"""What the sources of each cluster may publish: the setting, and telling agents whether to follow ingresses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from towline.aio.tasks import TaskOwner
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.audit.service import AuditLog
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import Clusters
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.control.routes import repository
from towline.control.routes.models import ClusterGateway
from towline.control.routes.schemas import ClusterGatewayPatch
from towline.control.routes.service import RouteService
from towline.control.routes.settling import key_of, settle
from towline.wire import link

_log = get_logger("routes")

GREETING_PAUSE = 0.05
"""Seconds that new links are gathered: after a restart thousands come at once, and one look is for all of them."""


@dataclass(frozen=True, slots=True)
class SourcesView:
    """What one cluster may publish, and what is known of its sources."""

    row: ClusterGateway
    is_private: bool | None
    routes: int


class Sources:
    """The setting of every cluster. Args: settings: what every link begins with."""

    def __init__(
        self, db: Database, audit: AuditLog, clusters: Clusters, links: Links, routes: RouteService,
        settings: link.LinkSettings,
    ) -> None:  # fmt: skip
        self._db = db
        self._audit = audit
        self._clusters = clusters
        self._links = links
        self._routes = routes
        self._settings = settings
        self._tasks = TaskOwner("route-sources")
        self._arrived: list[Link] = []
        """Links that are up since a moment, and whose clusters' settings were not looked at."""
        links.on_up(self._up)

    async def stop(self) -> None:
        await self._tasks.close()

    async def get(self, access: Access, cluster: str) -> SourcesView:
        """Raises: ApiError: cluster_not_found."""
        async with self._db.read() as tx:
            row, _ = await self._clusters.require(tx, access, cluster, Permission.ROUTE_READ)
            held = (await repository.gateways(tx, [row.id])).get(row.id) or _fresh(row)
            return await self._view(tx, row, held)

    async def change(self, access: Access, cluster: str, patch: ClusterGatewayPatch) -> SourcesView:
        """Change what a cluster may publish, and decide anew about its routes.

        Raises: ApiError: cluster_not_found, forbidden.
        """
        async with self._db.begin() as tx:
            row, _ = await self._clusters.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
            held = await repository.gateway(tx, row.id, row.org_id)
            before = {name: getattr(held, name) for name in patch.model_fields_set}
            for name in patch.model_fields_set:
                if getattr(patch, name) is not None:
                    setattr(held, name, getattr(patch, name))
            await tx.flush()
            await settle(tx, self._routes.ownership(), {key_of(one) for one in await repository.of_cluster(tx, row.id)})
            await self._audit.record(
                tx, access.actor, action="cluster.gateway", target_kind="cluster", target_id=row.id,
                target_name=row.name, cluster_id=row.id,
                detail={"before": before, "after": {name: getattr(held, name) for name in before}},
            )  # fmt: skip
            tx.publish("cluster", id=row.id)
            view = await self._view(tx, row, held)
        if "watch_ingresses" in before:
            await self._tell(row.id, view.row.watch_ingresses)
        return view

    async def _view(self, tx: Transaction, row: Cluster, held: ClusterGateway) -> SourcesView:
        found = row.heartbeat.get("is_private")
        return SourcesView(
            held, found if isinstance(found, bool) else None, len(await repository.of_cluster(tx, row.id))
        )

    # -- telling agents ----------------------------------------------------------------------------

    def _up(self, one: Link) -> None:
        if not self._arrived:
            self._tasks.spawn("settings", self._greet())
        self._arrived.append(one)

    async def _greet(self) -> None:
        """Tell agents their clusters' settings, where those are not what every link begins with."""
        await asyncio.sleep(GREETING_PAUSE)
        arrived, self._arrived = self._arrived, []
        try:
            async with self._db.read() as tx:
                held = await repository.gateways(tx, {one.cluster_id for one in arrived})
        except ApiError as error:
            _log.warning("settings not told", why=error.message)
            return
        for one in arrived:
            row = held.get(one.cluster_id)
            if row is not None and row.watch_ingresses != self._settings.watch_ingresses and one.works:
                one.session.send_now(self._changed(row.watch_ingresses))

    async def _tell(self, cluster_id: str, watch: str) -> None:
        for one in self._links:
            if one.cluster_id == cluster_id and one.works:
                one.session.send_now(self._changed(watch))

    def _changed(self, watch: str) -> link.SettingsChanged:
        return link.SettingsChanged(settings=msgspec.structs.replace(self._settings, watch_ingresses=watch))


def _fresh(row: Cluster) -> ClusterGateway:
    """Return what a cluster may publish before anybody has said anything about it."""
    return ClusterGateway(
        cluster_id=row.id, org_id=row.org_id, existing="proposals", appearing="automatic", watch_ingresses="auto",
        baselines=[], told_at=None, left_out=0,
    )  # fmt: skip

"""The hints of the bus for one viewer's pages: only of what that viewer may see, and never more than ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from towline.control.access.actor import Access, AccessLost
from towline.control.access.permissions import Permission, Reach, Resource, ScopeKind
from towline.control.bus import PAGE_TOPICS, RESYNC, Event, Subscription
from towline.control.clusters import repository as clusters
from towline.control.jobs.follow import KEEP_ALIVE, sse

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

ALIVE_INTERVAL = 15.0
"""Seconds between signs of life: less than any proxy's idle limit."""
FORGET_AFTER = 30.0
"""Seconds that a cluster's organisation and labels are remembered."""
_OF_CLUSTERS = frozenset(
    {"cluster", "agent", "deployment", "job", "inventory", "kubernetes", "route", "recording", "usage"}
)
_BARE = frozenset({"access", "domain", "certificate", "alert"})
"""Topics of nobody's cluster: that something changed is told, and not what."""


class Sight:
    """Decides which hints a viewer gets."""

    def __init__(self, control: ControlPlane, access: Access) -> None:
        self._control = control
        self._access = access
        self._seen: dict[str, tuple[float, bool]] = {}

    async def shows(self, event: Event) -> bool:
        if event.topic == RESYNC:
            return True
        if event.topic == "audit":
            return self._access.may(Permission.AUDIT_READ, Resource(self._access.org_id))
        if event.topic == "alert":
            return self._access.rights.gives(Permission.ALERT_READ)
        if event.topic == "command":  # of several clusters, or of none: ids of runs say nothing about any
            return event.ids.get("org_id") == self._access.org_id and self._access.rights.gives(Permission.JOB_READ)
        if event.topic in _BARE:
            return event.topic == "access" or self._access.rights.gives(Permission.ROUTE_READ)
        cluster_id = event.ids.get("cluster_id") or (event.ids.get("id", "") if event.topic == "cluster" else "")
        return bool(cluster_id) and await self._sees(cluster_id)

    async def _sees(self, cluster_id: str) -> bool:
        now = self._control.clock.monotonic()
        held = self._seen.get(cluster_id)
        if held is not None and held[0] > now:
            return held[1]
        async with self._control.db.read() as tx:
            row = (await clusters.by_id(tx, [cluster_id])).get(cluster_id)
            labels = (await clusters.labels_of(tx, [cluster_id]))[cluster_id]
        before = held is not None and held[1]
        visible = before if row is None else row.org_id == self._access.org_id and self._reaches(cluster_id, labels)
        self._seen[cluster_id] = (now + FORGET_AFTER, visible)
        return visible

    def _reaches(self, cluster_id: str, labels: dict[str, str]) -> bool:
        """A grant on a project reaches some part of every cluster that it does not exclude."""
        scope = self._access.scope(Permission.CLUSTER_READ)
        here = Resource(self._access.org_id, cluster_id, labels)

        def covers(reach: Reach) -> bool:
            part = reach.kind in (ScopeKind.PROJECT, ScopeKind.NAMESPACE)
            return reach.cluster_id in ("", cluster_id) if part else reach.covers(here)

        inside = any(covers(reach) for reach in scope.reaches)
        return inside and (scope.limit is None or any(covers(reach) for reach in scope.limit))


async def hints(control: ControlPlane, access: Access, after: str = "") -> AsyncIterator[bytes]:
    """Yield server-sent events until the viewer leaves or may no longer see anything; first what came `after`."""
    sight = Sight(control, access)
    try:
        async with (
            access.watch(Permission.SELF, Resource(access.org_id)),
            control.bus.subscribe(*PAGE_TOPICS, after=after) as waiting,
        ):
            yield sse("hello", {}, id=None if after else control.bus.position)
            while (event := await _next(waiting)) is not None:
                if event.topic == "alive":
                    yield KEEP_ALIVE
                elif await sight.shows(event):
                    ids = {} if event.topic in _BARE else dict(event.ids)
                    yield sse(event.topic, ids, id=event.position)
    except AccessLost as error:
        yield sse("end", error.body())


async def _next(waiting: Subscription) -> Event | None:
    """Return the next hint, or one that says that nothing happened; None when the server stops."""
    try:
        async with asyncio.timeout(ALIVE_INTERVAL):
            return await anext(waiting)
    except TimeoutError:
        return Event("alive")
    except StopAsyncIteration:
        return None

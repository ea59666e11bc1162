"""Which container a terminal or a log is for: found in the last known inventory, and allowed by its project.

A container that is named by hand is looked up too, because a grant on a project covers that project's containers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster, InventoryContainer
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode, not_found

if TYPE_CHECKING:
    from towline.control.fleet import Fleet

SHORTEST_ID = 12
"""Characters of a container's id that name it, as Docker shows them."""


async def container(
    fleet: Fleet, access: Access, permission: Permission, cluster: str, *, name: str, project: str, service: str
) -> tuple[Cluster, Resource, str]:
    """Return the cluster, what is asked for, and the container: of a service, or by name or id.

    Raises: ApiError: cluster_not_found, container_not_found, forbidden, invalid.
    """
    if bool(name) == bool(project and service):
        raise ApiError(ErrorCode.INVALID, "name a container, or a project and its service")
    async with fleet.db.read() as tx:
        if name:
            return await _named(tx, fleet, access, permission, cluster, name)
        row, resource = await fleet.clusters.require(tx, access, cluster, permission, project=project)
        found = (await tx.execute(clusters.containers(row.id, project=project, service=service))).scalars().all()
    running = [one for one in found if one.state == "running"]
    if not running:
        raise ApiError(
            ErrorCode.CONTAINER_NOT_FOUND,
            f"no container of {project}/{service} runs on {row.name}",
            hint="`towline deployments` shows what runs",
        )
    return row, resource, running[0].container_id


async def project(
    fleet: Fleet, access: Access, permission: Permission, cluster: str, name: str
) -> tuple[Cluster, Resource]:
    """Return the cluster and what is asked for, for a whole project. Raises: ApiError."""
    async with fleet.db.read() as tx:
        return await fleet.clusters.require(tx, access, cluster, permission, project=name)


async def _named(
    tx: Transaction, fleet: Fleet, access: Access, permission: Permission, cluster: str, name: str
) -> tuple[Cluster, Resource, str]:
    place = await clusters.find(tx, access.org_id, cluster)
    found = await clusters.container_named(tx, place.id, name, SHORTEST_ID) if place else None
    project = found.project if isinstance(found, InventoryContainer) else ""
    row, resource = await fleet.clusters.require(tx, access, cluster, permission, project=project)
    if found is None:
        raise not_found("container", name[:100])
    return row, resource, found.container_id

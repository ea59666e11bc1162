"""Finding a cluster or a deployment for somebody: 404 for what they may not see, 403 for what they may not do."""

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.db import Transaction
from towline.control.deployments import repository
from towline.control.deployments.interfaces import ClusterView, Fleet
from towline.control.deployments.models import Deployment, Revision
from towline.control.errors import ApiError, ErrorCode, not_found


class Directory:
    """Looks things up on behalf of an actor."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def cluster(
        self, tx: Transaction, access: Access, permission: Permission, name: str, project: str
    ) -> ClusterView:
        """Find a cluster for something with one project on it, which need not exist yet.

        Raises: ApiError: cluster_not_found, forbidden.
        """
        cluster = await self._fleet.find(tx, access.org_id, name)
        if cluster is None:
            raise not_found("cluster", name)
        access.require(permission, cluster.resource(project), missing=not_found("cluster", name))
        return cluster

    async def deployment(
        self,
        tx: Transaction,
        access: Access,
        permission: Permission,
        cluster_name: str,
        name: str,
        *,
        for_update: bool = False,
    ) -> tuple[ClusterView, Deployment]:
        """Find a deployment by cluster and name, or id.

        Raises: ApiError: cluster_not_found, deployment_not_found, forbidden.
        """
        cluster = await self._fleet.find(tx, access.org_id, cluster_name)
        if cluster is None:
            raise not_found("cluster", cluster_name)
        found = await repository.find(tx, access.org_id, cluster.id, name, for_update=for_update)
        project = found.name if found else name
        access.require(permission, cluster.resource(project), missing=not_found("cluster", cluster_name))
        if found is None:
            raise not_found("deployment", name)
        return cluster, found

    async def revision(self, tx: Transaction, deployment: Deployment, number: int) -> Revision:
        """Find a revision. Raises: ApiError: revision_not_found."""
        found = await repository.revision(tx, deployment.id, number)
        if found is None:
            raise ApiError(ErrorCode.REVISION_NOT_FOUND, f"{deployment.name} has no revision {number}")
        return found

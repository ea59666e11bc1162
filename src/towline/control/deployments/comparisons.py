"""Comparing revisions for people: which services a deploy would touch, and why. Reads only; values never come out."""

import asyncio
from collections.abc import Mapping

from towline.compose import diff
from towline.compose.errors import ComposeError
from towline.compose.revision import Revision as ComposeRevision
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.bundles.service import BundleService
from towline.control.db import Database, Transaction
from towline.control.deployments import repository
from towline.control.deployments.directory import Directory
from towline.control.deployments.interfaces import Fleet
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.schemas import Content, DiffLine, DiffOut, DiffRequest, ServiceChangeOut
from towline.control.deployments.vault import NEW_VERSION, Vault
from towline.control.errors import ApiError, ErrorCode


class Comparisons:
    """Builds the two sides of a comparison from rows and requests."""

    def __init__(self, db: Database, fleet: Fleet, vault: Vault, bundles: BundleService) -> None:
        self._db = db
        self._vault = vault
        self._bundles = bundles
        self._directory = Directory(fleet)

    async def of_request(self, access: Access, cluster_name: str, name: str, request: DiffRequest) -> DiffOut:
        """Compare what somebody is about to deploy with the revision that runs, or with a named one.

        Raises: ApiError: forbidden, cluster_not_found, revision_not_found, bundle_not_found, compose_invalid.
        """
        async with self._db.read() as tx:
            cluster = await self._directory.cluster(tx, access, Permission.DEPLOYMENT_WRITE, cluster_name, name)
            deployment = await repository.find(tx, access.org_id, cluster.id, name)
            old = await self._against(tx, deployment, request.against) if deployment else None
            before = await self.of_row(tx, deployment, old) if deployment and old else None
            after = await self.of_content(tx, access.org_id, name, deployment, request)
        return await _compare(before, after, old.number if old else 0)

    async def of_revisions(
        self, access: Access, cluster_name: str, name: str, number: int, against: int | None
    ) -> DiffOut:
        """Compare two revisions; without `against` with the one before.

        Raises: ApiError: deployment_not_found, revision_not_found, conflict (content no longer kept).
        """
        async with self._db.read() as tx:
            _, deployment = await self._directory.deployment(tx, access, Permission.DEPLOYMENT_READ, cluster_name, name)
            new = await self._directory.revision(tx, deployment, number)
            wanted = number - 1 if against is None else against
            old = await self._directory.revision(tx, deployment, wanted) if wanted > 0 else None
            before = await self.of_row(tx, deployment, old) if old else None
            after = await self.of_row(tx, deployment, new)
        return await _compare(before, after, wanted if old else 0)

    async def of_row(self, tx: Transaction, deployment: Deployment, revision: Revision) -> ComposeRevision:
        """Return a stored revision as the rules read it. Raises: ApiError: conflict, when its content is gone."""
        if revision.compose is None:
            raise ApiError(ErrorCode.CONFLICT, f"the files of revision {revision.number} are no longer kept")
        env, variables = self._vault.open_values(revision)
        return ComposeRevision(
            project=deployment.name,
            compose=revision.compose,
            env=env or "",
            variables=variables,
            secrets={name: str(version) for name, version in revision.secrets.items()},
            files=await self._files(tx, deployment.org_id, revision.bundle),
            bundle=revision.bundle or "",
            images=revision.images,
        )

    async def of_content(
        self, tx: Transaction, org_id: str, name: str, deployment: Deployment | None, content: Content
    ) -> ComposeRevision:
        """Return what a request would make, as the rules read it. Raises: ApiError: bundle_not_found, invalid."""
        return ComposeRevision(
            project=name,
            compose=content.compose,
            env=content.env or "",
            variables=content.variables,
            secrets=await self._secrets(tx, deployment, content),
            files=await self._files(tx, org_id, content.bundle),
            bundle=content.bundle or "",
        )

    async def _secrets(self, tx: Transaction, deployment: Deployment | None, content: Content) -> Mapping[str, str]:
        if deployment is None:
            return dict.fromkeys(content.secrets or (), NEW_VERSION)
        newest = await repository.revision(tx, deployment.id, deployment.latest_number)
        return await self._vault.preview(tx, deployment, newest.secrets if newest else {}, content.secrets)

    async def _files(self, tx: Transaction, org_id: str, digest: str | None) -> Mapping[str, str]:
        return await self._bundles.files(tx, org_id, digest) if digest else {}

    async def _against(self, tx: Transaction, deployment: Deployment, number: int | None) -> Revision | None:
        """Find the other side: the named one, the one that runs, else none."""
        if number is not None:
            return await self._directory.revision(tx, deployment, number)
        return await repository.revision(tx, deployment.id, deployment.running_number)


async def _compare(before: ComposeRevision | None, after: ComposeRevision, against: int) -> DiffOut:
    """Compare in a thread: two large files take their time."""
    try:
        found = await asyncio.to_thread(diff.compare, before, after)
    except ComposeError as error:
        raise ApiError(ErrorCode.COMPOSE_INVALID, str(error)) from error
    return DiffOut(
        against=against,
        services=[
            ServiceChangeOut(name=each.service, change=each.change.value, reasons=list(each.reasons))
            for each in found.services
        ],
        volumes_added=list(found.volumes_added),
        volumes_removed=list(found.volumes_removed),
        networks_added=list(found.networks_added),
        networks_removed=list(found.networks_removed),
        variables=list(found.variables),
        secrets=list(found.secrets),
        files=list(found.files),
        lines=[
            DiffLine.model_validate({"sign": x.sign, "text": x.text, "old": x.old, "new": x.new}) for x in found.lines
        ],
        changes_containers=found.changes_containers,
    )

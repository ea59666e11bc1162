"""Registries: who may see, change and use the credentials, and sealing them. Audited; no FastAPI.

A password comes out in one place alone: `credentials`, which a deploy calls when its order is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.audit.service import AuditLog
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.registries import places, repository
from towline.control.registries.models import Registry
from towline.control.registries.places import Places, Spot
from towline.control.registries.schemas import Places as PlacesBody
from towline.control.registries.schemas import RegistryPatch, RegistryRequest

PURPOSE = "registry-password"
MAX_REGISTRIES = 500
"""In an organisation: each is a row of a list that is filtered in memory."""


class Sealer(Protocol):
    """What seals at rest."""

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes: ...

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


class ClusterNames(Protocol):
    """Names of clusters and back."""

    async def ids(self, tx: Transaction, org_id: str, names: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of clusters that are named by name or id; unknown ones are absent."""

    async def names(self, tx: Transaction, org_id: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the names of clusters by id; unknown ones are absent."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an agent needs to pull. The password is in no repr."""

    host: str
    username: str
    password: str = field(repr=False)


class RegistryService:
    """The registries of every organisation."""

    def __init__(self, db: Database, sealer: Sealer, audit: AuditLog, clusters: ClusterNames) -> None:
        self._db = db
        self._sealer = sealer
        self._audit = audit
        self._clusters = clusters

    async def visible(self, access: Access, search: str = "") -> list[tuple[Registry, PlacesBody]]:
        """Return what the actor may see: those that can be used somewhere in their reach."""
        async with self._db.read() as tx:
            seen = [each for each in await repository.all_of(tx, access.org_id, search) if _sees(access, each)]
            return await self._with_places(tx, access.org_id, seen)

    async def get(self, access: Access, name: str) -> tuple[Registry, PlacesBody]:
        """Raises: ApiError: registry_not_found."""
        async with self._db.read() as tx:
            registry = await self._seen(tx, access, name)
            return (await self._with_places(tx, access.org_id, [registry]))[0]

    async def create(self, access: Access, request: RegistryRequest) -> tuple[Registry, PlacesBody]:
        """Raises: ApiError: forbidden, invalid, name_taken."""
        access.require_org(Permission.REGISTRY_MANAGE)
        try:
            async with self._db.begin() as tx:
                if await repository.count(tx, access.org_id) >= MAX_REGISTRIES:
                    raise ApiError(ErrorCode.CONFLICT, f"an organisation may have {MAX_REGISTRIES} registries")
                registry = await self._new(tx, access, request)
                tx.add(registry)
                await tx.flush()
                await self._record(tx, access, "registry.create", registry)
                return (await self._with_places(tx, access.org_id, [registry]))[0]
        except IntegrityError as error:
            raise ApiError(ErrorCode.NAME_TAKEN, f"a registry named {request.name!r} exists already") from error

    async def change(self, access: Access, name: str, patch: RegistryPatch) -> tuple[Registry, PlacesBody]:
        """Raises: ApiError: forbidden, invalid, registry_not_found."""
        access.require_org(Permission.REGISTRY_MANAGE)
        async with self._db.begin() as tx:
            registry = await self._seen(tx, access, name)
            if patch.host is not None:
                registry.host = _checked_host(patch.host)
            if patch.username is not None:
                registry.username = patch.username
            if patch.places is not None:
                registry.places = (await self._resolved(tx, access.org_id, patch.places)).as_json()
            if patch.password is not None:
                self._seal(registry, patch.password.get_secret_value())
                registry.password_changed_at = await tx.now()
            elif patch.host is not None:
                raise ApiError(
                    ErrorCode.INVALID,
                    "a new host needs the password again",
                    hint="send it together with the host, so that it never reaches a host it was not meant for",
                )
            registry.updated_at = await tx.now()
            await self._record(tx, access, "registry.update", registry, sorted(patch.model_fields_set))
            return (await self._with_places(tx, access.org_id, [registry]))[0]

    async def delete(self, access: Access, name: str) -> None:
        """Raises: ApiError: forbidden, registry_not_found."""
        access.require_org(Permission.REGISTRY_MANAGE)
        async with self._db.begin() as tx:
            registry = await self._seen(tx, access, name)
            await tx.delete(registry)
            await self._record(tx, access, "registry.delete", registry)

    async def usable(self, tx: Transaction, org_id: str, names: Sequence[str], spot: Spot) -> list[Registry]:
        """Return the named registries, when a project there may use them.

        Raises: ApiError: invalid, naming those that do not exist or are not meant for that place.
        """
        found = await repository.named(tx, org_id, names)
        refused = [name for name in names if name not in found or not _places(found[name]).allow(spot)]
        if refused:
            raise ApiError(
                ErrorCode.INVALID,
                f"no registry {', '.join(repr(name) for name in refused)} that {spot.project!r} may use here",
                hint="see the list of registries, or ask an administrator to allow this place",
            )
        return [found[name] for name in names]

    async def still_usable(self, tx: Transaction, org_id: str, names: Sequence[str], spot: Spot) -> list[str]:
        """Return those of the named registries that exist and may be used there."""
        found = await repository.named(tx, org_id, names)
        return [name for name in names if name in found and _places(found[name]).allow(spot)]

    async def credentials(self, tx: Transaction, org_id: str, names: Sequence[str], spot: Spot) -> list[Credentials]:
        """Open the named registries for one deploy, looking again at where they may be used.

        Raises: ApiError: invalid.
        """
        found = await self.usable(tx, org_id, names, spot)
        return [Credentials(each.host, each.username, self._open(each)) for each in found]

    async def _new(self, tx: Transaction, access: Access, request: RegistryRequest) -> Registry:
        now = await tx.now()
        registry = Registry(
            id=new_id("reg"),
            org_id=access.org_id,
            name=request.name,
            host=_checked_host(request.host),
            username=request.username,
            version=0,
            places=(await self._resolved(tx, access.org_id, request.places)).as_json(),
            created_by=access.actor.user_id,
            created_at=now,
            updated_at=now,
            password_changed_at=now,
        )
        self._seal(registry, request.password.get_secret_value())
        return registry

    async def _resolved(self, tx: Transaction, org_id: str, body: PlacesBody) -> Places:
        known = await self._clusters.ids(tx, org_id, body.clusters)
        if unknown := [name for name in body.clusters if name not in known]:
            raise ApiError(ErrorCode.INVALID, f"no cluster is named {', '.join(repr(name) for name in unknown)}")
        return Places(tuple(dict.fromkeys(known[name] for name in body.clusters)), tuple(body.projects), body.labels)

    async def _with_places(
        self, tx: Transaction, org_id: str, found: Sequence[Registry]
    ) -> list[tuple[Registry, PlacesBody]]:
        """Pair registries with their places, clusters by name."""
        limits = [_places(each) for each in found]
        names = await self._clusters.names(tx, org_id, sorted(places.clusters_of(limits)))
        return [(each, _body(limit, names)) for each, limit in zip(found, limits, strict=True)]

    async def _seen(self, tx: Transaction, access: Access, name: str) -> Registry:
        registry = await repository.find(tx, access.org_id, name)
        if registry is None or not _sees(access, registry):
            raise not_found("registry", name)
        return registry

    async def _record(
        self, tx: Transaction, access: Access, action: str, registry: Registry, changed: Sequence[str] = ()
    ) -> None:
        await self._audit.record(
            tx,
            access.actor,
            action=action,
            target_kind="registry",
            target_id=registry.id,
            target_name=registry.name,
            detail={"host": registry.host, **({"changed": list(changed)} if changed else {})},
        )

    def _seal(self, registry: Registry, password: str) -> None:
        registry.version += 1
        registry.sealed = self._sealer.seal(registry.org_id, registry.id, registry.version, PURPOSE, password.encode())

    def _open(self, registry: Registry) -> str:
        plain = self._sealer.open(registry.org_id, registry.id, registry.version, PURPOSE, registry.sealed)
        return plain.decode()


def _places(registry: Registry) -> Places:
    return places.from_json(registry.places)


def _sees(access: Access, registry: Registry) -> bool:
    scope = access.scope(Permission.REGISTRY_READ)
    limit = _places(registry)
    inside = any(limit.may_meet(reach) for reach in scope.reaches)
    return inside and (scope.limit is None or any(limit.may_meet(reach) for reach in scope.limit))


def _body(limit: Places, names: Mapping[str, str]) -> PlacesBody:
    clusters = [names.get(cluster_id, cluster_id) for cluster_id in limit.cluster_ids]
    return PlacesBody(clusters=clusters, projects=list(limit.projects), labels=dict(limit.labels))


def _checked_host(host: str) -> str:
    try:
        return places.check_host(host)
    except places.HostRefused as error:
        raise ApiError(ErrorCode.INVALID, f"host: {error}") from error

"""The rules of routes: publishing, changing, accepting, refusing, and who may see them. Audited; no FastAPI.

What sources claim comes by `intake`; what holds its name is decided in `settling`; the edge reads `registry`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.service import carrier
from towline.control.db import Database, Transaction
from towline.control.domains.names import NameRefused, Ownership, host_name
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.listing import Listed, ListQuery, fetch
from towline.control.routes import repository
from towline.control.routes.claims import path_of
from towline.control.routes.given import Sealer, hashed, options_of, set_options, users_of
from towline.control.routes.models import PublishedRoute, RoutePlace
from towline.control.routes.schemas import RoutePatch, RouteRequest
from towline.control.routes.settling import Key, hint, key_of, port_of, settle
from towline.control.routes.states import DECLARED, RouteState
from towline.control.routes.targets import RouteTarget, TargetInvalid, parse, place_of, restored, stored

MAX_DECLARED = 10_000
"""Declared routes of an organisation: they are made by hand or by scripts, and all are held in memory."""
SORTS: Mapping[str, Any] = {
    "name": PublishedRoute.name,
    "host": PublishedRoute.host,
    "state": PublishedRoute.state,
    "created_at": PublishedRoute.created_at,
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """A route with everything that is shown of it."""

    row: PublishedRoute
    names: Mapping[str, str]
    """Of its clusters, by id."""
    options: Mapping[str, Any]
    """Without secrets: see `given.options_of`."""
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which routes a list shows."""

    states: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    cluster: str = ""


class RouteService:
    """The routes of every organisation."""

    def __init__(self, db: Database, audit: AuditLog, sealer: Sealer, ownership: Callable[[], Ownership]) -> None:
        self._db = db
        self._audit = audit
        self._sealer = sealer
        self.ownership = ownership

    # -- looking -------------------------------------------------------------------------------

    async def hosts(self) -> frozenset[str]:
        """Return every name that wants a certificate because an active route answers for it; wildcards as `*.NAME`."""
        async with self._db.read() as tx:
            return frozenset(await repository.owners_of_hosts(tx))

    async def page(self, access: Access, asked: ListQuery, wanted: Wanted) -> Listed[View]:
        """Return a page of the routes that the actor may see. Raises: ApiError: invalid, cluster_not_found."""
        async with self._db.read() as tx:
            place = await clusters.find(tx, access.org_id, wanted.cluster) if wanted.cluster else None
            if wanted.cluster and place is None:
                raise not_found("cluster", wanted.cluster[:64])
            query = repository.matching(
                access.org_id,
                where=_visible(access),
                search=asked.search,
                states=wanted.states,
                sources=wanted.sources,
                cluster_id=place.id if place else "",
            )
            found: Listed[PublishedRoute] = await fetch(
                tx, query, asked, sorts=SORTS, default="name", key=PublishedRoute.id
            )
            views = await self._views(tx, found.rows)
        return Listed(views, found.next_cursor, found.total)

    async def get(self, access: Access, route: str) -> View:
        """Raises: ApiError: route_not_found."""
        async with self._db.read() as tx:
            row = await self._require(tx, access, route, Permission.ROUTE_READ)
            return (await self._views(tx, [row]))[0]

    async def watched(self, access: Access, route: str, permission: Permission) -> Resource:
        """Return a place of a route on which the actor holds a permission. Raises: ApiError: not found, forbidden."""
        async with self._db.read() as tx:
            row = await self._require(tx, access, route, Permission.ROUTE_READ)
            resources = (await self._all_resources(tx, [row]))[row.id]
        found = next((one for one in resources if access.may(permission, one)), resources[0])
        access.require(permission, found)
        return found

    async def writable(self, access: Access, views: Sequence[View]) -> frozenset[str]:
        """Return the ids of those routes that the actor may change: what a page offers to."""
        async with self._db.read() as tx:
            allowed = await self._allowed(tx, access, [view.row for view in views], Permission.ROUTE_WRITE)
        return frozenset(row.id for row in allowed)

    # -- declaring -----------------------------------------------------------------------------

    async def create(self, access: Access, request: RouteRequest) -> View:
        """Publish a service.

        Raises: ApiError: forbidden, cluster_not_found, invalid, name_taken, host_refused, host_taken.
        """

        users = await hashed(request.passwords)

        async def work(tx: Transaction) -> View:
            if await repository.count_declared(tx, access.org_id) >= MAX_DECLARED:
                raise ApiError(ErrorCode.CONFLICT, f"an organisation may declare {MAX_DECLARED} routes")
            if await repository.names_taken(tx, access.org_id, [request.name]):
                raise ApiError(ErrorCode.NAME_TAKEN, f"a route named {request.name!r} exists already")
            target = _target(request.to)
            places = await self._clusters(tx, access, request.clusters, target)
            moment = await tx.now()
            row = PublishedRoute(
                id=new_id("rte"), org_id=access.org_id, name=request.name, source=DECLARED,
                path=path_of(request.path, request.path_type),
                host=self._host(request.host, request.name, places), path_type=request.path_type,
                enabled=request.enabled, tls=False, decision="", decided_by="", existed=False, missing=False, reason="",
                targets=_targets(places, target), options={}, notes=[], state=RouteState.ACTIVE.value,
                created_at=moment, changed_at=moment, created_by=access.actor.username,
            )  # fmt: skip
            set_options(self._sealer, row, request.options, users)
            tx.add(row)
            await tx.flush()
            await repository.set_places(tx, row.id, _places(row))
            await self._refuse_port(tx, row)
            await self._settle_or_refuse(tx, row, {key_of(row)})
            await self._record(tx, access, "route.publish", row)
            return (await self._views(tx, [row]))[0]

        return await self._write(work)

    async def change(self, access: Access, route: str, patch: RoutePatch) -> View:
        """Change a route. Raises: ApiError: as `create`, and route_not_found, conflict for one that a source claims."""
        changed = {name for name in patch.model_fields_set if getattr(patch, name) is not None}
        users = await hashed(patch.passwords)

        async def work(tx: Transaction) -> View:
            row = await self._require(tx, access, route, Permission.ROUTE_WRITE)
            if row.source != DECLARED and changed - {"enabled"}:
                raise ApiError(
                    ErrorCode.CONFLICT,
                    f"{row.name} is claimed by {row.ref}: only `enabled` can be changed here",
                    hint="change it at its source, or refuse it and declare a route of your own",
                )
            before, had = key_of(row), port_of(row)
            await self._apply(tx, access, row, patch, users)
            row.changed_at = await tx.now()
            await tx.flush()
            if row.source == DECLARED and port_of(row) != had:
                await self._refuse_port(tx, row)
            await self._settle_or_refuse(tx, row, {before, key_of(row)})
            hint(tx, [row])
            await self._record(tx, access, "route.change", row, {"changed": sorted(changed)})
            return (await self._views(tx, [row]))[0]

        return await self._write(work)

    async def remove(self, access: Access, route: str) -> None:
        """Take a declared route away. Raises: ApiError: route_not_found, forbidden, conflict."""

        async def work(tx: Transaction) -> None:
            row = await self._require(tx, access, route, Permission.ROUTE_WRITE)
            if row.source != DECLARED and not row.missing:
                raise ApiError(
                    ErrorCode.CONFLICT,
                    f"{row.name} is claimed by {row.ref}, and would come back",
                    hint="remove it at its source, or refuse it: towline routes refuse",
                )
            hint(tx, [row])
            await tx.delete(row)
            await settle(tx, self.ownership(), {key_of(row)})
            await self._record(tx, access, "route.unpublish", row)

        await self._write(work)

    # -- deciding about proposals ----------------------------------------------------------------

    async def decide(self, access: Access, route: str, decision: str) -> View:
        """Accept or refuse what a source claims. Raises: ApiError: route_not_found, forbidden, conflict."""

        async def work(tx: Transaction) -> View:
            row = await self._require(tx, access, route, Permission.ROUTE_WRITE)
            if row.source == DECLARED:
                raise ApiError(
                    ErrorCode.CONFLICT, f"{row.name} was declared: there is nothing to accept or refuse",
                    hint="unpublish it, or switch it off",
                )  # fmt: skip
            await self._decide(tx, access, [row], decision)
            return (await self._views(tx, [row]))[0]

        return await self._write(work)

    async def accept_all(self, access: Access, cluster: str) -> int:
        """Accept every proposal of a cluster that the actor may. Returns: how many."""

        async def work(tx: Transaction) -> int:
            place = await clusters.find(tx, access.org_id, cluster)
            if place is None:
                raise not_found("cluster", cluster[:64])
            rows = [row for row in await repository.of_cluster(tx, place.id) if row.state == RouteState.PROPOSED]
            allowed = await self._allowed(tx, access, rows, Permission.ROUTE_WRITE)
            await self._decide(tx, access, allowed, "accepted")
            return len(allowed)

        return await self._write(work)

    async def _decide(self, tx: Transaction, access: Access, rows: Collection[PublishedRoute], decision: str) -> None:
        for row in rows:
            row.decision, row.decided_by = decision, access.actor.username
        await settle(tx, self.ownership(), {key_of(row) for row in rows})
        word = "accept" if decision == "accepted" else "refuse"
        for row in rows:
            await self._record(tx, access, f"route.{word}", row)

    async def domains_changed(self, tx: Transaction, org_id: str) -> None:
        """Decide anew about every route of an organisation whose domains changed."""
        hosts = await repository.hosts_of_org(tx, org_id)
        await settle(tx, self.ownership(), {key_of(row) for row in await repository.on_hosts(tx, hosts)})

    # -- inside ----------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a change; once more when another process took a name at the same moment."""
        try:
            async with self._db.begin() as tx:
                return await work(tx)
        except IntegrityError:
            pass
        try:
            async with self._db.begin() as tx:
                return await work(tx)
        except IntegrityError as error:
            raise ApiError(
                ErrorCode.CONFLICT, "somebody changed the same route at this moment", hint="look at it and try again"
            ) from error

    async def _apply(
        self, tx: Transaction, access: Access, row: PublishedRoute, patch: RoutePatch, users: list[str] | None
    ) -> None:
        if patch.enabled is not None:
            row.enabled = patch.enabled
        if row.source != DECLARED:
            return
        if patch.to is not None or patch.clusters is not None:
            held = [one["cluster_id"] for one in row.targets]
            target = _target(patch.to) if patch.to is not None else restored(row.targets[0]["target"])
            places = await self._clusters(tx, access, patch.clusters or held, target)
            row.targets = _targets(places, target)
            await repository.set_places(tx, row.id, _places(row))
        if patch.host is not None:
            row.host = self._host(patch.host, row.name, await self._rows_of(tx, row))
        row.path_type = patch.path_type if patch.path_type is not None else row.path_type
        row.path = path_of(patch.path if patch.path is not None else row.path, row.path_type)
        if any(one is not None for one in (patch.options, users, patch.path, patch.path_type)):
            set_options(self._sealer, row, patch.options or {}, users)

    async def _rows_of(self, tx: Transaction, row: PublishedRoute) -> list[Cluster]:
        found = await clusters.by_id(tx, [one["cluster_id"] for one in row.targets])
        return list(found.values())

    def _host(self, text: str, name: str, places: Sequence[Cluster]) -> str:
        """Return the host that was asked for, or the one that is given out. Raises: ApiError: invalid."""
        try:
            return host_name(text, wildcard=True) if text else self.ownership().given_name(name, places[0].name)
        except (NameRefused, IndexError) as error:
            raise ApiError(ErrorCode.INVALID, str(error) or "the route leads nowhere") from error

    async def _clusters(
        self, tx: Transaction, access: Access, names: Sequence[str], target: RouteTarget
    ) -> list[Cluster]:
        """Return the clusters that a route leads to, each allowed to the actor."""
        project, namespace = place_of(target)
        found = []
        for name in names or [await self._only_cluster(tx, access)]:
            row = await clusters.find(tx, access.org_id, name)
            if row is None:
                raise not_found("cluster", name[:64])
            labels = (await clusters.labels_of(tx, [row.id]))[row.id]
            resource = Resource(access.org_id, row.id, labels, project, namespace)
            access.require(Permission.ROUTE_WRITE, resource, missing=not_found("cluster", name[:64]))
            found.append(row)
        return list({row.id: row for row in found}.values())

    async def _only_cluster(self, tx: Transaction, access: Access) -> str:
        names = [name for name, _ in await clusters.names_with_link(tx, access.org_id, Cluster.id.is_not(None))]
        if len(names) == 1:
            return names[0]
        raise ApiError(ErrorCode.INVALID, "name the cluster where it runs", hint="clusters: [NAME], or --cluster NAME")

    async def _settle_or_refuse(self, tx: Transaction, row: PublishedRoute, keys: set[Key]) -> None:
        """Decide about a declared route, and refuse the whole change when it would not answer for its name."""
        await settle(tx, self.ownership(), keys)
        if row.source != DECLARED or row.state in (RouteState.ACTIVE, RouteState.LEAVING):
            return
        if row.state == RouteState.CONFLICT:
            raise ApiError(
                ErrorCode.HOST_TAKEN,
                f"{row.name} cannot have {row.host}{row.path}: {row.reason}",
                hint="choose another host or path, or remove the other route first",
            )
        raise ApiError(ErrorCode.HOST_REFUSED, row.reason, hint="see: towline domains")

    async def _refuse_port(self, tx: Transaction, row: PublishedRoute) -> None:
        """Refuse a port that another route has, in words that name the port."""
        port = port_of(row)
        held = (await repository.holders_of_ports(tx, [port])).get(port) if port else None
        if held is not None and held.id != row.id:
            name = f"the route {held.name}" if held.org_id == row.org_id else "a route of another organisation"
            raise ApiError(
                ErrorCode.HOST_TAKEN,
                f"{row.name} cannot have port {port}: {name} has it already; first come stays",
                hint="choose another port, or remove the other route first",
            )

    async def _require(self, tx: Transaction, access: Access, route: str, permission: Permission) -> PublishedRoute:
        missing = not_found("route", route[:200])
        row = await repository.find(tx, access.org_id, route)
        if row is None:
            raise missing
        resources = (await self._all_resources(tx, [row]))[row.id]
        if permission is Permission.ROUTE_READ and any(access.may(permission, one) for one in resources):
            return row
        for resource in resources:
            access.require(permission, resource, missing=missing)
        return row

    async def _allowed(
        self, tx: Transaction, access: Access, rows: Sequence[PublishedRoute], permission: Permission
    ) -> list[PublishedRoute]:
        held = await self._all_resources(tx, rows)
        return [row for row in rows if all(access.may(permission, one) for one in held[row.id])]

    async def _all_resources(self, tx: Transaction, rows: Sequence[PublishedRoute]) -> dict[str, list[Resource]]:
        """Return what permissions on routes are asked for: every place that each leads to."""
        places = await repository.places_of(tx, [row.id for row in rows])
        labels = await clusters.labels_of(tx, {place.cluster_id for some in places.values() for place in some})

        def resource(row: PublishedRoute, place: RoutePlace) -> Resource:
            return Resource(row.org_id, place.cluster_id, labels[place.cluster_id], place.project, place.namespace)

        return {row.id: [resource(row, place) for place in places[row.id]] or [Resource(row.org_id)] for row in rows}

    async def _views(self, tx: Transaction, rows: Sequence[PublishedRoute]) -> list[View]:
        ids = {one["cluster_id"] for row in rows for one in row.targets}
        names = await repository.cluster_names(tx, ids | {row.cluster_id for row in rows if row.cluster_id})
        return [View(row, names, options_of(self._sealer, row), users_of(self._sealer, row)) for row in rows]

    async def _record(
        self, tx: Transaction, access: Access, action: str, row: PublishedRoute, detail: Mapping[str, Any] | None = None
    ) -> None:
        cluster_id = row.cluster_id or (row.targets[0]["cluster_id"] if row.targets else "")
        await self._audit.record(
            tx, access.actor, action=action, target_kind="route", target_id=row.id, target_name=row.name,
            cluster_id=cluster_id, detail={"host": row.host, "path": row.path, **(detail or {})},
        )  # fmt: skip


def _visible(access: Access) -> Any:
    """Return the condition on places that the actor may see routes of."""
    return access.scope(Permission.ROUTE_READ).clause(
        cluster_id=RoutePlace.cluster_id,
        matches_selector=carrier(RoutePlace.cluster_id),
        project=RoutePlace.project,
        namespace=RoutePlace.namespace,
    )


def _target(text: str) -> RouteTarget:
    try:
        return parse(text)
    except TargetInvalid as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error


def _targets(places: Sequence[Cluster], target: RouteTarget) -> list[dict[str, Any]]:
    return [{"cluster_id": place.id, "target": stored(target)} for place in places]


def _places(row: PublishedRoute) -> list[tuple[str, str, str]]:
    return [(one["cluster_id"], *place_of(restored(one["target"]))) for one in row.targets]

"""Every query on routes, their places, and what clusters may publish. No rules here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select
from sqlalchemy.orm import aliased

from towline.control.clusters.models import Cluster
from towline.control.db import Transaction
from towline.control.ids import is_id
from towline.control.routes.models import ClusterGateway, PublishedRoute, RoutePlace
from towline.control.routes.states import DECLARED, RouteState

CHUNK = 400
"""Values of one IN list: below what SQLite binds in the oldest releases."""
OWNERS_LOCK = 0x746F776D
"""Key of the PostgreSQL lock that one deciding transaction holds; `schema` has the number before it."""
SERVED = (
    PublishedRoute.id, PublishedRoute.org_id, PublishedRoute.name, PublishedRoute.host, PublishedRoute.path,
    PublishedRoute.path_type, PublishedRoute.targets, PublishedRoute.options, PublishedRoute.sealed,
    PublishedRoute.cluster_id,
)  # fmt: skip
"""Whole rows take three times as long to read, and there may be tens of thousands."""


def chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    listed = list(values)
    for at in range(0, len(listed), CHUNK):
        yield listed[at : at + CHUNK]


async def find(tx: Transaction, org_id: str, name_or_id: str) -> PublishedRoute | None:
    column = PublishedRoute.id if is_id(name_or_id, "rte") else PublishedRoute.name
    query = select(PublishedRoute).where(PublishedRoute.org_id == org_id, column == name_or_id)
    return (await tx.scalars(query)).first()


def matching(
    org_id: str,
    *,
    where: ColumnElement[bool],
    search: str = "",
    states: Sequence[str] = (),
    sources: Sequence[str] = (),
    cluster_id: str = "",
) -> Select[Any]:
    """Return the query of a list of routes, without order. `where` is a condition on a row of `RoutePlace`."""
    here = select(RoutePlace.route_id).where(RoutePlace.route_id == PublishedRoute.id, where)
    if cluster_id:
        here = here.where(RoutePlace.cluster_id == cluster_id)
    query = select(PublishedRoute).where(PublishedRoute.org_id == org_id, exists(here))
    if search:
        text = (PublishedRoute.name, PublishedRoute.host, PublishedRoute.path)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in text)))
    if states:
        query = query.where(PublishedRoute.state.in_(states))
    return query.where(PublishedRoute.source.in_(sources)) if sources else query


async def count_declared(tx: Transaction, org_id: str) -> int:
    query = select(func.count()).select_from(PublishedRoute)
    return await tx.scalar(query.where(PublishedRoute.org_id == org_id, PublishedRoute.source == DECLARED)) or 0


async def count_states(tx: Transaction) -> dict[tuple[str, str], int]:
    """Return how many routes there are by source and state, for metrics."""
    query = select(PublishedRoute.source, PublishedRoute.state, func.count())
    rows = await tx.execute(query.group_by(PublishedRoute.source, PublishedRoute.state))
    return {(row[0], row[1]): row[2] for row in rows}


async def on_hosts(tx: Transaction, hosts: Collection[str]) -> list[PublishedRoute]:
    """Return every route of some hosts, of all organisations, first come first."""
    found: list[PublishedRoute] = []
    for some in chunks(hosts):
        found += (await tx.scalars(select(PublishedRoute).where(PublishedRoute.host.in_(some)))).all()
    return sorted(found, key=lambda row: (row.created_at, row.id))


async def holders_of_ports(tx: Transaction, ports: Collection[int]) -> dict[int, PublishedRoute]:
    """Return the routes that have some ports of the gateway."""
    found: dict[int, PublishedRoute] = {}
    for some in chunks(ports):
        query = select(PublishedRoute).where(PublishedRoute.port_claim.in_(some))
        found |= {row.port_claim: row for row in (await tx.scalars(query)).all() if row.port_claim is not None}
    return found


async def waiting_for_ports(tx: Transaction, limit: int) -> Sequence[PublishedRoute]:
    """Return routes in conflict that ask for a port which no route has by now."""
    query = select(PublishedRoute).where(PublishedRoute.state == RouteState.CONFLICT, PublishedRoute.enabled.is_(True))
    query = query.where(_wanted_port() > 0, ~exists(_holder_of_its_port()))
    return (await tx.scalars(query.order_by(PublishedRoute.id).limit(limit))).all()


async def lock_owners(tx: Transaction) -> None:
    """Decide alone, until the transaction ends, which organisation has a host below the gateway's own domain.

    No index can say that the rows of a host are of one organisation. SQLite has one writer at a time anyway.
    """
    if tx.get_bind().dialect.name == "postgresql":
        await tx.execute(select(func.pg_advisory_xact_lock(OWNERS_LOCK)))


async def by_ids(tx: Transaction, ids: Collection[str]) -> list[PublishedRoute]:
    found: list[PublishedRoute] = []
    for some in chunks(ids):
        found += (await tx.scalars(select(PublishedRoute).where(PublishedRoute.id.in_(some)))).all()
    return found


async def of_cluster(tx: Transaction, cluster_id: str) -> Sequence[PublishedRoute]:
    """Return the routes that a cluster's own sources claim."""
    return (await tx.scalars(select(PublishedRoute).where(PublishedRoute.cluster_id == cluster_id))).all()


async def served(tx: Transaction, after: str, limit: int) -> Sequence[Any]:
    """Return a page of the routes that answer for their names, by id: the columns alone that the edge needs."""
    query = select(*SERVED).where(PublishedRoute.claim.is_not(None), PublishedRoute.enabled.is_(True))
    return (await tx.execute(query.where(PublishedRoute.id > after).order_by(PublishedRoute.id).limit(limit))).all()


async def owners_of_hosts(tx: Transaction) -> dict[str, str]:
    """Return the organisation of every name that wants a certificate.

    One whose TLS is passed through wants none, whatever else is below it: its target ends TLS. Nor does one that
    leads to its target by a port alone.
    """
    passed = PublishedRoute.options["tls_passthrough"].as_boolean().label("passed")
    port = PublishedRoute.options["tcp_port"].as_integer().label("port")
    query = select(PublishedRoute.host, PublishedRoute.org_id, passed, port).distinct().order_by(PublishedRoute.host)
    query = query.where(PublishedRoute.claim.is_not(None), PublishedRoute.enabled.is_(True))
    rows = (await tx.execute(query)).all()
    whole = {row.host for row in rows if row.passed}
    return {row.host: row.org_id for row in rows if not row.port and row.host not in whole}


async def names_taken(tx: Transaction, org_id: str, names: Collection[str]) -> set[str]:
    found: set[str] = set()
    for some in chunks(names):
        query = select(PublishedRoute.name).where(PublishedRoute.org_id == org_id, PublishedRoute.name.in_(some))
        found |= set(await tx.scalars(query))
    return found


async def hosts_of_org(tx: Transaction, org_id: str) -> set[str]:
    return set(await tx.scalars(select(PublishedRoute.host).where(PublishedRoute.org_id == org_id).distinct()))


# -- places --------------------------------------------------------------------------------------


async def places_of(tx: Transaction, ids: Collection[str]) -> dict[str, list[RoutePlace]]:
    found: dict[str, list[RoutePlace]] = {route_id: [] for route_id in ids}
    for some in chunks(ids):
        query = select(RoutePlace).where(RoutePlace.route_id.in_(some)).order_by(RoutePlace.number)
        for row in (await tx.scalars(query)).all():
            found[row.route_id].append(row)
    return found


async def set_places(tx: Transaction, route_id: str, places: Sequence[tuple[str, str, str]]) -> None:
    """Replace the places of a route: cluster, project, namespace each."""
    await tx.execute(delete(RoutePlace).where(RoutePlace.route_id == route_id))
    add_places(tx, route_id, places)
    await tx.flush()


def add_places(tx: Transaction, route_id: str, places: Sequence[tuple[str, str, str]]) -> None:
    tx.add_all(
        RoutePlace(route_id=route_id, number=number, cluster_id=place[0], project=place[1], namespace=place[2])
        for number, place in enumerate(places)
    )


# -- clusters ------------------------------------------------------------------------------------


async def cluster_names(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(cluster_ids):
        query = select(Cluster.id, Cluster.name).where(Cluster.id.in_(some))
        found |= {row[0]: row[1] for row in await tx.execute(query)}
    return found


async def gateways(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, ClusterGateway]:
    found: dict[str, ClusterGateway] = {}
    for some in chunks(cluster_ids):
        query = select(ClusterGateway).where(ClusterGateway.cluster_id.in_(some))
        found |= {row.cluster_id: row for row in (await tx.scalars(query)).all()}
    return found


async def gateway(tx: Transaction, cluster_id: str, org_id: str) -> ClusterGateway:
    """Return what a cluster may publish; it has a row from the first look on."""
    known = await tx.get(ClusterGateway, cluster_id)
    if known is None:
        known = ClusterGateway(
            cluster_id=cluster_id, org_id=org_id, existing="proposals", appearing="automatic", watch_ingresses="auto",
            baselines=[], left_out=0,
        )  # fmt: skip
        tx.add(known)
        await tx.flush()
    return known


# -- what time brings ------------------------------------------------------------------------------


async def is_anything_due(tx: Transaction, moment: datetime, away_grace: timedelta, zone: str) -> bool:
    """Tell whether any of what follows would find something. Args: zone: the gateway's own domain; empty: none."""
    for query in (_overdue(moment), _unopposed(zone), _orphans(), _away(moment - away_grace)):
        if (await tx.execute(query.with_only_columns(PublishedRoute.id).limit(1))).first() is not None:
            return True
    return False


async def overdue(tx: Transaction, moment: datetime, limit: int) -> Sequence[PublishedRoute]:
    """Return routes that still hold their names, or are still there, although their time is over."""
    return (await tx.scalars(_overdue(moment).limit(limit))).all()


async def unopposed(tx: Transaction, zone: str, limit: int) -> Sequence[PublishedRoute]:
    """Return routes in conflict whose rival is gone: its cluster was removed. Args: zone: as above."""
    return (await tx.scalars(_unopposed(zone).limit(limit))).all()


async def orphans(tx: Transaction, limit: int) -> Sequence[PublishedRoute]:
    """Return declared routes that hold their names although their every cluster was removed."""
    return (await tx.scalars(_orphans().limit(limit))).all()


async def note_away(tx: Transaction, seen_before: datetime, moment: datetime, limit: int) -> None:
    """Let the routes of clusters go that have been away for long."""
    for row in (await tx.scalars(_away(seen_before).limit(limit))).all():
        row.leaving_at = moment
    await tx.flush()


def _overdue(moment: datetime) -> Select[Any]:
    gone = or_(PublishedRoute.claim.is_not(None), and_(PublishedRoute.missing, PublishedRoute.decision != "refused"))
    return select(PublishedRoute).where(PublishedRoute.leaving_at <= moment, gone)


def _wanted_port() -> ColumnElement[int]:
    port: ColumnElement[int] = PublishedRoute.options["tcp_port"].as_integer()
    return port


def _holder_of_its_port() -> Select[Any]:
    holder = aliased(PublishedRoute)
    return select(holder.id).where(holder.port_claim == _wanted_port(), PublishedRoute.enabled.is_(True))


def _owner_of_its_host(zone: str) -> Select[Any]:
    owner = aliased(PublishedRoute)
    given_out = PublishedRoute.host.endswith(f".{zone}", autoescape=True)
    elsewhere = and_(owner.host == PublishedRoute.host, owner.org_id != PublishedRoute.org_id)
    return select(owner.id).where(elsewhere, owner.claim.is_not(None), given_out)


def _unopposed(zone: str) -> Select[Any]:
    rival = aliased(PublishedRoute)
    same = and_(
        rival.host == PublishedRoute.host,
        rival.path == PublishedRoute.path,
        rival.path_type == PublishedRoute.path_type,
        rival.claim.is_not(None),
    )
    query = select(PublishedRoute).where(PublishedRoute.state == RouteState.CONFLICT)
    query = query.where(~exists(select(rival.id).where(same)), ~exists(_holder_of_its_port()))
    return query.where(~exists(_owner_of_its_host(zone))) if zone else query


def _orphans() -> Select[Any]:
    here = select(RoutePlace.route_id).where(RoutePlace.route_id == PublishedRoute.id)
    query = select(PublishedRoute).where(PublishedRoute.source == DECLARED, PublishedRoute.claim.is_not(None))
    return query.where(~exists(here))


def _away(seen_before: datetime) -> Select[Any]:
    away = select(Cluster.id).where(Cluster.connected.is_(False), Cluster.last_seen_at < seen_before)
    return select(PublishedRoute).where(
        PublishedRoute.cluster_id.in_(away), PublishedRoute.leaving_at.is_(None), PublishedRoute.claim.is_not(None)
    )

"""Deciding which routes hold their names: judges rows, settles conflicts, writes states. Called in transactions.

First come stays: a route that holds its name and path keeps them for as long as it may; then the oldest rival gets
them. A port of the gateway goes the same way. Unique indexes on `claim` and `port_claim` see to it that two processes
never give one name or port away twice. Names below the gateway's own domain are whole organisations': the first one
that has a route there owns the host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from towline.control.db import Transaction
from towline.control.domains import repository as domains
from towline.control.domains.names import Ownership
from towline.control.routes import repository
from towline.control.routes.models import ClusterGateway, PublishedRoute
from towline.control.routes.states import (
    DECLARED,
    Facts,
    RouteState,
    Verdict,
    host_lost,
    judge,
    lost_to,
    port_lost_to,
)

Key = tuple[str, str, str]
"""Host, path and kind of path: what one route alone may answer for."""
SINGLE_HINTS = 20
"""Changed routes that are named one by one; more are hinted at by their clusters."""


AT_ONCE = 100
"""Routes that are decided about because a port was given back; those that are left wait for the next look."""


@dataclass(frozen=True, slots=True)
class Known:
    """What routes are judged by, read once for all of them."""

    ownership: Ownership
    moment: datetime
    verified: Mapping[str, Collection[str]]
    names: Mapping[str, str]
    """Of clusters by id."""
    gateways: Mapping[str, ClusterGateway] = field(default_factory=dict)
    lapsed: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Domains that were verified: what has a name below them keeps it."""

    def verdict(self, row: PublishedRoute) -> Verdict:
        named = [name for target in row.targets if (name := self.names.get(target["cluster_id"], ""))]
        gateway = self.gateways.get(row.cluster_id or "")
        existing, appearing = (gateway.existing, gateway.appearing) if gateway else ("proposals", "automatic")
        verified = self.verified.get(row.org_id, ())
        if row.claim == claim_of(key_of(row)):
            verified = {*verified, *self.lapsed.get(row.org_id, ())}
        host_problem = self.ownership.problem(row.host, verified, named)
        facts = Facts(
            source=row.source,
            decision=row.decision,
            decided_by=row.decided_by,
            existed=row.existed,
            mode=existing if row.existed else appearing,
            is_leaving=row.leaving_at is not None,
            is_gone=row.leaving_at is not None and row.leaving_at <= self.moment,
            problem=row.problem or (host_problem if row.host else NO_HOST) or ("" if named else NO_CLUSTER),
            caution=row.caution,
        )
        return judge(facts)


NO_CLUSTER = "every cluster that it leads to was removed"
NO_HOST = "its source names no host, and the server has no `gateway_domain` to give one out: name a host there"


@dataclass(slots=True)
class Judged:
    """A route, the claim that it makes, and what becomes of it."""

    row: PublishedRoute
    claim: str
    verdict: Verdict


class Ports:
    """Who has which port of the gateway, while routes are decided about.

    Args: holders: by port. judged: those that may not go on having theirs give it back.
    """

    def __init__(self, holders: Mapping[int, PublishedRoute], judged: Collection[Judged]) -> None:
        gone = {one.row.id for one in judged if not one.verdict.holds or port_of(one.row) != one.row.port_claim}
        self._holders = {port: row for port, row in holders.items() if row.id not in gone}

    def holder(self, one: Judged) -> PublishedRoute | None:
        """Return another route that has the port which a route asks for; None when it is free, or its own."""
        found = self._holders.get(port_of(one.row))
        return None if found is None or found.id == one.row.id else found

    def take(self, one: Judged) -> None:
        """Give a route the port that it asks for, if it does."""
        if port := port_of(one.row):
            self._holders[port] = one.row


def port_of(row: PublishedRoute) -> int:
    """Return the port of the gateway that a route asks for; 0 for none, or while it is switched off."""
    return int(row.options.get("tcp_port") or 0) if row.enabled else 0


def key_of(row: PublishedRoute) -> Key:
    return row.host, row.path, row.path_type


def claim_of(key: Key) -> str:
    """Return a key as the unique index holds it."""
    host, path, kind = key
    return f"{host} {kind} {path if kind == 'exact' else path.rstrip('/') or '/'}"


async def settle(tx: Transaction, ownership: Ownership, keys: Iterable[Key]) -> list[PublishedRoute]:
    """Decide anew about every route of some names and paths, and write what changed.

    Returns: the rows whose state or claim changed. The bus is told of them when the transaction is committed.
    Raises: IntegrityError: another process gave one of the names or ports away meanwhile; try again.
    """
    await tx.flush()
    changed = await _settle(tx, ownership, {claim_of(key) for key in keys})
    late = await repository.waiting_for_ports(tx, AT_ONCE)
    if late:  # whose ports were given back just now
        changed += await _settle(tx, ownership, {claim_of(key_of(row)) for row in late})
    return changed


async def _settle(tx: Transaction, ownership: Ownership, wanted: Collection[str]) -> list[PublishedRoute]:
    hosts = {claim.partition(" ")[0] for claim in wanted}
    shared = {host for host in hosts if ownership.covers(host)}
    if shared:
        await repository.lock_owners(tx)
    found = await repository.on_hosts(tx, hosts)
    rows = [row for row in found if row.host in shared or claim_of(key_of(row)) in wanted]
    known = await look(tx, ownership, rows)
    judged = [Judged(row, claim_of(key_of(row)), known.verdict(row)) for row in rows]
    _keep_to_owners([one for one in judged if one.row.host in shared])
    ports = Ports(await repository.holders_of_ports(tx, {port for row in rows if (port := port_of(row))}), judged)
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.claim, []).append(one)
    for rivals in groups.values():
        _decide(rivals, ports)
    return await _write(tx, known.moment, judged)


async def look(tx: Transaction, ownership: Ownership, rows: Collection[PublishedRoute]) -> Known:
    """Read what rows are judged by."""
    ids = {target["cluster_id"] for row in rows for target in row.targets}
    orgs = {row.org_id for row in rows}
    return Known(
        ownership=ownership,
        moment=await tx.now(),
        verified=await domains.verified_by_org(tx, orgs),
        lapsed=await domains.verified_by_org(tx, orgs, domains.LAPSED),
        names=await repository.cluster_names(tx, ids),
        gateways=await repository.gateways(tx, {row.cluster_id for row in rows if row.cluster_id}),
    )


def _keep_to_owners(judged: Collection[Judged]) -> None:
    """Leave each host, which anybody may ask for, to the organisation that has it, else to the one that came first."""
    owners: dict[str, str] = {}
    holding = [one for one in judged if one.verdict.holds]
    for one in (*(one for one in holding if one.row.claim == one.claim), *holding):
        owners.setdefault(one.row.host, one.row.org_id)
    for one in holding:
        if owners[one.row.host] != one.row.org_id:
            one.verdict = host_lost(one.row.host)


def _decide(rivals: Collection[Judged], ports: Ports) -> None:
    """Judge the routes of one name and path; at most one of them holds it."""
    for one in rivals:
        holder = ports.holder(one) if one.verdict.holds else None
        if holder is not None:
            one.verdict = port_lost_to(_named(holder, one.row), port_of(one.row))
    holding = [one for one in rivals if one.verdict.holds]
    if not holding:
        return
    winner = next((one for one in holding if one.row.claim == one.claim), holding[0])
    ports.take(winner)
    for one in holding:
        if one is not winner:
            one.verdict = lost_to(_named(winner.row, one.row), one.row.host, one.row.path)


def _named(winner: PublishedRoute, row: PublishedRoute) -> str:
    return f"the route {winner.name}" if winner.org_id == row.org_id else "a route of another organisation"


async def _write(tx: Transaction, moment: datetime, judged: Collection[Judged]) -> list[PublishedRoute]:
    """Write verdicts; claims are given back before they are given out, because no index allows two at any time."""
    changed, given = [], []
    for one in judged:
        row, verdict = one.row, one.verdict
        before = (row.state, row.reason, row.claim, row.port_claim)
        row.state, row.reason = verdict.state.value, verdict.reason[:500]
        if verdict.state is RouteState.ACTIVE and row.source != DECLARED and not row.decision:
            row.decision = "automatic"
        claims = (one.claim, port_of(row) or None) if verdict.holds else (None, None)
        if claims != (row.claim, row.port_claim):
            given.append((row, claims))
            row.claim = row.claim if row.claim == claims[0] else None
            row.port_claim = row.port_claim if row.port_claim == claims[1] else None
        if before != (row.state, row.reason, *claims):
            row.changed_at = moment
            changed.append(row)
    await tx.flush()
    for row, claims in given:
        row.claim, row.port_claim = claims
    await tx.flush()
    hint(tx, changed)
    return changed


def hint(tx: Transaction, rows: Collection[PublishedRoute]) -> None:
    """Tell the bus of changed routes: one by one, or many by their clusters."""
    if len(rows) <= SINGLE_HINTS:
        for row in rows:
            tx.publish("route", id=row.id, **_cluster(row))
        return
    for row in rows:
        if not row.cluster_id:
            tx.publish("route", id=row.id, **_cluster(row))
    for cluster_id in sorted({row.cluster_id for row in rows if row.cluster_id}):
        tx.publish("route", cluster_id=cluster_id)


def _cluster(row: PublishedRoute) -> dict[str, str]:
    cluster_id = row.cluster_id or (row.targets[0]["cluster_id"] if row.targets else "")
    return {"cluster_id": cluster_id} if cluster_id else {}

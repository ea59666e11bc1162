"""Deciding which routes hold their names: judges rows, settles conflicts, writes states. Called in transactions.

First come stays: a route that holds its name and path keeps them for as long as it may; then the oldest rival gets
them. A unique index on `claim` sees to it that two processes never give one name away twice.
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
from towline.control.routes.states import DECLARED, Facts, RouteState, Verdict, judge, lost_to

Key = tuple[str, str, str]
"""Host, path and kind of path: what one route alone may answer for."""
SINGLE_HINTS = 20
"""Changed routes that are named one by one; more are hinted at by their clusters."""


@dataclass(frozen=True, slots=True)
class Known:
    """What routes are judged by, read once for all of them."""

    ownership: Ownership
    moment: datetime
    verified: Mapping[str, Collection[str]]
    names: Mapping[str, str]
    """Of clusters by id."""
    gateways: Mapping[str, ClusterGateway] = field(default_factory=dict)

    def verdict(self, row: PublishedRoute) -> Verdict:
        named = [name for target in row.targets if (name := self.names.get(target["cluster_id"], ""))]
        gateway = self.gateways.get(row.cluster_id or "")
        existing, appearing = (gateway.existing, gateway.appearing) if gateway else ("proposals", "automatic")
        host_problem = self.ownership.problem(row.host, self.verified.get(row.org_id, ()), named)
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


def key_of(row: PublishedRoute) -> Key:
    return row.host, row.path, row.path_type


def claim_of(key: Key) -> str:
    """Return a key as the unique index holds it."""
    host, path, kind = key
    return f"{host} {kind} {path if kind == 'exact' else path.rstrip('/') or '/'}"


async def settle(tx: Transaction, ownership: Ownership, keys: Iterable[Key]) -> list[PublishedRoute]:
    """Decide anew about every route of some names and paths, and write what changed.

    Returns: the rows whose state or claim changed. The bus is told of them when the transaction is committed.
    Raises: IntegrityError: another process gave one of the names away meanwhile; try again.
    """
    wanted = {claim_of(key) for key in keys}
    hosts = {claim.partition(" ")[0] for claim in wanted}
    await tx.flush()
    rows = [row for row in await repository.on_hosts(tx, hosts) if claim_of(key_of(row)) in wanted]
    known = await look(tx, ownership, rows)
    groups: dict[str, list[PublishedRoute]] = {}
    for row in rows:
        groups.setdefault(claim_of(key_of(row)), []).append(row)
    verdicts: list[tuple[PublishedRoute, Verdict, str]] = []
    for claim, rivals in groups.items():
        verdicts += [(row, verdict, claim) for row, verdict in _decide(known, rivals)]
    return await _write(tx, known.moment, verdicts)


async def look(tx: Transaction, ownership: Ownership, rows: Collection[PublishedRoute]) -> Known:
    """Read what rows are judged by."""
    ids = {target["cluster_id"] for row in rows for target in row.targets}
    return Known(
        ownership=ownership,
        moment=await tx.now(),
        verified=await domains.verified_by_org(tx, {row.org_id for row in rows}),
        names=await repository.cluster_names(tx, ids),
        gateways=await repository.gateways(tx, {row.cluster_id for row in rows if row.cluster_id}),
    )


def _decide(known: Known, rivals: list[PublishedRoute]) -> list[tuple[PublishedRoute, Verdict]]:
    """Judge the routes of one name and path; at most one of them holds it."""
    judged = [(row, known.verdict(row)) for row in rivals]
    holding = [row for row, verdict in judged if verdict.holds]
    winner = next((row for row in holding if row.claim is not None), holding[0] if holding else None)
    if winner is None:
        return judged
    return [(row, verdict if row is winner or not verdict.holds else _lost(row, winner)) for row, verdict in judged]


def _lost(row: PublishedRoute, winner: PublishedRoute) -> Verdict:
    name = f"the route {winner.name}" if winner.org_id == row.org_id else "a route of another organisation"
    return lost_to(name, row.host, row.path)


async def _write(
    tx: Transaction, moment: datetime, verdicts: list[tuple[PublishedRoute, Verdict, str]]
) -> list[PublishedRoute]:
    """Write verdicts; claims are given back before they are given out, because the index allows no two at any time."""
    changed, given = [], []
    for row, verdict, claim in verdicts:
        before = (row.state, row.reason, row.claim)
        row.state, row.reason = verdict.state.value, verdict.reason[:500]
        if verdict.state is RouteState.ACTIVE and row.source != DECLARED and not row.decision:
            row.decision = "automatic"
        held = claim if verdict.holds else None
        if row.claim is None and held is not None:
            given.append((row, held))
        else:
            row.claim = held
        if before != (row.state, row.reason, held):
            row.changed_at = moment
            changed.append(row)
    await tx.flush()
    for row, claim in given:
        row.claim = claim
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

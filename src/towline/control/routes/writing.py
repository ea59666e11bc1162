"""Writes the claims of clusters: compares them with the rows, changes what differs, and has them decided about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from towline.control.access.actor import Actor
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.db import Transaction
from towline.control.domains.names import Ownership
from towline.control.ids import new_id
from towline.control.routes import repository
from towline.control.routes.claims import Claimed, claimed, name_of, ref_of
from towline.control.routes.entries import SEALED_PURPOSE, open_secrets
from towline.control.routes.given import Sealer
from towline.control.routes.models import ClusterGateway, PublishedRoute
from towline.control.routes.settling import Key, hint, key_of, settle
from towline.control.routes.states import RouteState
from towline.control.sealing.service import CannotOpen
from towline.wire import link

NAMED_AT_MOST = 10
"""Hosts that the record of a change lists."""
MOST_ROUTES = 10_000
"""Of one cluster, however often its agent tells of new ones: twice what a list may hold, so that a new list finds room
beside one whose grace time runs."""


class Told(Protocol):
    """What one cluster's agent told."""

    full: bool
    sources: frozenset[str]
    claims: dict[str, link.RouteClaim]
    removed: set[str]
    late: set[str]
    left_out: int
    agent_id: str


@dataclass(slots=True)
class _Work:
    """One cluster's claims while they are written."""

    cluster: Cluster
    gateway: ClusterGateway
    told: Told
    rows: dict[str, PublishedRoute]
    moment: datetime
    keys: set[Key] = field(default_factory=set)
    touched: list[PublishedRoute] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    hosts: list[str] = field(default_factory=list)
    left_out: int = 0
    """Claims that found no room."""

    def note(self, what: str, row: PublishedRoute) -> None:
        self.counts[what] += 1
        self.keys.add(key_of(row))
        self.touched.append(row)
        if len(self.hosts) < NAMED_AT_MOST and row.host not in self.hosts:
            self.hosts.append(row.host)


class ClaimWriter:
    """Writes claims in a transaction.

    Args: grace: seconds that a claim stays that is missing from a whole list. away_grace: the same for claims of a
        source that the list is not about.
    """

    def __init__(
        self, audit: AuditLog, sealer: Sealer, ownership: Callable[[], Ownership], grace: float, away_grace: float
    ) -> None:
        self._audit = audit
        self._sealer = sealer
        self._ownership = ownership
        self._grace = timedelta(seconds=grace)
        self._away_grace = timedelta(seconds=away_grace)

    async def write(self, tx: Transaction, batch: Mapping[str, Told]) -> int:
        """Write what some clusters' agents told. Returns: how many routes were touched.

        Raises: IntegrityError: another process gave one of the names away meanwhile; try again.
        """
        ownership, moment = self._ownership(), await tx.now()
        known = await clusters.by_id(tx, batch)
        works = [await self._work(tx, known[key], told, moment) for key, told in batch.items() if key in known]
        for work in works:
            await self._remove(tx, work)
            await self._put_all(tx, work, ownership)
            self._note_list(work)
        await settle(tx, ownership, set().union(*(work.keys for work in works)))
        for work in works:
            hint(tx, work.touched)
            await self._record(tx, work)
        return sum(len(work.touched) for work in works)

    async def _work(self, tx: Transaction, cluster: Cluster, told: Told, moment: datetime) -> _Work:
        gateway = await repository.gateway(tx, cluster.id, cluster.org_id)
        rows = {row.ref or "": row for row in await repository.of_cluster(tx, cluster.id)}
        return _Work(cluster, gateway, told, rows, moment)

    async def _remove(self, tx: Transaction, work: _Work) -> None:
        """Take away what the agent says is gone; what somebody refused stays refused, should it come back."""
        for ref in {ref_of(ref) for ref in work.told.removed} & work.rows.keys():
            row = work.rows[ref]
            if row.decision == "refused":
                row.missing, row.leaving_at = True, work.moment
                continue
            del work.rows[ref]
            work.note("removed", row)
            await tx.delete(row)
        if work.told.full:
            self._let_go(work, work.rows.keys() - {ref_of(ref) for ref in work.told.claims})
        await tx.flush()

    def _let_go(self, work: _Work, refs: Collection[str]) -> None:
        for ref in refs:
            row = work.rows[ref]
            known_whole = row.source in work.told.sources
            if row.missing or (row.leaving_at is not None and not known_whole):
                continue
            # A source that the agent does not follow, or cannot read now, may be there still: that takes longer.
            row.missing = known_whole
            row.leaving_at = work.moment + (self._grace if known_whole else self._away_grace)
            work.note("leaving", row)

    async def _put_all(self, tx: Transaction, work: _Work, ownership: Ownership) -> None:
        cluster = work.cluster
        found = [claimed(claim, cluster.id, cluster.name, ownership) for claim in work.told.claims.values()]
        new = {one.ref: one for one in found if one.ref not in work.rows}
        for ref in list(new)[max(0, MOST_ROUTES - len(work.rows)) :]:
            del new[ref]
            work.left_out += 1
        for one in found:
            if one.ref in work.rows:
                await self._change(tx, work, work.rows[one.ref], one)
        names = {ref: name_of(cluster.name, ref) for ref in new}
        taken = await repository.names_taken(tx, cluster.org_id, names.values())
        rows = [self._new(work, one, names[one.ref], taken) for one in new.values()]
        tx.add_all(rows)
        await tx.flush()
        for row, one in zip(rows, new.values(), strict=True):
            repository.add_places(tx, row.id, one.places)
        await tx.flush()

    def _new(self, work: _Work, one: Claimed, name: str, taken: set[str]) -> PublishedRoute:
        row = PublishedRoute(
            id=new_id("rte"), org_id=work.cluster.org_id, name=name, ref=one.ref, cluster_id=work.cluster.id,
            state=RouteState.PROPOSED.value, existed=_existed(work, one),
            created_at=work.moment, changed_at=work.moment, created_by="", decision="", decided_by="", enabled=True,
            missing=False, reason="", **one.columns,
        )  # fmt: skip
        if name in taken:  # by a cluster that had this name before, or a source called alike: `a.b/c` and `a/b.c`
            row.name = f"{name[:170]}-{row.id[-12:]}"
        taken.add(row.name)
        row.sealed = self._seal(row, one)
        work.note("added", row)
        return row

    async def _change(self, tx: Transaction, work: _Work, row: PublishedRoute, one: Claimed) -> None:
        returned = row.leaving_at is not None
        differs = {key: value for key, value in one.columns.items() if getattr(row, key) != value}
        if not self._holds(row, one):
            differs["sealed"] = self._seal(row, one)
        if not differs and not returned:
            return
        work.keys.add(key_of(row))
        row.leaving_at, row.missing = None, False
        for key, value in differs.items():
            setattr(row, key, value)
        if "targets" in differs:
            await repository.set_places(tx, row.id, one.places)
        if "host" in differs or "caution" in differs:
            self._ask_again(row)
        row.changed_at = work.moment
        work.note("changed" if differs else "returned", row)

    def _holds(self, row: PublishedRoute, one: Claimed) -> bool:
        """Tell whether a row has the secrets of a claim; one that cannot be opened is sealed anew."""
        try:
            return open_secrets(self._sealer, row) == one.secrets
        except CannotOpen:
            return False

    def _ask_again(self, row: PublishedRoute) -> None:
        """A source that was accepted for one name is not accepted for another."""
        if row.decision == "accepted" or (row.decision == "automatic" and row.caution):
            row.decision = ""

    def _seal(self, row: PublishedRoute, one: Claimed) -> bytes | None:
        if not one.secrets:
            return None
        return self._sealer.seal(row.org_id, row.id, 1, SEALED_PURPOSE, json.dumps(one.secrets).encode())

    def _note_list(self, work: _Work) -> None:
        if work.told.full or work.left_out:
            work.gateway.left_out = work.told.left_out + work.left_out
        if work.told.full:
            work.gateway.told_at = work.moment
            work.gateway.baselines = sorted({*work.gateway.baselines, *work.told.sources})

    async def _record(self, tx: Transaction, work: _Work) -> None:
        if not work.counts:
            return
        actor = Actor(kind="agent", org_id=work.cluster.org_id, user_id=work.told.agent_id, username=work.cluster.name)
        await self._audit.record(
            tx, actor, action="route.claim", target_kind="cluster", target_id=work.cluster.id,
            target_name=work.cluster.name, cluster_id=work.cluster.id, detail={**work.counts, "hosts": work.hosts},
        )  # fmt: skip


def _existed(work: _Work, one: Claimed) -> bool:
    """Tell whether a new claim's source was there when its agent began to tell of such sources."""
    source, told = one.columns["source"], work.told
    if source in work.gateway.baselines:
        return False
    return not (told.full and source in told.sources and one.told_ref in told.late)

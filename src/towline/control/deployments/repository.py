"""Every query on deployments, revisions and secret versions. Each that a request leads to names the organisation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select, tuple_, update
from sqlalchemy.orm import defer

from towline.control.db import Transaction
from towline.control.deployments.models import Deployment, Revision, SecretVersion
from towline.control.deployments.outcomes import GOOD_OUTCOMES, Outcome
from towline.control.listing import contains

SORTS: Mapping[str, Any] = {
    "name": Deployment.name,
    "state": Deployment.state,
    "updated_at": Deployment.updated_at,
    "created_at": Deployment.created_at,
}
"""What a list may be sorted by."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deployments a list shows."""

    org_id: str
    allowed: ColumnElement[bool]
    """What the actor may read."""
    cluster_id: str = ""
    search: str = ""
    states: tuple[str, ...] = ()
    removed: bool = False

    def clauses(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [Deployment.org_id == self.org_id, self.allowed]
        found.append(Deployment.removed_at.is_not(None) if self.removed else Deployment.removed_at.is_(None))
        if self.cluster_id:
            found.append(Deployment.cluster_id == self.cluster_id)
        if self.states:
            found.append(Deployment.state.in_(self.states))
        if self.search:
            found.append(contains(Deployment.name, self.search))
        return found


def matching(wanted: Filter) -> Select[Any]:
    """Return the query of a list of deployments, without order."""
    return select(Deployment).where(*wanted.clauses())


async def find(
    tx: Transaction, org_id: str, cluster_id: str, name: str, *, for_update: bool = False
) -> Deployment | None:
    """Find a deployment by its name on a cluster, or by its id. With `for_update` nobody else numbers revisions."""
    query = select(Deployment).where(
        Deployment.org_id == org_id,
        Deployment.cluster_id == cluster_id,
        (Deployment.name == name) | (Deployment.id == name),
    )
    return (await tx.scalars(query.with_for_update() if for_update else query)).first()


async def by_id(tx: Transaction, deployment_id: str, *, for_update: bool = False) -> Deployment | None:
    query = select(Deployment).where(Deployment.id == deployment_id)
    return (await tx.scalars(query.with_for_update() if for_update else query)).first()


async def by_ids(tx: Transaction, ids: Sequence[str]) -> Sequence[Deployment]:
    return (await tx.scalars(select(Deployment).where(Deployment.id.in_(ids)))).all()


async def present(
    tx: Transaction, cluster_ids: Sequence[str], *, after: str = "", limit: int = 10_000
) -> Sequence[Deployment]:
    """Return deployments of some clusters that were not removed, by id; of every cluster when none is named."""
    query = select(Deployment).where(Deployment.removed_at.is_(None), Deployment.id > after)
    query = query.order_by(Deployment.id).limit(limit)
    if cluster_ids:
        query = query.where(Deployment.cluster_id.in_(cluster_ids))
    return (await tx.scalars(query)).all()


async def count_states(tx: Transaction) -> dict[str, int]:
    """Return how many deployments are in each state."""
    query = select(Deployment.state, func.count()).where(Deployment.removed_at.is_(None)).group_by(Deployment.state)
    return {row[0]: row[1] for row in (await tx.execute(query)).all()}


async def set_state(tx: Transaction, deployment_id: str, state: str, reason: str, since: datetime) -> None:
    """Keep a verdict for lists and filters."""
    await tx.execute(
        update(Deployment)
        .where(Deployment.id == deployment_id)
        .values(state=state, reason=reason, state_since=since)
        .execution_options(synchronize_session=False)
    )


async def due_for_pruning(tx: Transaction, now: datetime) -> Sequence[Deployment]:
    """Return the deployments whose scheduled pruning is due."""
    query = select(Deployment).where(
        Deployment.removed_at.is_(None), Deployment.prune_interval_seconds > 0, Deployment.running_number > 0
    )
    found = (await tx.scalars(query)).all()
    return [each for each in found if _prune_at(each) <= now]


def _prune_at(deployment: Deployment) -> datetime:
    return (deployment.pruned_at or deployment.created_at) + timedelta(seconds=deployment.prune_interval_seconds)


async def purge_removed(tx: Transaction, before: datetime) -> int:
    """Delete what was removed before a moment; revisions and secrets go with it. Returns: how many."""
    ids = (await tx.scalars(select(Deployment.id).where(Deployment.removed_at < before))).all()
    if ids:
        await tx.execute(delete(Deployment).where(Deployment.id.in_(ids)))
    return len(ids)


# -- revisions ---------------------------------------------------------------------------------


async def revision(tx: Transaction, deployment_id: str, number: int) -> Revision | None:
    query = select(Revision).where(Revision.deployment_id == deployment_id, Revision.number == number)
    return (await tx.scalars(query)).first()


async def revision_by_id(tx: Transaction, revision_id: str) -> Revision | None:
    return await tx.get(Revision, revision_id)


async def revision_by_idem_key(tx: Transaction, deployment_id: str, idem_key: str) -> Revision | None:
    query = select(Revision).where(Revision.deployment_id == deployment_id, Revision.idem_key == idem_key)
    return (await tx.scalars(query)).first()


def revisions(deployment_id: str) -> Select[Any]:
    """Return the query of a deployment's revisions, without order."""
    return select(Revision).where(Revision.deployment_id == deployment_id)


async def numbered(tx: Transaction, wanted: Sequence[tuple[str, int]]) -> dict[str, Revision]:
    """Return the named revisions, one for each deployment, by deployment id. Without their files: for lists."""
    if not wanted:
        return {}
    query = select(Revision).where(tuple_(Revision.deployment_id, Revision.number).in_(wanted))
    query = query.options(defer(Revision.compose, raiseload=True), defer(Revision.sealed_values, raiseload=True))
    return {each.deployment_id: each for each in (await tx.scalars(query)).all()}


async def good_revisions(tx: Transaction, deployment_id: str) -> Sequence[Revision]:
    """Return the revisions that a rollback may return to, newest first."""
    query = (
        select(Revision)
        .where(
            Revision.deployment_id == deployment_id,
            Revision.outcome.in_([str(outcome) for outcome in GOOD_OUTCOMES]),
            Revision.compose.is_not(None),
        )
        .order_by(Revision.number.desc())
    )
    return (await tx.scalars(query)).all()


NEVER_GOOD = frozenset({Outcome.FAILED, Outcome.SUPERSEDED, Outcome.CANCELLED})
LARGEST_SWEEP = 10_000
"""Rows of one statement of retention; the rest goes an hour later."""


async def with_old_content(tx: Transaction, outcomes: Collection[Outcome], keep: int) -> Sequence[str]:
    """Return the deployments that keep the files of more revisions with some outcomes than they should."""
    query = (
        select(Revision.deployment_id)
        .where(Revision.compose.is_not(None), Revision.outcome.in_(outcomes))
        .group_by(Revision.deployment_id)
        .having(func.count() > keep)
    )
    return (await tx.scalars(query)).all()


async def drop_old_content(tx: Transaction, deployment_id: str, outcomes: Collection[Outcome], keep: int) -> int:
    """Drop the files of all but the newest revisions with some outcomes, never of one that matters now.

    Returns: of how many.
    """
    deployment = await by_id(tx, deployment_id)
    if deployment is None:
        return 0
    needed = (deployment.running_number, deployment.desired_number, deployment.last_good_number)
    old = (
        select(Revision.id)
        .where(
            Revision.deployment_id == deployment_id,
            Revision.compose.is_not(None),
            Revision.outcome.in_(outcomes),
            Revision.number.not_in(needed),
        )
        .order_by(Revision.number.desc())
        .offset(keep)
        .limit(LARGEST_SWEEP)
    )
    ids = (await tx.scalars(old)).all()
    if ids:
        dropped = {"compose": None, "sealed_values": None, "bundle": None}
        await tx.execute(update(Revision).where(Revision.id.in_(ids)).values(**dropped))
    return len(ids)


async def purge_traces(tx: Transaction, before: datetime) -> int:
    """Delete what is left of old revisions without files. Returns: how many."""
    old = (
        select(Revision.id)
        .where(Revision.compose.is_(None), Revision.outcome != Outcome.PENDING, Revision.created_at < before)
        .limit(LARGEST_SWEEP)
    )
    ids = (await tx.scalars(old)).all()
    if ids:
        await tx.execute(delete(Revision).where(Revision.id.in_(ids)))
    return len(ids)


async def bundles_in_use(tx: Transaction, org_id: str) -> set[str]:
    """Return the digests that any revision names."""
    query = select(Revision.bundle).where(Revision.org_id == org_id, Revision.bundle.is_not(None)).distinct()
    return {digest for digest in (await tx.scalars(query)).all() if digest}


# -- secrets -----------------------------------------------------------------------------------


async def secret_versions(tx: Transaction, deployment_id: str, wanted: Mapping[str, int]) -> dict[str, SecretVersion]:
    """Return the named versions by secret name; those that are gone are absent."""
    if not wanted:
        return {}
    query = select(SecretVersion).where(
        SecretVersion.deployment_id == deployment_id,
        tuple_(SecretVersion.name, SecretVersion.version).in_(list(wanted.items())),
    )
    return {each.name: each for each in (await tx.scalars(query)).all()}


async def newest_secret_version(tx: Transaction, deployment_id: str, name: str) -> int:
    """Return the highest version that a secret ever had; 0 when it is new."""
    query = select(func.max(SecretVersion.version)).where(
        SecretVersion.deployment_id == deployment_id, SecretVersion.name == name
    )
    return await tx.scalar(query) or 0


async def drop_unused_secrets(tx: Transaction, deployment_id: str) -> int:
    """Delete the versions that no revision with content names. Returns: how many."""
    rows = await tx.scalars(
        select(Revision.secrets).where(Revision.deployment_id == deployment_id, Revision.compose.is_not(None))
    )
    used = {(name, version) for secrets in rows.all() for name, version in secrets.items()}
    mine = await tx.scalars(select(SecretVersion).where(SecretVersion.deployment_id == deployment_id))
    unused = [each.id for each in mine.all() if (each.name, each.version) not in used]
    if unused:
        await tx.execute(delete(SecretVersion).where(SecretVersion.id.in_(unused)))
    return len(unused)

"""Queries of alerts, of what organisations changed in the rules, and of silences. Messages are `outbox`'s."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, true, update

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.alerts.catalogue import RULES, RuleName
from towline.control.alerts.models import Alert, AlertRule, AlertSilence
from towline.control.alerts.states import State
from towline.control.alerts.subjects import RuleBook, Scope
from towline.control.clusters import repository as clusters
from towline.control.clusters.service import carrier
from towline.control.db import Transaction, now, upsert
from towline.control.listing import contains

LIVE = (State.PENDING, State.FIRING)
BITE = 500
"""Ids of one statement."""


# -- rules -------------------------------------------------------------------------------------


async def rule_book(tx: Transaction, org_id: str = "") -> RuleBook:
    """Return the rules as organisations have them; those of one, when it is named."""
    query = select(AlertRule).where(AlertRule.org_id == org_id) if org_id else select(AlertRule)
    return RuleBook(
        {
            (row.org_id, row.rule): RULES[RuleName(row.rule)].changed(
                enabled=row.enabled, after_seconds=row.after_seconds, clear_seconds=row.clear_seconds,
                threshold=row.threshold, severity=row.severity, channels=row.channels,
            )
            for row in (await tx.scalars(query)).all()
            if row.rule in RULES
        }
    )  # fmt: skip


async def changed_rules(tx: Transaction, org_id: str) -> dict[str, AlertRule]:
    rows = await tx.scalars(select(AlertRule).where(AlertRule.org_id == org_id))
    return {row.rule: row for row in rows}


# -- alerts ------------------------------------------------------------------------------------


def within(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that an alert is about something that a look covers."""
    if scope.clusters is None:
        return true() if scope.certificates else Alert.cluster_id != ""
    named = and_(Alert.cluster_id != "", Alert.cluster_id.in_(scope.clusters))
    return or_(named, Alert.cluster_id == "") if scope.certificates else named


async def live(tx: Transaction, scope: Scope, *, hold: bool) -> Sequence[Alert]:
    """Return the alerts of a look that have not ended. Args: hold: until the transaction ends."""
    query = select(Alert).where(within(scope), Alert.state.in_(LIVE)).order_by(Alert.id)
    return (await tx.scalars(query.with_for_update() if hold else query)).all()


async def ended(tx: Transaction, subjects: Collection[str], *, hold: bool) -> Sequence[Alert]:
    """Return alerts that have ended, by subject: what is seen again goes on with its row."""
    found: list[Alert] = []
    listed = sorted(subjects)
    for at in range(0, len(listed), BITE):
        some = and_(Alert.subject.in_(listed[at : at + BITE]), Alert.state == State.RESOLVED)
        query = select(Alert).where(some).order_by(Alert.id)
        found += (await tx.scalars(query.with_for_update() if hold else query)).all()
    return found


async def insert(tx: Transaction, values: dict[str, Any]) -> None:
    """Add an alert; one that another replica added meanwhile is left alone."""
    key = ("org_id", "rule", "subject")
    await upsert(tx, Alert, [{name: values[name] for name in key}], key=key, defaults=values)


async def next_moment(tx: Transaction) -> float | None:
    """Return the seconds until time alone moves something on; None when nothing waits."""
    soonest = [await tx.scalar(select(func.min(column))) for column in (Alert.due_at, Alert.tell_at)]
    moments = [moment for moment in soonest if moment is not None]
    return (min(moments) - await tx.now()).total_seconds() if moments else None


async def next_telling(tx: Transaction) -> float | None:
    """Return the seconds until something has to be told; None when nothing has."""
    moment = await tx.scalar(select(func.min(Alert.tell_at)).where(Alert.tell != ""))
    return (moment - await tx.now()).total_seconds() if moment is not None else None


async def due_clusters(tx: Transaction) -> Sequence[str]:
    """Return the clusters of alerts that time moves on now; the empty one stands for the organisation's own."""
    return (await tx.scalars(select(Alert.cluster_id).where(Alert.due_at <= now()).distinct())).all()


async def untold(tx: Transaction) -> Sequence[Alert]:
    """Return what has to be told now, with all that its groups have by now, held until the transaction ends."""
    one = select(Alert.id).where(Alert.tell != "", Alert.tell_at <= now()).limit(1)
    if await tx.scalar(one) is None:
        return ()
    ripe = (
        select(Alert.org_id, Alert.rule, Alert.tell)
        .where(Alert.tell != "", Alert.tell_at <= now())
        .distinct()
        .subquery()
    )
    same = and_(ripe.c.org_id == Alert.org_id, ripe.c.rule == Alert.rule, ripe.c.tell == Alert.tell)
    query = select(Alert).where(Alert.tell != "", exists(select(ripe.c.rule).where(same)))
    return (await tx.scalars(query.order_by(Alert.id).with_for_update())).all()


def visible(access: Access, permission: Permission = Permission.ALERT_READ) -> ColumnElement[bool]:
    """Return the condition for the alerts that somebody may see."""
    scope = access.scope(permission).clause(
        cluster_id=Alert.cluster_id, matches_selector=carrier(Alert.cluster_id), project=Alert.project,
        namespace=Alert.namespace,
    )  # fmt: skip
    return and_(Alert.org_id == access.org_id, scope)


def matching(
    access: Access, *, states: Collection[str], rule: str = "", cluster: str = "", search: str = ""
) -> Select[Any]:
    """Return the query of a list, without order."""
    query = select(Alert).where(visible(access), Alert.state.in_(states))
    if rule:
        query = query.where(Alert.rule == rule)
    if cluster:
        query = query.where(or_(Alert.cluster_name == cluster, Alert.cluster_id == cluster))
    if search:
        query = query.where(or_(contains(Alert.name, search), contains(Alert.summary, search)))
    return query


async def find(tx: Transaction, access: Access, alert_id: str) -> Alert | None:
    found: Alert | None = (await tx.scalars(select(Alert).where(visible(access), Alert.id == alert_id))).one_or_none()
    return found


async def firing(tx: Transaction) -> Sequence[Alert]:
    """Return everything that fires, of every organisation."""
    return (await tx.scalars(select(Alert).where(Alert.state == State.FIRING))).all()


async def labels_of(tx: Transaction, cluster_ids: Collection[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    listed = sorted(cluster_ids)
    for at in range(0, len(listed), BITE):
        found |= await clusters.labels_of(tx, listed[at : at + BITE])
    return found


# -- silences ----------------------------------------------------------------------------------


async def silences(tx: Transaction, org_id: str = "") -> Sequence[AlertSilence]:
    """Return the silences that hold now, of one organisation or of all."""
    query = select(AlertSilence).where(AlertSilence.ends_at > now()).order_by(AlertSilence.ends_at, AlertSilence.id)
    return (await tx.scalars(query.where(AlertSilence.org_id == org_id) if org_id else query)).all()


async def visible_silences(tx: Transaction, access: Access) -> Sequence[AlertSilence]:
    """Return the silences that hold now of places where somebody sees alerts, and those of everywhere."""
    here = access.scope(Permission.ALERT_READ).clause(
        cluster_id=AlertSilence.cluster_id, matches_selector=carrier(AlertSilence.cluster_id)
    )
    query = select(AlertSilence).where(
        AlertSilence.org_id == access.org_id, AlertSilence.ends_at > now(), or_(here, AlertSilence.cluster_id == "")
    )
    return (await tx.scalars(query.order_by(AlertSilence.ends_at, AlertSilence.id))).all()


async def silence(tx: Transaction, org_id: str, silence_id: str) -> AlertSilence | None:
    query = select(AlertSilence).where(
        AlertSilence.org_id == org_id, AlertSilence.id == silence_id, AlertSilence.ends_at > now()
    )
    return (await tx.scalars(query)).one_or_none()


async def tell_again(tx: Transaction, org_id: str, moment: datetime) -> None:
    """Have what a silence held back looked at again."""
    waits = and_(Alert.org_id == org_id, Alert.tell != "", Alert.tell_at > moment)
    await tx.execute(update(Alert).where(waits).values(tell_at=moment).execution_options(synchronize_session=False))

"""Alerts as people have to do with them: what fires, which rules hold, what is silenced. Audited; no FastAPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, case, cast, extract, literal

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.alerts import outbox, repository
from towline.control.alerts.catalogue import RULES, Rule, Severity
from towline.control.alerts.models import Alert, AlertRule, AlertSilence
from towline.control.alerts.schemas import RulePatch, SilenceIn
from towline.control.alerts.states import State
from towline.control.alerts.telling import covers
from towline.control.audit.service import AuditLog
from towline.control.clusters.service import Clusters
from towline.control.db import Database, Transaction, upsert
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.listing import Listed, ListQuery, fetch

_GRAVITY = case((Alert.severity == Severity.CRITICAL, 3), else_=0) + case(
    (Alert.state == State.FIRING, 2), (Alert.state == State.PENDING, 1), else_=0
)
_MOST_SECONDS = literal(10**11, BigInteger)
"""Since the epoch, of any moment: what is graver comes first, whenever that was."""
SORTS: Mapping[str, Any] = {
    "urgency": cast(_GRAVITY, BigInteger) * _MOST_SECONDS + cast(extract("epoch", Alert.changed_at), BigInteger),
    "changed_at": Alert.changed_at,
    "name": Alert.name,
    "rule": Alert.rule,
    "state": Alert.state,
}
MOST_SILENCES = 500
_FIELDS = ("enabled", "severity", "after_seconds", "clear_seconds", "threshold", "channels")


@dataclass(frozen=True, slots=True)
class View:
    """An alert, and whether a silence covers it."""

    row: Alert
    silenced: bool


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule as it holds, the names of its channels, and whether the organisation changed it."""

    rule: Rule
    channels: list[str] | None
    changed: bool


class Alerts:
    """Alerts, rules and silences of every organisation."""

    def __init__(self, db: Database, audit: AuditLog, clusters: Clusters) -> None:
        self._db = db
        self._audit = audit
        self._clusters = clusters

    # -- alerts --------------------------------------------------------------------------------

    async def page(
        self, access: Access, asked: ListQuery, *, states: Sequence[State], rule: str = "", cluster: str = ""
    ) -> Listed[View]:
        """Return a page of the alerts that the actor may see. Raises: ApiError: invalid."""
        query = repository.matching(access, states=states, rule=rule, cluster=cluster, search=asked.search)
        async with self._db.read() as tx:
            found: Listed[Alert] = await fetch(tx, query, asked, sorts=SORTS, default="-changed_at", key=Alert.id)
            silences = await repository.silences(tx, access.org_id)
        return Listed([_view(row, silences) for row in found.rows], found.next_cursor, found.total)

    async def get(self, access: Access, alert_id: str) -> View:
        """Raises: ApiError: not_found."""
        async with self._db.read() as tx:
            row = await repository.find(tx, access, alert_id)
            if row is None:
                raise not_found("alert", alert_id[:64])
            return _view(row, await repository.silences(tx, access.org_id))

    # -- rules ---------------------------------------------------------------------------------

    async def rules(self, access: Access) -> list[RuleView]:
        """Return every rule as it holds for the actor's organisation."""
        async with self._db.read() as tx:
            return await self._rules(tx, access.org_id)

    async def change_rule(self, access: Access, asked: RulePatch) -> RuleView:
        """Change what a rule asks for. Raises: ApiError: forbidden, invalid."""
        access.require_org(Permission.ALERT_MANAGE)
        changes = {name: getattr(asked, name) for name in _FIELDS if name in asked.model_fields_set}
        _check_limits(RULES[asked.rule], changes)
        async with self._db.begin() as tx:
            if changes.get("channels") is not None:
                changes["channels"] = await _channel_ids(tx, access.org_id, changes["channels"])
            row = {"org_id": access.org_id, "rule": str(asked.rule), **changes}
            row |= {"changed_by": access.actor.username, "changed_at": await tx.now()}
            await upsert(tx, AlertRule, [row], key=("org_id", "rule"), defaults=dict.fromkeys(_FIELDS))
            await self._audit.record(
                tx, access.actor, action="alert_rule.change", target_kind="alert_rule", target_id=str(asked.rule),
                target_name=RULES[asked.rule].title, detail={"changes": changes},
            )  # fmt: skip
            tx.publish("alert", rule=str(asked.rule))
            return next(one for one in await self._rules(tx, access.org_id) if one.rule.name is asked.rule)

    async def _rules(self, tx: Transaction, org_id: str) -> list[RuleView]:
        book, changed = await repository.rule_book(tx, org_id), await repository.changed_rules(tx, org_id)
        names = {row.id: row.name for row in await outbox.channels(tx, org_id)}
        return [_rule_view(book.of(org_id, name), names, changed.get(name)) for name in RULES]

    # -- silences ------------------------------------------------------------------------------

    async def silences(self, access: Access) -> Sequence[AlertSilence]:
        """Return the silences that hold now, where the actor sees alerts."""
        async with self._db.read() as tx:
            return await repository.visible_silences(tx, access)

    async def silence(self, access: Access, asked: SilenceIn) -> AlertSilence:
        """Tell nothing of a cluster, a rule, both, or of anything. Raises: ApiError: forbidden, cluster_not_found."""
        async with self._db.begin() as tx:
            cluster_id, cluster_name = "", ""
            if asked.cluster:
                cluster, _ = await self._clusters.require(tx, access, asked.cluster, Permission.ALERT_SILENCE)
                cluster_id, cluster_name = cluster.id, cluster.name
            else:
                access.require_org(Permission.ALERT_SILENCE)
            if len(await repository.silences(tx, access.org_id)) >= MOST_SILENCES:
                raise ApiError(ErrorCode.CONFLICT, f"an organisation may have {MOST_SILENCES} silences")
            moment = await tx.now()
            row = AlertSilence(
                id=new_id("sil"), org_id=access.org_id, cluster_id=cluster_id, cluster_name=cluster_name,
                rule=str(asked.rule or ""), reason=asked.reason, created_by=access.actor.username, created_at=moment,
                ends_at=moment + timedelta(seconds=asked.seconds),
            )  # fmt: skip
            tx.add(row)
            await self._record(tx, access, "alert_silence.add", row)
        return row

    async def end_silence(self, access: Access, silence_id: str) -> None:
        """End a silence now; what it held back is told. Raises: ApiError: not_found, forbidden."""
        async with self._db.begin() as tx:
            row = await repository.silence(tx, access.org_id, silence_id)
            missing = not_found("silence", silence_id[:64])
            if row is None:
                raise missing
            await self._require_silence(tx, access, row, missing)
            moment = await tx.now()
            row.ends_at = moment
            await tx.flush()
            await repository.tell_again(tx, access.org_id, moment)
            await self._record(tx, access, "alert_silence.end", row)

    async def _require_silence(self, tx: Transaction, access: Access, row: AlertSilence, missing: ApiError) -> None:
        """Go on for whoever may silence what it covers; of a cluster that is gone, for whoever may everywhere."""
        if not row.cluster_id or access.scope(Permission.ALERT_SILENCE).everything:
            access.require_org(Permission.ALERT_SILENCE)
            return
        try:
            await self._clusters.require(tx, access, row.cluster_id, Permission.ALERT_SILENCE)
        except ApiError as error:
            raise missing if error.code is ErrorCode.CLUSTER_NOT_FOUND else error from error

    async def _record(self, tx: Transaction, access: Access, action: str, row: AlertSilence) -> None:
        await self._audit.record(
            tx, access.actor, action=action, target_kind="alert_silence", target_id=row.id,
            target_name=row.cluster_name or "everywhere", cluster_id=row.cluster_id, reason=row.reason,
            detail={"rule": row.rule or "all", "ends_at": row.ends_at.isoformat()},
        )  # fmt: skip
        tx.publish("alert")


def _check_limits(rule: Rule, changes: Mapping[str, Any]) -> None:
    """Go on with numbers that a rule can have. Raises: ApiError: invalid."""
    limits, wanted = rule.threshold, changes.get("threshold")
    if wanted is not None and (limits is None or not limits.least <= wanted <= limits.most):
        words = f"between {limits.least:g} and {limits.most:g} {limits.word}" if limits else "not part of this rule"
        raise ApiError(ErrorCode.INVALID, f"the threshold must be {words}")
    if (changes.get("clear_seconds") or 0.0) > rule.longest_clear:
        raise ApiError(ErrorCode.INVALID, f"this rule ends after {rule.longest_clear:g} seconds at the latest")


def _view(row: Alert, silences: Sequence[AlertSilence]) -> View:
    return View(row, any(covers(one, row) for one in silences))


def _rule_view(rule: Rule, names: Mapping[str, str], changed: AlertRule | None) -> RuleView:
    channels = None if rule.channels is None else [names[one] for one in rule.channels if one in names]
    differs = changed is not None and any(getattr(changed, name) is not None for name in _FIELDS)
    return RuleView(rule, channels, differs)


async def _channel_ids(tx: Transaction, org_id: str, names: Sequence[str]) -> list[str]:
    known = {row.name: row.id for row in await outbox.channels(tx, org_id)}
    if unknown := [name for name in names if name not in known]:
        raise ApiError(ErrorCode.INVALID, f"no channel is named {', '.join(map(repr, unknown))}")
    return [known[name] for name in dict.fromkeys(names)]

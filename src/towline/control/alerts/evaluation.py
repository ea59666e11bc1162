"""Moves alerts on: compares what a look found with the rows, and writes what changed in one transaction.

A look that changes nothing writes nothing. Two replicas may look at once: rows are held while they are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from towline.control.alerts import repository
from towline.control.alerts.catalogue import AFTER_START, GONE_SECONDS, GROUP_SECONDS, Rule, RuleName
from towline.control.alerts.findings import look
from towline.control.alerts.models import SUBJECT_CHARACTERS, SUMMARY_CHARACTERS, Alert
from towline.control.alerts.states import Held, State, Step, Timing, step
from towline.control.alerts.subjects import Finding, Look, RuleBook, Scope
from towline.control.db import Database, Transaction
from towline.control.ids import new_id
from towline.control.links.cleaning import clean

FIRING, RESOLVED = "firing", "resolved"
NAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Change:
    """What is written of one alert."""

    row: Alert | None
    finding: Finding | None
    step: Step
    rule: Rule


@dataclass(frozen=True, slots=True)
class Moved:
    """What a look changed, for figures."""

    fired: Sequence[RuleName] = ()
    ended: Sequence[RuleName] = ()
    changed: bool = False


class Evaluator:
    """Looks, judges, writes. Args: group_seconds: until an alert is told, so that others of its rule join it."""

    def __init__(self, db: Database, *, group_seconds: float = GROUP_SECONDS, after_start: float = AFTER_START) -> None:
        self._db = db
        self.group_seconds = group_seconds
        self.after_start = after_start
        self._not_before: datetime | None = None

    async def begin(self) -> None:
        """Note when the server began: its agents need a moment to come back."""
        async with self._db.read() as tx:
            self._not_before = await tx.now() + timedelta(seconds=self.after_start)

    async def evaluate(self, scope: Scope) -> Moved:
        """Look once at what a scope covers. Raises: ApiError, DBAPIError."""
        async with self._db.read() as tx:
            book = await repository.rule_book(tx)
            seen = await look(tx, scope, book)
            wanted = _wanted(seen.found, book)
            if not await self._changes(tx, scope, seen, wanted, book, hold=False):
                return Moved()
        async with self._db.begin() as tx:
            changes = await self._changes(tx, scope, seen, wanted, book, hold=True)
            for change in changes:
                await self._write(tx, change, seen.moment)
            if changes:
                tx.publish("alert")
        return Moved(
            [one.rule.name for one in changes if one.step.fires], [one.rule.name for one in changes if one.step.ends],
            bool(changes),
        )  # fmt: skip

    async def _changes(
        self, tx: Transaction, scope: Scope, seen: Look, wanted: Mapping[tuple[str, str, str], Finding],
        book: RuleBook, *, hold: bool,
    ) -> list[Change]:  # fmt: skip
        rows = {(row.org_id, row.rule, row.subject): row for row in await repository.live(tx, scope, hold=hold)}
        new = [one.subject for key, one in wanted.items() if key not in rows]
        for row in await repository.ended(tx, new, hold=hold):
            rows.setdefault((row.org_id, row.rule, row.subject), row)
        found = [self._judge(rows.get(key), one, book.of(one.org_id, one.rule), seen) for key, one in wanted.items()]
        found += [
            self._judge(row, None, book.of(row.org_id, row.rule), seen)
            for key, row in rows.items()
            if key not in wanted and row.state != State.RESOLVED
        ]
        return [change for change in found if _differs(change)]

    def _judge(self, row: Alert | None, finding: Finding | None, rule: Rule, seen: Look) -> Change:
        held = None if row is None else held_of(row)
        if finding is None and row is not None and held is not None and _is_unknown(row, rule, seen):
            return Change(row, None, Step(replace(held, due_at=None)), rule)
        not_before = self._not_before if rule.name is RuleName.AGENT_AWAY else None
        is_gone = not rule.enabled or (row is not None and bool(row.cluster_id) and row.cluster_id not in seen.hosts)
        timing = Timing(rule.after_seconds, 0.0 if is_gone else _clear_seconds(row, rule, seen), not_before)
        return Change(row, finding, step(held, seen=finding is not None, now=seen.moment, timing=timing), rule)

    async def _write(self, tx: Transaction, change: Change, moment: datetime) -> None:
        row, held = change.row, change.step.held
        if held is None:
            if row is not None:
                await tx.delete(row)
            return
        values = _columns(held) | described(change.finding, change.rule)
        values |= self._telling(row, change.step, moment)
        if row is None:
            assert change.finding is not None
            one = change.finding
            identity = {"id": new_id("alr"), "org_id": one.org_id, "rule": str(one.rule), "subject": one.subject}
            await repository.insert(
                tx, {"times": 0, "tell": "", "told": [], **identity, "changed_at": moment, **values}
            )
            return
        if held.state != row.state:
            values["changed_at"] = moment
        for name, value in values.items():
            setattr(row, name, value)

    def _telling(self, row: Alert | None, taken: Step, moment: datetime) -> dict[str, Any]:
        """Return what has to be told, and when. What was never told to begin is not told to have ended."""
        later = moment + timedelta(seconds=self.group_seconds)
        if taken.fires:
            is_open = row is not None and row.tell == RESOLVED  # its end was not told yet, and is none
            told = {"tell": "", "tell_at": None} if is_open else {"tell": FIRING, "tell_at": later}
            return told | {"times": (row.times if row is not None else 0) + 1}
        if taken.ends and row is not None:
            is_told = row.tell != FIRING and bool(row.told)
            return {"tell": RESOLVED, "tell_at": later} if is_told else {"tell": "", "tell_at": None}
        return {}


def held_of(row: Alert) -> Held:
    """Return where a row stands."""
    return Held(State(row.state), row.began_at, row.fired_at, row.resolved_at, row.absent_at, row.due_at)


def described(finding: Finding | None, rule: Rule) -> dict[str, Any]:
    """Return what people read of an alert; of one that is not seen any more the last words stay."""
    if finding is None:
        return {}
    return {
        "name": clean(finding.name)[:NAME_CHARACTERS], "summary": clean(finding.summary)[:SUMMARY_CHARACTERS],
        "cluster_id": finding.cluster_id, "cluster_name": finding.cluster_name, "project": finding.project,
        "namespace": finding.namespace, "page": finding.page[:700], "severity": str(rule.severity),
        "lasting": finding.lasting,
    }  # fmt: skip


def _columns(held: Held) -> dict[str, Any]:
    return {
        "state": str(held.state), "began_at": held.began_at, "fired_at": held.fired_at,
        "resolved_at": held.resolved_at, "absent_at": held.absent_at, "due_at": held.due_at,
    }  # fmt: skip


def _wanted(found: Sequence[Finding], book: RuleBook) -> dict[tuple[str, str, str], Finding]:
    cut = (replace(one, subject=one.subject[:SUBJECT_CHARACTERS]) for one in found if not one.quiet)
    return {one.key: one for one in cut if book.of(one.org_id, one.rule).enabled}


def _clear_seconds(row: Alert | None, rule: Rule, seen: Look) -> float:
    """Return how long something must not be so: less for what is gone, than for what may be so again."""
    if row is None or not row.lasting or (row.org_id, row.rule, row.subject) in seen.quiet:
        return rule.clear_seconds
    return min(GONE_SECONDS, rule.clear_seconds)


def _is_unknown(row: Alert, rule: Rule, seen: Look) -> bool:
    """Tell whether nobody knows how it is: the agent is away, and the last that it said stays as it is."""
    host = seen.hosts.get(row.cluster_id)
    return rule.enabled and rule.needs_agent and host is not None and not host.connected


def _differs(change: Change) -> bool:
    row, held = change.row, change.step.held
    if row is None or held is None:
        return row is not None or held is not None
    words = described(change.finding, change.rule)
    return held != held_of(row) or any(getattr(row, name) != value for name, value in words.items())

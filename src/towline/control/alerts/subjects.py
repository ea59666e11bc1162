"""What a look at the tables is made of: what it covers, the clusters it knows, and what it found. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import InstrumentedAttribute

from towline.control.alerts.catalogue import RULES, Rule, RuleName
from towline.control.alerts.models import SUBJECT_CHARACTERS


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule is about, as it is now."""

    rule: RuleName
    org_id: str
    subject: str
    name: str
    summary: str
    cluster_id: str = ""
    cluster_name: str = ""
    project: str = ""
    namespace: str = ""
    page: str = ""
    lasting: bool = False
    """Its agent tells of the subject until that is well or gone."""
    quiet: bool = False
    """It is not so at this moment, and nobody knows yet that it is over."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.org_id, self.rule, self.subject)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: some clusters or all of them, and certificates or not."""

    clusters: frozenset[str] | None = None
    certificates: bool = True

    def of(self, column: InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return true() if self.clusters is None else column.in_(self.clusters)

    @property
    def is_empty(self) -> bool:
        return self.clusters == frozenset() and not self.certificates


class RuleBook:
    """Rules as each organisation has them."""

    def __init__(self, changed: Mapping[tuple[str, str], Rule]) -> None:
        self._changed = changed

    def of(self, org_id: str, name: str) -> Rule:
        return self._changed.get((org_id, name)) or RULES[RuleName(name)]


@dataclass(frozen=True, slots=True)
class Host:
    """What the questions need to know of a cluster."""

    id: str
    org_id: str
    name: str
    connected: bool
    last_seen_at: datetime | None
    capabilities: Sequence[Mapping[str, object]] = ()
    disks: Sequence[Mapping[str, object]] = ()
    has_kubernetes: bool = False
    is_active: bool = False
    """An agent speaks for it that may connect."""

    def finding(self, rule: RuleName, summary: str, *, subject: str = "", name: str = "", page: str = "") -> Finding:
        return Finding(
            rule, self.org_id, f"{self.id}/{subject}" if subject else self.id, name or self.name, summary, self.id,
            self.name, page=page or f"/clusters/{self.name}",
        )  # fmt: skip


@dataclass(slots=True)
class Look:
    """Everything that one look found."""

    moment: datetime
    hosts: dict[str, Host] = field(default_factory=dict)
    found: list[Finding] = field(default_factory=list)

    @property
    def quiet(self) -> set[tuple[str, str, str]]:
        """Keys, as rows have them, of what is not so now and may be so again."""
        return {(one.org_id, one.rule, one.subject[:SUBJECT_CHARACTERS]) for one in self.found if one.quiet}

"""Removes what is old, in small bites, for every table that grows. Each feature names its own tables here or in
`Retention.rules`; how long is the settings' business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from towline.aio.tasks import TaskOwner
from towline.control.access.models import ApiToken, KubernetesToken, Session, SetupToken, Ticket
from towline.control.audit.models import AuditEvent
from towline.control.db import Transaction, now
from towline.control.errors import ApiError
from towline.control.logging import get_logger

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("retention")

INTERVAL = 3600.0
FIRST_DELAY = 60.0
"""Seconds after the start: agents that come back go first."""
BITE = 500
"""Rows of one transaction: a few milliseconds in which nobody else writes to SQLite."""
DAY = timedelta(days=1).total_seconds()

Custom = Callable[[Transaction], Awaitable[int]]
"""Removes some rows and says how many; called again while it removes any."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may go from one table."""

    name: str
    key: InstrumentedAttribute[str] | InstrumentedAttribute[int]
    old: Callable[[], ColumnElement[bool]]


class Retention:
    """The loop. Other features add to `rules` or `custom` before it starts."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._tasks = TaskOwner("retention")
        self.rules: list[Rule] = own_rules(control)
        self.custom: list[tuple[str, Custom]] = []

    async def start(self) -> None:
        """Begin to clean up, now and then."""
        self._tasks.spawn("sweep", self._sweep_for_ever())

    async def stop(self) -> None:
        """Stop cleaning up."""
        await self._tasks.close()

    async def sweep(self) -> dict[str, int]:
        """Remove everything that is old now. Returns: rows by rule."""
        removed = {rule.name: await self._apply(rule) for rule in self.rules}
        for name, step in self.custom:
            removed[name] = await self._repeat(step)
        gone = {name: count for name, count in removed.items() if count}
        if gone:
            _log.info("old rows removed", **gone)
        return removed

    async def _sweep_for_ever(self) -> None:
        await self._control.clock.sleep(FIRST_DELAY)
        while True:
            try:
                await self.sweep()
            except ApiError as error:
                _log.warning("old rows not removed", why=error.message)
            await self._control.clock.sleep(INTERVAL)

    async def _apply(self, rule: Rule) -> int:
        async def step(tx: Transaction) -> int:
            chosen = (await tx.scalars(select(rule.key).where(rule.old()).order_by(rule.key).limit(BITE))).all()
            if chosen:
                await tx.execute(delete(rule.key.class_).where(rule.key.in_(chosen)))
            return len(chosen)

        return await self._repeat(step)

    async def _repeat(self, step: Custom) -> int:
        total = 0
        while True:
            async with self._control.db.begin() as tx:
                count = await step(tx)
            total += count
            if not count:
                return total


def own_rules(control: ControlPlane) -> list[Rule]:
    """Return the rules of identity and audit."""
    settings = control.settings
    sessions, tokens, audit = settings.keep_session_days, settings.keep_token_days, settings.keep_audit_days
    return [
        Rule("sessions", Session.id, lambda: or_(Session.expires_at < now(-sessions * DAY), idle(control))),
        Rule("tickets", Ticket.secret_hash, lambda: Ticket.expires_at < now(-DAY)),
        Rule("kubernetes_tokens", KubernetesToken.secret_hash, lambda: KubernetesToken.expires_at < now()),
        Rule("setup_tokens", SetupToken.id, lambda: SetupToken.expires_at < now(-DAY)),
        Rule(
            "tokens",
            ApiToken.id,
            lambda: or_(ApiToken.expires_at < now(-tokens * DAY), ApiToken.revoked_at < now(-tokens * DAY)),
        ),
        Rule("audit_events", AuditEvent.seq, lambda: AuditEvent.at < now(-audit * DAY)),
    ]


def idle(control: ControlPlane) -> ColumnElement[bool]:
    """Sessions that nobody used for so long that they have ended, and some days more."""
    return Session.used_at < now(-control.settings.session_idle - control.settings.keep_session_days * DAY)

"""Alerts as a part of the control plane: what belongs together, the loop that looks, and the loop that sends.

A hint on the bus names the clusters to look at; without any, everything is looked at every `SWEEP_INTERVAL`, and what
time alone moves on, when it is due. Rows are the truth: a restart goes on where they stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import and_
from sqlalchemy.exc import DBAPIError

from towline.aio.tasks import TaskOwner
from towline.control.alerts import outbox, repository
from towline.control.alerts.board import Board
from towline.control.alerts.channels import Channels
from towline.control.alerts.delivery import Delivery
from towline.control.alerts.evaluation import Evaluator
from towline.control.alerts.figures import Figures
from towline.control.alerts.models import Alert, AlertMessage, AlertSilence
from towline.control.alerts.outgoing import Outgoing
from towline.control.alerts.senders import Sender
from towline.control.alerts.service import Alerts
from towline.control.alerts.states import State
from towline.control.alerts.subjects import Scope
from towline.control.alerts.telling import Teller
from towline.control.bus import RESYNC, Event, Subscription
from towline.control.db import now
from towline.control.errors import ApiError
from towline.control.ids import new_id
from towline.control.logging import get_logger
from towline.control.pacing import rest_after
from towline.control.retention import DAY, Rule

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("alerts")

SWEEP_INTERVAL = 60.0
"""Seconds between two looks at everything: disks fill without a hint, since heartbeats give none."""
LEAST_PAUSE = 0.5
"""Seconds between two looks: a flood of hints costs two looks a second."""
MOST_CLUSTERS = 200
"""Named in hints before everything is looked at instead: its statement takes as many parameters."""
TOPICS = ("cluster", "agent", "inventory", "kubernetes", "deployment", "certificate", "alert", RESYNC)
LONGEST_REASON = 300
NOTHING = Scope(frozenset(), certificates=False)
KEEP_MESSAGES = 30.0
"""Days that messages are kept which were sent, to see what went where."""


class AlertsFeature:
    """Everything about alerts."""

    def __init__(self, control: ControlPlane) -> None:
        db, settings = control.db, control.settings
        self._control = control
        self._tasks = TaskOwner("alerts")
        self._due = asyncio.Event()
        self._swept_at = 0.0
        self.figures = Figures(control.metrics.registry)
        self.board = Board(db)
        self.evaluator = Evaluator(db, group_seconds=settings.alert_group_seconds)
        self.teller = Teller(db, self._origin)
        self.sender = Sender(Outgoing(settings.outgoing_networks), control.clock)
        self.delivery = Delivery(db, control.sealer, self.sender, self.figures, owner=new_id("evt"))
        self.channels = Channels(db, control.sealer, control.audit, self.delivery, self._origin)
        self.service = Alerts(db, control.audit, control.fleet.clusters)
        control.web.firing = self.board.count
        control.retention.rules += rules(settings.keep_alert_days)

    def __repr__(self) -> str:
        return f"<AlertsFeature {self.board!r}>"

    async def start(self) -> None:
        """Begin to look and to send."""
        await self.evaluator.begin()
        await self._count()
        self._tasks.spawn("look", self._look_for_ever())
        self._tasks.spawn("send", self._send_for_ever())

    async def stop(self) -> None:
        """End both; what waits is sent after the next start."""
        await self._tasks.close()

    async def look(self, scope: Scope | None = None) -> None:
        """Look at some clusters, or at everything, and write the messages that are due."""
        scope = scope or Scope()
        if not scope.is_empty:
            moved = await self.evaluator.evaluate(scope)
            self.figures.looks.labels("all" if scope.clusters is None else "some").inc()
            for word, names in (("fired", moved.fired), ("ended", moved.ended)):
                for rule in names:
                    self.figures.changes.labels(rule, word).inc()
        await self.teller.tell()
        await self._count()
        self._due.set()

    # -- looking -------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        clock = self._control.clock
        scope = Scope()
        async with self._control.bus.subscribe(*TOPICS) as hints:
            while True:
                began = clock.monotonic()
                self._swept_at = began if scope == Scope() else self._swept_at
                try:
                    await self.look(scope)
                except (ApiError, DBAPIError) as error:
                    _log.warning("alerts not looked at", why=str(error)[:LONGEST_REASON])
                await clock.sleep(rest_after(clock.monotonic() - began, least=LEAST_PAUSE))
                try:
                    scope = await self._wait(hints)
                except StopAsyncIteration:
                    return

    async def _wait(self, hints: Subscription) -> Scope:
        """Wait for hints, or for what time moves on. Returns: what to look at."""
        until_sweep = self._swept_at + SWEEP_INTERVAL - self._control.clock.monotonic()
        if until_sweep <= 0:
            return Scope()
        try:
            async with asyncio.timeout(await self._pause(until_sweep)):
                found = [await anext(hints)]
        except TimeoutError:
            return await self._ripe()
        with suppress(TimeoutError):
            async with asyncio.timeout(0):  # ends only when there is nothing left to take at once
                while True:
                    found.append(await anext(hints))
        return scope_of(found)

    async def _pause(self, longest: float) -> float:
        try:
            async with self._control.db.read() as tx:
                due = await repository.next_moment(tx)
        except (ApiError, DBAPIError):
            return longest
        return longest if due is None else min(longest, max(LEAST_PAUSE, due))

    async def _ripe(self) -> Scope:
        """Return what time has moved on by now."""
        try:
            async with self._control.db.read() as tx:
                clusters = set(await repository.due_clusters(tx))
        except (ApiError, DBAPIError):
            return NOTHING
        return Scope(frozenset(clusters - {""}), certificates="" in clusters)

    async def _count(self) -> None:
        """Set the numbers of pages and figures."""
        self.figures.show(one.rule for one in await self.board.refresh())
        async with self._control.db.read() as tx:
            self.figures.waiting.set(await outbox.waiting(tx))

    # -- sending -------------------------------------------------------------------------------

    async def _send_for_ever(self) -> None:
        clock = self._control.clock
        while True:
            self._due.clear()
            try:
                tried = await self.delivery.deliver()
            except (ApiError, DBAPIError) as error:
                tried = 0
                _log.warning("alerts not sent", why=str(error)[:LONGEST_REASON])
            if not tried:
                await self._wait_for_messages()
            await clock.sleep(0)

    async def _wait_for_messages(self) -> None:
        pause = SWEEP_INTERVAL
        try:
            async with self._control.db.read() as tx:
                due = await outbox.next_moment(tx)
            pause = pause if due is None else min(pause, max(LEAST_PAUSE, due))
        except (ApiError, DBAPIError) as error:
            _log.debug("outbox not read", why=str(error)[:LONGEST_REASON])
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._due.wait()

    def _origin(self) -> str:
        return self._control.addresses().origin


def scope_of(hints: Iterable[Event]) -> Scope:
    """Return what some hints ask to look at."""
    clusters: set[str] = set()
    certificates = False
    for hint in hints:
        if hint.topic == RESYNC or (hint.topic == "alert" and "rule" in hint.ids):
            return Scope()
        certificates = certificates or hint.topic == "certificate"
        cluster_id = hint.ids.get("cluster_id") or (hint.ids.get("id", "") if hint.topic == "cluster" else "")
        if cluster_id:
            clusters.add(cluster_id)
    if len(clusters) > MOST_CLUSTERS:
        return Scope(None, certificates=certificates)
    return Scope(frozenset(clusters), certificates=certificates)


def rules(keep_days: float) -> list[Rule]:
    """Return what is old: alerts that ended, silences, and messages."""
    return [
        Rule(
            "alerts", Alert.id,
            lambda: and_(Alert.state == State.RESOLVED, Alert.tell == "", Alert.changed_at < now(-keep_days * DAY)),
        ),
        Rule("alert_silences", AlertSilence.id, lambda: AlertSilence.ends_at < now(-keep_days * DAY)),
        Rule(
            "alert_messages", AlertMessage.id,
            lambda: and_(AlertMessage.state != outbox.WAITING, AlertMessage.ended_at < now(-KEEP_MESSAGES * DAY)),
        ),
    ]  # fmt: skip

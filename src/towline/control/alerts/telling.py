"""Makes messages of what is to be told: grouped by rule, held back by silences, one for each channel.

Messages and the note that they were made are one transaction: whatever ends the process, nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from towline.control.alerts import messages, outbox, repository
from towline.control.alerts.evaluation import FIRING
from towline.control.alerts.models import Alert, AlertChannel, AlertMessage, AlertSilence
from towline.control.alerts.subjects import RuleBook
from towline.control.db import Database, Transaction
from towline.control.ids import new_id


class Teller:
    """Fills the outbox. Args: origin: returns the dashboard's address, for links."""

    def __init__(self, db: Database, origin: Callable[[], str]) -> None:
        self._db = db
        self._origin = origin

    async def tell(self) -> int:
        """Write the messages that are due. Returns: how many."""
        async with self._db.read() as tx:
            pause = await repository.next_telling(tx)
        if pause is None or pause > 0:
            return 0
        async with self._db.begin() as tx:
            alerts = sorted(await repository.untold(tx), key=_group)
            book, moment = await repository.rule_book(tx), await tx.now()
            silences = await repository.silences(tx)
            made = 0
            for key, group in groupby(alerts, key=_group):
                held = list(group)
                channels = [one for one in await outbox.channels(tx, key[0]) if one.enabled]
                made += self._tell_group(tx, held, channels, book, silences, moment)
            if alerts:
                tx.publish("alert")
        return made

    def _tell_group(
        self, tx: Transaction, alerts: Sequence[Alert], channels: Sequence[AlertChannel], book: RuleBook,
        silences: Sequence[AlertSilence], moment: datetime,
    ) -> int:  # fmt: skip
        kind = alerts[0].tell
        loud = _loud(alerts, silences) if kind == FIRING else alerts
        wanted = book.of(alerts[0].org_id, alerts[0].rule).channels
        made = 0
        for channel in channels:
            if kind == FIRING:
                here = loud if wanted is None or channel.id in wanted else []
            else:
                here = [one for one in loud if channel.id in one.told]
            if here:
                tx.add(self._message(channel, kind, here, moment))
                made += 1
        chosen = [channel.id for channel in channels if wanted is None or channel.id in wanted]
        for one in loud:
            one.tell, one.tell_at, one.told = "", None, chosen if kind == FIRING else []
        return made

    def _message(self, channel: AlertChannel, kind: str, alerts: Sequence[Alert], moment: datetime) -> AlertMessage:
        message_id, first = new_id("msg"), alerts[0]
        text = messages.body(
            message_id, kind, first.org_id, first.rule, alerts, origin=self._origin(), moment=moment
        )  # fmt: skip
        return AlertMessage(
            id=message_id, org_id=first.org_id, channel_id=channel.id, body=text, state=outbox.WAITING,
            created_at=moment, next_at=moment,
        )  # fmt: skip


def _group(alert: Alert) -> tuple[str, str, str]:
    return (alert.org_id, alert.rule, alert.tell)


def _loud(alerts: Iterable[Alert], silences: Sequence[AlertSilence]) -> list[Alert]:
    """Return those that no silence covers; the others are looked at again when theirs ends."""
    loud = []
    for one in alerts:
        covering = [silence for silence in silences if covers(silence, one)]
        if covering:
            one.tell_at = max(silence.ends_at for silence in covering)
        else:
            loud.append(one)
    return loud


def covers(silence: AlertSilence, alert: Alert) -> bool:
    """Tell whether a silence is about an alert."""
    here = silence.cluster_id in ("", alert.cluster_id)
    return silence.org_id == alert.org_id and here and silence.rule in ("", alert.rule)

"""Sends what the outbox holds: at least once, each channel's messages in their order, slower while it fails."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any

from towline.control.alerts import outbox
from towline.control.alerts.figures import Figures
from towline.control.alerts.models import ERROR_CHARACTERS, AlertChannel, AlertMessage
from towline.control.alerts.senders import Sender, SendFailed
from towline.control.alerts.targets import PURPOSE, Target, unpacked
from towline.control.db import Database, Transaction
from towline.control.logging import get_logger
from towline.control.sealing.service import CannotOpen, Sealer

_log = get_logger("alerts")

LEASE = 90.0
"""Seconds that a message is somebody's who may have died: three times what any sending takes."""
AT_ONCE = 10
"""Messages, each of another channel, that are sent side by side: one that hangs holds up none of the others."""
STEPS = (5.0, 15.0, 60.0, 300.0, 900.0)
"""Seconds after the first, second, … failure; the last one for all that follow."""
JITTER = 0.1
KEEP_TRYING = 86400.0
"""Seconds after which a message is dropped: news of yesterday helps nobody."""


class Delivery:
    """Takes messages and sends them. Args: owner: this process among replicas."""

    def __init__(self, db: Database, sealer: Sealer, sender: Sender, figures: Figures, *, owner: str) -> None:
        self._db = db
        self._sealer = sealer
        self._sender = sender
        self._figures = figures
        self._owner = owner

    async def deliver(self) -> int:
        """Send what is due, of each channel one. Returns: how many were tried.

        However it ends, nothing of it goes on: a failed or cancelled try waits for those beside it.
        Raises: ApiError, DBAPIError: after all were tried.
        """
        async with self._db.read() as tx:
            pause = await outbox.next_moment(tx)
        if pause is None or pause > 0:
            return 0
        async with self._db.begin() as tx:
            taken = await outbox.claim(tx, owner=self._owner, lease=LEASE, most=AT_ONCE)
        ends = await asyncio.gather(
            *(self._one(message, channel) for message, channel in taken), return_exceptions=True
        )  # fmt: skip
        for error in ends:
            if isinstance(error, BaseException):
                raise error
        return len(taken)

    def target_of(self, channel: AlertChannel) -> Target:
        """Return what a channel sends to. Raises: SendFailed: its secrets cannot be opened."""
        try:
            plain = self._sealer.open(channel.org_id, channel.id, channel.version, PURPOSE, channel.sealed)
        except CannotOpen as error:
            raise SendFailed("its secrets cannot be opened with the keys of this server: enter them anew") from error
        return unpacked(channel.kind, plain)

    async def try_out(self, channel: AlertChannel, message_id: str, body: str) -> str:
        """Send a test message now. Returns: why it failed; empty when it arrived."""
        why = await self._send(channel, message_id, body)
        async with self._db.begin() as tx:
            await self._note(tx, channel, why, await tx.now())
            tx.publish("alert")
        return why

    async def _one(self, message: AlertMessage, channel: AlertChannel) -> None:
        why = await self._send(channel, message.id, message.body)
        async with self._db.begin() as tx:
            moment = await tx.now()
            if await outbox.write(tx, message.id, self._owner, after(message, why, moment)):
                await self._note(tx, channel, why, moment)
                tx.publish("alert")

    async def _send(self, channel: AlertChannel, message_id: str, body: str) -> str:
        why = ""
        try:
            await self._sender.send(self.target_of(channel), message_id, body)
        except SendFailed as error:
            why = str(error)[:ERROR_CHARACTERS]
            _log.warning("alert not sent", channel=channel.name, kind=channel.kind, message=message_id, why=why)
        self._figures.messages.labels(channel.kind, "failed" if why else "sent").inc()
        return why

    async def _note(self, tx: Transaction, channel: AlertChannel, why: str, moment: datetime) -> None:
        """Show on the channel how the last try went."""
        values: dict[str, Any] = {"error": why}
        values |= {"failing_at": channel.failing_at or moment} if why else {"failing_at": None, "sent_at": moment}
        await outbox.set_channel(tx, channel.id, values)


def after(message: AlertMessage, why: str, moment: datetime) -> dict[str, Any]:
    """Return what is written of a message after a try."""
    attempts = message.attempts + 1
    if not why:
        return {"state": outbox.SENT, "attempts": attempts, "error": "", "ended_at": moment}
    if (moment - message.created_at).total_seconds() > KEEP_TRYING:
        return {"state": outbox.DROPPED, "attempts": attempts, "error": why, "ended_at": moment}
    pause = STEPS[min(attempts, len(STEPS)) - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads load
    return {"attempts": attempts, "error": why, "next_at": moment + timedelta(seconds=pause)}

"""Carries hints between processes on one PostgreSQL. Ids only; losing all of them costs no more than some seconds.

Hints are gathered and sent in small transactions of their own, because a notifying commit takes a lock on the whole
database. After each reconnect subscribers are told to read everything again.
Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from typing import Any

import asyncpg
from sqlalchemy import URL, text

from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC, Bus, Event
from towline.control.db import Database
from towline.control.errors import ApiError
from towline.control.logging import get_logger

_log = get_logger("bus")

CHANNEL = "towline"
GATHER_SECONDS = 0.05
"""Hints are held back this long, so that a burst is one transaction."""
PAYLOAD_BYTES = 7500
"""A notification holds 8,000 bytes."""
QUEUE = 2000
CANARY_SECONDS = 5.0
"""Between two looks whether the connection lives: a dead one would stay silent for ever."""


class PgNotify:
    """Joins a bus to those of other processes."""

    def __init__(self, db: Database, bus: Bus, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._name = secrets.token_hex(6)
        self._waiting: deque[Event] = deque(maxlen=QUEUE)
        self._wake = asyncio.Event()
        self._tasks = TaskOwner("pg-notify")
        self.listening = asyncio.Event()
        """Set while hints of others arrive."""

    async def start(self) -> None:
        """Begin to send and to listen."""
        self._bus.forward_to(self._take)
        self._tasks.spawn("send", self._send_for_ever())
        self._tasks.spawn("listen", self._listen_for_ever())

    async def stop(self) -> None:
        """Stop; what still waits is lost, which hints may be."""
        self._bus.forward_to(None)
        await self._tasks.close()

    def _take(self, event: Event) -> None:
        self._waiting.append(event)
        self._wake.set()

    async def _send_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(GATHER_SECONDS)
            self._wake.clear()
            payloads = list(self._payloads())
            try:
                async with self._db.begin() as tx:
                    for payload in payloads:
                        await tx.execute(
                            text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload}
                        )
            except ApiError as error:
                _log.warning("hints not sent", count=len(payloads), why=error.message)

    def _payloads(self) -> list[str]:
        found: list[str] = []
        batch: list[Any] = []
        while self._waiting:
            event = self._waiting.popleft()
            entry = [event.topic, dict(event.ids)]
            if batch and len(json.dumps([self._name, [*batch, entry]])) > PAYLOAD_BYTES:
                found.append(json.dumps([self._name, batch]))
                batch = []
            batch.append(entry)
        return [*found, json.dumps([self._name, batch])] if batch else found

    async def _listen_for_ever(self) -> None:
        backoff = Backoff(clock=self._clock)
        while True:
            try:
                await self._listen(backoff)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("hints of other processes do not arrive", why=str(error) or type(error).__name__)
            finally:
                self.listening.clear()
            await backoff.wait()

    async def _listen(self, backoff: Backoff) -> None:
        connection = await asyncpg.connect(plain_url(self._db.url), timeout=CANARY_SECONDS)
        try:
            await connection.add_listener(CHANNEL, self._heard)
            self.listening.set()
            backoff.reset()
            self._bus.deliver(Event(RESYNC))
            while True:
                await self._clock.sleep(CANARY_SECONDS)
                await connection.execute("SELECT 1", timeout=CANARY_SECONDS)
        finally:
            connection.terminate()

    def _heard(self, _: object, __: int, ___: str, payload: object) -> None:
        try:
            sender, events = json.loads(str(payload))
            hints = [Event(str(topic), {str(key): str(value) for key, value in ids.items()}) for topic, ids in events]
        except (ValueError, TypeError, AttributeError):
            _log.warning("a hint that is none of ours")
            return
        if sender != self._name:
            for hint in hints:
                self._bus.deliver(hint)


def plain_url(url: URL) -> str:
    """Return the URL as asyncpg takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)

"""Telling the inventory of the cluster over whatever link is up: all of it on connecting, then what changed.

One message after another: while the link is slow, changes gather in the book, so a flood costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from towline.agent.kubernetes.book import Book, in_parts, size_of
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.tunnel.session import Session
from towline.wire import link

ENTRIES_PER_SECOND = 500
"""Told at most, on average: what a database takes beside everything else."""

_log = structlog.get_logger("towline.agent")


class Teller:
    """Args: gather: brings the book up to date, right before something is told."""

    def __init__(self, gather: Callable[[], None], *, clock: Clock = REAL_CLOCK) -> None:
        self._gather = gather
        self._clock = clock
        self._session: Session | None = None
        self._whole_due = True
        self._wake = asyncio.Event()
        self.book = Book(self._wake.set)
        self.interval = 0.2
        """Seconds that changes are gathered; the server's settings may change it."""
        self.is_read = False
        """Whether everything was read once: before, nothing is told, so that nothing seems to be gone."""

    def __repr__(self) -> str:
        return f"<Teller {'connected' if self._session else 'without a link'} {self.book!r}>"

    def connected(self, session: Session) -> None:
        """Tell everything to a new link."""
        self._session = session
        self.tell_whole()

    def disconnected(self) -> None:
        """Keep quiet until the next link."""
        self._session = None

    def tell_whole(self) -> None:
        """Tell everything instead of what changed."""
        self._whole_due = True
        self._wake.set()

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await self._wake.wait()
            if not self._whole_due:
                await self._clock.sleep(self.interval)
            self._wake.clear()
            told = await self._tell()
            await self._clock.sleep(told / ENTRIES_PER_SECOND)

    async def _tell(self) -> int:
        """Tell what is due. Returns: how many entries that were."""
        session = self._session
        if session is None:
            self.book.forget_changes()  # the next link hears everything
            self._whole_due = True
            return 0
        message = self._due()
        if message is None:
            return 0
        try:
            for part in in_parts(message):
                await session.send(part)
        except StreamError as error:
            _log.debug("inventory of the cluster not told", reason=error.reason)
            self._whole_due = True
        return size_of(message)

    def _due(self) -> link.KubeInventory | None:
        if not self.is_read:
            about, self._whole_due = self.book.about, True
            self.book.forget_changes()
            return link.KubeInventory(full=False, about=about) if about.away_since else None
        self._gather()
        message = self.book.snapshot() if self._whole_due else self.book.take()
        self._whole_due = False
        return message

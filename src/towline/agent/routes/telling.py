"""Telling claims over whatever link is up: all of them on connecting, then what changed, with a sequence.

Everything is told only once every source was read, so that nothing seems to be gone that merely was not read yet. One
message after another: while the link is slow, changes gather in the book.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from towline.agent.routes.book import ClaimBook, Source, in_parts
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.wire import link
from towline.wire.link import Routes

GATHER_INTERVAL = 0.1
"""Seconds that changes are gathered: a change at a source leaves the agent within 300 ms."""
CLAIMS_PER_SECOND = 1000
"""Told at most, on average: what a database takes beside everything else."""
READ_TIMEOUT = 30.0
"""Seconds after which the rest is told although a source has not been read: it keeps its routes for a grace time."""

_log = structlog.get_logger("towline.agent")


class Told(Protocol):
    """Who is told: a session, or what stands for one."""

    async def send(self, message: link.Message) -> None:
        """Raises: StreamError."""


class RouteTeller:
    """Tells what the book holds. `connected` and `disconnected` give and take the link."""

    def __init__(self, *, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._session: Told | None = None
        self._sequence = 0
        self._unread: set[Source] = set()
        self._has_begun = False
        self._followed: set[Source] = set()
        self._wake = asyncio.Event()
        self.book = ClaimBook(self._wake.set)

    def __repr__(self) -> str:
        waiting = f", waiting for {sorted(self._unread)}" if self._unread else ""
        return f"<RouteTeller {'connected' if self._session else 'without a link'} {self.book!r}{waiting}>"

    def expect(self, source: Source) -> None:
        """A source is going to be read: the first list waits for it."""
        if not self._has_begun and source not in self._followed:
            self._unread.add(source)

    def has_read(self, source: Source) -> None:
        """A source was read whole, and is followed from now on: what it named until now is no news."""
        if source not in self._followed:
            self._followed.add(source)
            self.book.tell_whole()
        self._arrived(source)

    def left(self, source: Source) -> None:
        """A source is not there, or is not followed any more."""
        self._followed.discard(source)
        self._arrived(source)

    def _arrived(self, source: Source) -> None:
        self._unread.discard(source)
        if not self._unread:
            self._wake.set()

    def connected(self, session: Told) -> None:
        """Tell everything to a new link."""
        self._session = session
        self._sequence = 0
        self.book.tell_whole()

    def disconnected(self) -> None:
        """Keep quiet until the next link."""
        self._session = None

    async def run(self) -> None:
        """Tell for ever."""
        late = self._clock.call_later(READ_TIMEOUT, self._stop_waiting)
        try:
            while True:
                await self._wake.wait()
                await self._clock.sleep(GATHER_INTERVAL)
                self._wake.clear()
                if not self._unread:
                    self._has_begun = True
                    await self._clock.sleep(await self._tell() / CLAIMS_PER_SECOND)
        finally:
            late.cancel()

    def _stop_waiting(self) -> None:
        if self._unread:
            _log.warning("routes are told without what could not be read yet", sources=sorted(self._unread))
            self._unread.clear()
            self._wake.set()

    async def _tell(self) -> int:
        """Tell what is due. Returns: how many claims that were."""
        session = self._session
        if session is None:
            self.book.wait_for_link()
            return 0
        message = self.book.take(self._followed)
        if message is None:
            return 0
        if self.book.left_out:
            _log.warning("claims beyond what is kept were left out", claims=self.book.left_out)
            self.book.left_out = 0
        await self._send(session, message)
        return len(message.claims) + len(message.removed)

    async def _send(self, session: Told, message: Routes) -> None:
        parts = in_parts(message, self._sequence + 1)
        self._sequence += len(parts)
        try:
            for part in parts:
                await session.send(part)
        except StreamError as error:
            _log.debug("routes not told", reason=error.reason)
            self.book.wait_for_link()

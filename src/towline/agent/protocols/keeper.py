"""Bringing connections to an older control plane up, one after another, for ever: nothing it says ends the agent."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import structlog

from towline.agent.errors import AgentError
from towline.agent.uplink.silence import Heard
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.tunnel.errors import LinkDown, UpgradeRefused
from towline.tunnel.reconnect import Ending, LinkStatus

REFUSED_PAUSE = 60.0
"""Longest pause, in seconds, after an answer 401 or 403: a token that was put right is found within a minute, and an
agent that nobody wants asks no more than twice a minute. Half of it at least."""

REFUSALS = frozenset({401, 403})

Up = Callable[[Heard], None]
"""Called with a connection that is up."""

Hold = Callable[[Up], Awaitable[str]]
"""One connection from its beginning to its end. Calls the function it is given when it is up; returns why it ended.
Raises: LinkDown, AgentError: it did not come up."""

Changed = Callable[[bool, str], None]
"""Told whether it is up, and else why not."""

_log = structlog.get_logger("towline.link")


class Keeper:
    """What `LinkKeeper` is for our own link, as far as the rest of the agent looks at it."""

    def __init__(
        self,
        hold: Hold,
        *,
        server: str,
        changed: Changed,
        backoff: Backoff | None = None,
        draw: Callable[[], float] = random.random,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.status = LinkStatus(server=server)
        self.session: Heard | None = None
        """The connection that is up."""
        self.heartbeat_interval = 30.0
        self._hold = hold
        self._changed = changed
        self._backoff = backoff or Backoff(clock=clock)
        self._draw = draw
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Keeper {self.status.server} {'up' if self.status.connected else self.status.last_error}>"

    async def run(self) -> Ending:
        """Keep a connection up until this task is cancelled."""
        while True:
            delay = max(await self._once(), self._backoff.next_delay())
            _log.info("link down", server=self.status.server, reason=self.status.last_error, retry_in=round(delay, 1))
            self.status.next_attempt_at = self._clock.now().timestamp() + delay
            await self._clock.sleep(delay)
            self.status.next_attempt_at = 0.0

    async def _once(self) -> float:
        """Have one connection. Returns: seconds to stay away at least."""
        self.status.attempts += 1
        began = self._clock.monotonic()
        pause = 0.0
        try:
            reason = await self._hold(self._up)
            self.status.last_error, self.status.last_code, self.status.last_hint = reason, "closed", ""
        except LinkDown as error:
            self.status.failed(error)
            pause = self._pause(error)
        except AgentError as error:
            self.status.failed(LinkDown(str(error)))
        except Exception as error:
            # Whatever goes wrong with one connection, the next may fare better.
            _log.exception("link failed", server=self.status.server)
            self.status.failed(LinkDown(f"{type(error).__name__} in the agent: {error}"))
        if self.status.connected:
            self._backoff.note_lasted(self._clock.monotonic() - began)
        self.status.connected, self.session = False, None
        self._changed(False, self.status.last_error)
        return pause

    def _up(self, session: Heard) -> None:
        self.status.connected, self.session = True, session
        self.status.connects += 1
        self.status.attempts = 0
        _log.info("link up", server=self.status.server)
        self._changed(True, "")

    def _pause(self, error: LinkDown) -> float:
        if isinstance(error, UpgradeRefused) and error.status in REFUSALS:
            return REFUSED_PAUSE * (0.5 + self._draw() / 2)
        return 0.0

"""How long the control plane has said nothing, and the alert when that is too long: log, figure, dashboard.

The control plane tells people that an agent is away; when it is the control plane that is away, nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from towline.agent.surface.linkstate import LinkState, Standing
from towline.aio.clock import REAL_CLOCK, Clock

LOOK_INTERVAL = 5.0
"""Seconds between two looks: a fraction of any silence that is worth an alert."""

_log = structlog.get_logger("towline.agent")


class Heard(Protocol):
    """A connection to a control plane, as far as it is looked at from outside: whatever is spoken on it."""

    @property
    def last_message_at(self) -> float:
        """Monotonic moment at which the control plane was heard last."""

    @property
    def rtt(self) -> float:
        """Seconds of a round trip; 0 while unknown."""

    @property
    def stream_count(self) -> int: ...


class Silence:
    """Args: longest: seconds without a word after which there is an alert. reason: why there is no link."""

    def __init__(
        self,
        link: LinkState,
        session: Callable[[], Heard | None],
        *,
        longest: float,
        reason: Callable[[], str] = lambda: "",
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._link = link
        self._session = session
        self._longest = longest
        self._reason = reason
        self._clock = clock
        self._heard = clock.monotonic()
        self.since = clock.now().timestamp()
        """When the control plane was heard last, in seconds since the epoch; the same until it is heard again."""
        self.has_heard = False
        """Whether the control plane has ever said something to this process."""
        self.alert = False

    def __repr__(self) -> str:
        return f"<Silence {self.seconds:.0f} s{', too long' if self.alert else ''}>"

    @property
    def is_expected(self) -> bool:
        """Whether there is nobody who should say something."""
        return self._link.view.standing is Standing.STANDALONE

    @property
    def seconds(self) -> float:
        """Since the last word of the control plane; before the first, since the agent began to wait for it."""
        session = self._session()
        heard = self._heard if session is None else max(self._heard, session.last_message_at)
        return 0.0 if self.is_expected else max(0.0, self._clock.monotonic() - heard)

    def look(self) -> None:
        """Note what was heard, and begin or end the alert."""
        session, now = self._session(), self._clock.monotonic()
        lasted = self.seconds
        if session is not None:
            self._note(max(self._heard, session.last_message_at))
            self.has_heard = True
        elif self.is_expected:
            self._note(now)
        if self.seconds >= self._longest:
            self._begin()
        elif self.alert:
            self.alert = False
            _log.info("control plane is heard again", silent_seconds=round(lasted))

    def _note(self, heard: float) -> None:
        if heard != self._heard:
            self._heard = heard
            self.since = self._clock.now().timestamp() - (self._clock.monotonic() - heard)

    def _begin(self) -> None:
        if not self.alert:
            self.alert = True
            _log.error("control plane has been silent for long", seconds=round(self.seconds), reason=self._reason())

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_INTERVAL)

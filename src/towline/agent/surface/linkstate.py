"""How the agent stands with a control plane, for people and programs that ask the agent itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from towline.aio.clock import REAL_CLOCK, Clock


class Standing(StrEnum):
    """The word for it."""

    STANDALONE = "standalone"
    """No control plane is configured, and none is needed."""
    JOINING = "joining"
    """One is configured; this host has no identity there yet."""
    CONNECTING = "connecting"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class LinkView:
    """The state of a moment."""

    standing: Standing
    since: float
    """Seconds since the epoch."""
    server: str = ""
    cluster: str = ""
    last_error: str = ""
    code: str = ""
    """A stable word for why: what the control plane answered, or the hop that failed."""
    hint: str = ""
    """What an operator can do about it."""
    attempts: int = 0
    """In a row that failed."""
    next_attempt_at: float = 0.0
    """Seconds since the epoch; 0 while none is waited for."""


class LinkState:
    """Holds the view, and tells those who want to know when it changes."""

    def __init__(self, standing: Standing, *, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._listeners: list[Callable[[LinkView], None]] = []
        self.view = LinkView(standing, clock.now().timestamp())

    def __repr__(self) -> str:
        return f"<LinkState {self.view.standing}>"

    def turned(self, standing: Standing, *, server: str = "", cluster: str = "", last_error: str = "") -> None:
        """Note a state; `since` stays when only words change."""
        before = self.view
        since = before.since if before.standing is standing else self._clock.now().timestamp()
        view = LinkView(standing, since, server, cluster, last_error)
        if view == before:
            return
        self.view = view
        for listener in tuple(self._listeners):
            listener(view)

    def failed(
        self, reason: str, *, code: str = "", hint: str = "", attempts: int = 0, next_attempt_at: float = 0.0
    ) -> None:
        """Note why it is not better, and when it is tried again."""
        self.view = replace(
            self.view, last_error=reason, code=code, hint=hint, attempts=attempts, next_attempt_at=next_attempt_at
        )

    def listen(self, listener: Callable[[LinkView], None]) -> Callable[[], None]:
        """Call a function at each change. Returns: what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

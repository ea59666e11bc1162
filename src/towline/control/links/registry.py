"""The links that are up in this process: who holds which, and how to reach the agent of a cluster.

The newest epoch of an agent wins. What agents say is handed to whoever subscribed to that type of message; what it
means is decided there. Letting agents in is `door.py`.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.agents.connect import Admitted
from towline.control.agents.refusals import Refusal
from towline.control.errors import ApiError, ErrorCode
from towline.control.logging import get_logger
from towline.tunnel.errors import Closed, TunnelClosed
from towline.tunnel.session import LinkSession
from towline.wire import link

_log = get_logger("links")

SAMPLES = 20
"""Round trips kept per link: ten minutes of heartbeats."""
REPLACED_PAUSE = 5.0
"""Seconds an instance that was pushed aside stays away: the newer one is there."""

M = TypeVar("M", bound=link.Message)


TOLD_AGAIN = (link.JobAccepted, link.JobProgress, link.JobResult, link.JobsHeld)
"""What an agent tells again after each connect until it is stored: a link that lost one of these has to begin anew."""


@dataclass(slots=True)
class Link:
    """One agent's connection to this process."""

    session: LinkSession
    admitted: Admitted
    connected_at: datetime
    pending: bool
    round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    clock_offset: float = 0.0
    """Seconds that the agent's clock is ahead of ours."""
    reconnects: int = 0
    """Of the agent's process, as it counts them."""
    said_goodbye: str = ""
    jobs_known: bool = False
    """The agent has said which jobs it holds: from now on it may get new ones."""

    @property
    def agent_id(self) -> str:
        return self.admitted.agent_id

    @property
    def cluster_id(self) -> str:
        return self.admitted.cluster_id

    @property
    def org_id(self) -> str:
        return self.admitted.org_id

    @property
    def epoch(self) -> int:
        return self.admitted.epoch

    def note_round_trip(self, seconds: float) -> None:
        if 0 < seconds < 600:
            self.round_trips.append(seconds)

    def rtt_ms(self) -> dict[str, float] | None:
        """Return min, median and max of the recent round trips in milliseconds."""
        if not self.round_trips:
            return None
        times = [seconds * 1000 for seconds in self.round_trips]
        return {
            "min": round(min(times), 2),
            "median": round(statistics.median(times), 2),
            "max": round(max(times), 2),
        }


Handler = Callable[[Link, M], Awaitable[None]]
UpHandler = Callable[[Link], None]
DownHandler = Callable[[Link, str], None]


class Links:
    """Every link of this process."""

    def __init__(self, *, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._by_agent: dict[str, Link] = {}
        self._by_cluster: dict[str, list[Link]] = {}
        self._handlers: dict[type[link.Message], Handler[link.Message]] = {}
        self._up: list[UpHandler] = []
        self._down: list[DownHandler] = []
        self.ended: Counter[str] = Counter()
        """Links that ended, by what ended them; for metrics."""
        self.begun = 0
        self.draining = False
        self._drain_pause = 0.0

    def __repr__(self) -> str:
        return f"<Links {len(self._by_agent)} up>"

    def __len__(self) -> int:
        return len(self._by_agent)

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._by_agent.values()))

    # -- who wants to know ---------------------------------------------------------------------

    def on(self, kind: type[M], handler: Handler[M]) -> None:
        """Hand messages of a type to a handler; one handler for each type."""
        assert kind not in self._handlers, f"{kind.__name__} has a handler already"
        self._handlers[kind] = handler  # type: ignore[assignment]

    def on_up(self, handler: UpHandler) -> None:
        self._up.append(handler)

    def on_down(self, handler: DownHandler) -> None:
        """Call a handler with each link that ended and why; `is_connected` is already false, unless it was replaced."""
        self._down.append(handler)

    # -- reaching agents -----------------------------------------------------------------------

    def of_agent(self, agent_id: str) -> Link | None:
        return self._by_agent.get(agent_id)

    def of_cluster(self, cluster_id: str) -> Link | None:
        """Return the newest link of a cluster whose agent may work."""
        for one in reversed(self._by_cluster.get(cluster_id, ())):
            if not one.pending and one.session.closed is None:
                return one
        return None

    def session(self, cluster_id: str) -> LinkSession:
        """Return the session of a cluster's agent. Raises: ApiError: agent_away."""
        found = self.of_cluster(cluster_id)
        if found is None:
            raise away()
        return found.session

    def is_connected(self, cluster_id: str) -> bool:
        return self.of_cluster(cluster_id) is not None

    def live_instance(self, agent_id: str) -> str:
        """Return the instance whose link is up; empty when none is."""
        found = self._by_agent.get(agent_id)
        return found.admitted.instance_id if found is not None and found.session.closed is None else ""

    async def send(self, cluster_id: str, message: link.Message) -> None:
        """Send a message to a cluster's agent. Raises: ApiError: agent_away."""
        try:
            await self.session(cluster_id).send(message)
        except TunnelClosed as error:
            raise away() from error

    # -- coming and going ------------------------------------------------------------------------

    def attach(self, session: LinkSession, admitted: Admitted) -> Link:
        """Take a session whose handshake is complete; an older link of the same agent is closed."""
        new = Link(session, admitted, self._clock.now(), admitted.pending)
        old = self._by_agent.get(admitted.agent_id)
        self._by_agent[admitted.agent_id] = new
        self._by_cluster.setdefault(admitted.cluster_id, []).append(new)
        self.begun += 1
        _log.info(
            "link up",
            agent=admitted.agent_id,
            cluster=admitted.cluster_id,
            epoch=admitted.epoch,
            address=session.remote_address,
        )
        if old is not None:
            self.supersede(old)
        session.on_close(lambda closed: self._ended(new, closed))
        session.start(lambda message: self._handle(new, message))
        for handler in self._up:
            handler(new)
        if self.draining:
            self._send_away(new)
        return new

    def cut(self, agent_id: str, refusal: Refusal) -> None:
        """End an agent's link and say why; nothing happens when it has none here."""
        found = self._by_agent.get(agent_id)
        if found is not None:
            found.session.send_now(link.Error(code=refusal.code, message=refusal.message, fatal=True))
            goodbye = link.Goodbye(reason=refusal.code, final=refusal.final, pause=refusal.pause, text=refusal.message)
            _say_goodbye(found, goodbye, refusal.close_code)

    def supersede(self, one: Link) -> None:
        """End a link because a newer one of the same agent is there."""
        _say_goodbye(one, link.Goodbye(reason="replaced", pause=REPLACED_PAUSE, text="a newer link took over"))

    def drain(self, pause: float) -> None:
        """Send every agent away for a moment: this process stops."""
        self.draining = True
        self._drain_pause = pause
        for one in self:
            self._send_away(one)

    def _send_away(self, one: Link) -> None:
        text = "the server is restarting; come back in a moment"
        _say_goodbye(one, link.Goodbye(reason="draining", pause=self._drain_pause, text=text), link.CLOSE_DRAINING)

    def approve(self, agent_id: str) -> None:
        """Let a pending agent work."""
        found = self._by_agent.get(agent_id)
        if found is not None and found.pending:
            found.pending = False
            for handler in self._up:
                handler(found)

    def _ended(self, one: Link, closed: Closed) -> None:
        why = one.said_goodbye or describe(closed)
        if self._by_agent.get(one.agent_id) is one:
            del self._by_agent[one.agent_id]
        others = [other for other in self._by_cluster.get(one.cluster_id, []) if other is not one]
        if others:
            self._by_cluster[one.cluster_id] = others
        else:
            self._by_cluster.pop(one.cluster_id, None)
        self.ended["agent" if closed.by_peer else "lost" if closed.code == 1006 else "server"] += 1
        _log.info("link down", agent=one.agent_id, cluster=one.cluster_id, epoch=one.epoch, why=why, code=closed.code)
        for handler in self._down:
            handler(one, why)

    async def _handle(self, one: Link, message: link.Message) -> None:
        if self._by_agent.get(one.agent_id) is not one:
            return  # a newer link took over: what the old one says does not count any more
        handler = self._handlers.get(type(message))
        if handler is None:
            _log.debug("message ignored", agent=one.agent_id, message=type(message).__name__)
            return
        try:
            await handler(one, message)
        except ApiError as error:
            if not isinstance(message, TOLD_AGAIN):
                raise
            _log.warning("not stored, the agent is asked to come back and tell it again", why=error.message)
            one.session.close(link.CLOSE_DRAINING, "the database did not take it")


def away(name: str = "", last_seen_at: datetime | None = None) -> ApiError:
    """Return the error for a cluster whose agent has no link."""
    since = f" since {last_seen_at:%Y-%m-%d %H:%M} UTC" if last_seen_at else ""
    return ApiError(
        ErrorCode.AGENT_AWAY,
        f"the agent of {name or 'this cluster'} is away{since}",
        hint="the cluster's page and `towline agent doctor` on the host say why",
    )


def describe(closed: Closed) -> str:
    """Say how a link ended, for people."""
    if closed.code == 1006:
        return closed.reason or "the connection broke without a goodbye"
    return closed.reason or f"closed with code {closed.code}"


def _say_goodbye(one: Link, goodbye: link.Goodbye, code: int = 1000) -> None:
    one.session.send_now(goodbye)
    one.session.close(code, goodbye.reason)

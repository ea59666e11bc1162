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
from towline.tunnel.session import Session
from towline.wire import link

_log = get_logger("links")

SAMPLES = 20
"""Round trips kept per link: ten minutes of heartbeats."""
SILENT = 20.0
"""Seconds without a byte from an agent after which new streams go to another one: agents ping every 15."""
REPLACED_PAUSE = 5.0
"""Seconds an instance that was pushed aside stays away: the newer one is there."""

M = TypeVar("M", bound=link.Message)


TOLD_AGAIN = (link.JobAccepted, link.JobProgress, link.JobResult, link.JobsHeld)
"""What an agent tells again after each connect until it is stored: a link that lost one of these has to begin anew."""


@dataclass(slots=True)
class Link:
    """One agent's connection to this process."""

    session: Session
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
    speaks: bool = True
    """It spoke for its cluster when it was looked at last."""
    leaving: bool = False
    """It was told to go: nothing new is given to it."""

    @property
    def agent_id(self) -> str:
        return self.admitted.agent_id

    @property
    def slot(self) -> str:
        """Name of the instance, of an agent that may run several; else empty."""
        return self.admitted.slot

    @property
    def works(self) -> bool:
        """Whether it may be given something."""
        return not self.pending and not self.leaving and self.session.closed is None

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
        self._by_agent: dict[str, dict[str, Link]] = {}
        """Per agent the present link of each of its instances; most run one, whose name is empty."""
        self._by_cluster: dict[str, list[Link]] = {}
        self._handlers: dict[type[link.Message], Handler[link.Message]] = {}
        self._up: list[UpHandler] = []
        self._down: list[DownHandler] = []
        self._lead: list[UpHandler] = []
        self.ended: Counter[str] = Counter()
        """Links that ended, by what ended them; for metrics."""
        self.begun = 0
        self.draining = False
        self._drain_pause = 0.0

    def __repr__(self) -> str:
        return f"<Links {len(self)} up>"

    def __len__(self) -> int:
        return sum(map(len, self._by_agent.values()))

    def __iter__(self) -> Iterator[Link]:
        return iter([one for own in self._by_agent.values() for one in own.values()])

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

    def on_lead(self, handler: UpHandler) -> None:
        """Call a handler with each link that speaks for its cluster because the one that did is gone."""
        self._lead.append(handler)

    # -- reaching agents -----------------------------------------------------------------------

    def of_agent(self, agent_id: str) -> Link | None:
        """Return the link of an agent; of several instances the one that came first."""
        return next(iter(self._by_agent.get(agent_id, {}).values()), None)

    def all_of_agent(self, agent_id: str) -> tuple[Link, ...]:
        """Return the links of every instance of an agent."""
        return tuple(self._by_agent.get(agent_id, {}).values())

    def of_cluster(self, cluster_id: str) -> Link | None:
        """Return the link that speaks for a cluster: it gets the jobs, and what it reports is believed.

        Of several agents it is the newest, of its instances the one that has been there longest.
        """
        working = [one for one in self._by_cluster.get(cluster_id, ()) if one.works]
        return next((one for one in working if one.agent_id == working[-1].agent_id), None)

    def for_stream(self, cluster_id: str) -> Link | None:
        """Return the link that a new stream of a cluster goes to: the least busy one of those that are well."""
        working = [one for one in self._by_cluster.get(cluster_id, ()) if one.works]
        if len(working) < 2:
            return working[0] if working else None
        alive = [one for one in working if one.session.silence < SILENT] or working
        return min(alive, key=lambda one: one.session.stream_count)

    def leads(self, one: Link) -> bool:
        """Tell whether what a link reports counts: one of several instances is believed."""
        return not one.slot or self.of_cluster(one.cluster_id) in (None, one)

    def session(self, cluster_id: str) -> Session:
        """Return the session of a cluster's agent. Raises: ApiError: agent_away."""
        found = self.of_cluster(cluster_id)
        if found is None:
            raise away()
        return found.session

    def is_connected(self, cluster_id: str) -> bool:
        return self.of_cluster(cluster_id) is not None

    def live_instance(self, agent_id: str) -> str:
        """Return the instance whose link is up; empty when none is."""
        found = self.of_agent(agent_id)
        return found.admitted.instance_id if found is not None and found.session.closed is None else ""

    def live_instances(self, agent_id: str) -> dict[str, str]:
        """Return the names of an agent's instances whose links are up, and the process that holds each."""
        return {one.slot: one.admitted.instance_id for one in self.all_of_agent(agent_id) if one.session.closed is None}

    async def send(self, cluster_id: str, message: link.Message) -> None:
        """Send a message to a cluster's agent. Raises: ApiError: agent_away."""
        try:
            await self.session(cluster_id).send(message)
        except TunnelClosed as error:
            raise away() from error

    # -- coming and going ------------------------------------------------------------------------

    def attach(self, session: Session, admitted: Admitted) -> Link:
        """Take a session whose handshake is complete; an older link of the same agent is closed."""
        new = Link(session, admitted, self._clock.now(), admitted.pending)
        own = self._by_agent.setdefault(admitted.agent_id, {})
        # Its number of instances may have changed meanwhile: a link without a name is of the time before, or after.
        replaced = [one for slot, one in own.items() if not slot or not new.slot or slot == new.slot]
        for old in replaced:
            del own[old.slot]
        own[new.slot] = new
        self._by_cluster.setdefault(admitted.cluster_id, []).append(new)
        new.speaks = self.leads(new)
        self.begun += 1
        _log.info(
            "link up",
            agent=admitted.agent_id,
            cluster=admitted.cluster_id,
            epoch=admitted.epoch,
            address=session.remote_address,
        )
        for old in replaced:
            self.supersede(old)
        session.on_close(lambda closed: self._ended(new, closed))
        session.start(lambda message: self._handle(new, message))
        for handler in self._up:
            handler(new)
        if self.draining:
            self._send_away(new)
        return new

    def cut(self, agent_id: str, refusal: Refusal, slot: str = "") -> None:
        """End an agent's links, or that of one instance, and say why; nothing happens when it has none here."""
        for found in self.all_of_agent(agent_id):
            if slot and found.slot != slot:
                continue
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
        for found in self.all_of_agent(agent_id):
            if found.pending:
                found.pending = False
                for handler in self._up:
                    handler(found)

    def _ended(self, one: Link, closed: Closed) -> None:
        why = one.said_goodbye or describe(closed)
        own = self._by_agent.get(one.agent_id, {})
        if own.get(one.slot) is one:
            del own[one.slot]
            if not own:
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
        self._succeed(one)

    def _succeed(self, ended: Link) -> None:
        """Let the next instance of an agent speak for the cluster when the one that did has gone."""
        leader = self.of_cluster(ended.cluster_id)
        if leader is None or leader.agent_id != ended.agent_id or not ended.speaks or leader.speaks:
            return
        leader.speaks = True
        for handler in self._lead:
            handler(leader)

    async def _handle(self, one: Link, message: link.Message) -> None:
        if self._by_agent.get(one.agent_id, {}).get(one.slot) is not one:
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
    one.leaving = True
    one.session.send_now(goodbye)
    one.session.close(code, goodbye.reason)

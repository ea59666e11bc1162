"""What becomes an event: changes in the cluster, Docker's events, changes of state, and figures now and then.

Gathered only while somebody listens, and for a while after, so that a page that reloads misses nothing. Each life of
the feed has a ring of its own; ids of another one lead to a `gap`, never to silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import structlog

from towline.agent.docker import containers
from towline.agent.errors import AgentError, DockerError
from towline.agent.host.inventory import WATCHED_EVENTS
from towline.agent.journal import Journal
from towline.agent.surface import control_plane, jobs, process
from towline.agent.surface.cache import ClusterCache
from towline.agent.surface.cluster import Row
from towline.agent.surface.linkstate import LinkView
from towline.agent.surface.parts import Docker, Parts
from towline.agent.surface.ring import Ring
from towline.agent.surface.shelf import What
from towline.agent.surface.statistics import Statistics
from towline.agent.surface.usage import Usage
from towline.aio.backoff import Backoff
from towline.aio.tasks import TaskOwner

LINGER_SECONDS = 120.0
"""Without a listener, before gathering ends: a page that reloads, or a port-forward opened again, takes less."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks at what has no listeners of its own: whether API server and engine answer."""
METRICS_INTERVAL = 10.0
"""Seconds between two `metrics` events."""
LONGEST_PAUSE = 5.0
"""Seconds between two attempts to hear an engine's events."""

STATUS, EVENT, METRICS = "status", "event", "metrics"
KINDS = (STATUS, EVENT, METRICS)

_events = msgspec.json.Decoder(containers.Event)
_log = structlog.get_logger("towline.agent.surface")


class Feed:
    """Fills a ring while somebody listens. `run` once, as a task."""

    def __init__(
        self, parts: Parts, cache: ClusterCache | None, statistics: Statistics, usage: Usage | None = None
    ) -> None:
        self._parts = parts
        self._usage = usage
        self._statistics = statistics
        self._cache = cache
        self._clock = parts.clock
        self._listening = 0
        self._heard_at = 0.0
        self._wanted = asyncio.Event()
        self._docker_away = "not asked yet"
        self.ring = Ring()

    def __repr__(self) -> str:
        return f"<Feed {self._listening} listeners {self.ring!r}>"

    @contextlib.contextmanager
    def listening(self) -> Iterator[Ring]:
        """Listen within a block."""
        self._listening += 1
        self._wanted.set()
        try:
            yield self.ring
        finally:
            self._listening -= 1
            self._heard_at = self._clock.monotonic()

    @property
    def listeners(self) -> int:
        return self._listening

    def status(self) -> dict[str, Any]:
        """Return how the agent stands with everything that it needs."""
        return {
            "status": self._parts.link.view.standing,
            "control_plane": control_plane.shown(self._parts),
            "kubernetes": self._cache.standing() if self._cache is not None else None,
            "docker": self._docker_standing() if self._parts.docker is not None else None,
        }

    async def run(self) -> None:
        """Gather for ever, whenever somebody listens."""
        while True:
            await self._wanted.wait()
            _log.debug("events gathered")
            await self._gather()
            if not self._listening:
                self._wanted.clear()
                self.ring = Ring()

    async def _gather(self) -> None:
        """Gather until nobody has listened for a while."""
        ends = [self._parts.link.listen(self._link_turned)]
        if self._cache is not None:
            ends.append(self._cache.listen(self._changed, self._happened))
        try:
            async with TaskOwner("surface feed") as owner:
                if self._parts.docker is not None:
                    owner.spawn("docker", self._follow_docker(self._parts.docker))
                owner.spawn("metrics", self._measure())
                await self._look()
        finally:
            for end in ends:
                end()

    async def _look(self) -> None:
        """Tell changes of state, and see to it that the cluster is followed, while somebody listens."""
        told: dict[str, Any] = {}
        done = _JobNews(self._parts.journal)
        self._heard_at = self._clock.monotonic()
        while self._listening or self._clock.monotonic() - self._heard_at < LINGER_SECONDS:
            if self._cache is not None:
                with contextlib.suppress(AgentError):  # what is not allowed or not there is told by the status
                    self._cache.use()
                    if self._usage is not None:
                        self._usage.use()
            told = self._tell_status(told)
            for job in done.fresh():
                self.ring.publish(EVENT, {"source": "agent", "object": "job", "change": "changed", "item": job})
            await self._clock.sleep(LOOK_INTERVAL)

    def _tell_status(self, told: dict[str, Any]) -> dict[str, Any]:
        now = self.status()
        if told and now != told:
            self.ring.publish(STATUS, now)
        return now

    async def _measure(self) -> None:
        while True:
            await self._clock.sleep(METRICS_INTERVAL)
            self.ring.publish(METRICS, self.figures())

    def figures(self) -> dict[str, Any]:
        """Return what a `metrics` event holds."""
        numbers, counts = process.measure(), self._parts.counts
        return {
            "memory": {"resident_bytes": numbers.resident_bytes},
            "cpu": {"seconds": round(numbers.cpu_user_seconds + numbers.cpu_system_seconds, 3)},
            "runtime": {"tasks": numbers.tasks, "open_files": numbers.open_files},
            "connections": {kind: self._statistics.live[kind] for kind in ("websocket", "events", "logs")},
            "jobs_running": counts.jobs_running(),
            "streams_open": counts.streams_open(),
            "usage": self._usage.sample.summed() if self._usage is not None else None,
            "uptime": round((self._clock.now() - self._parts.started_at).total_seconds(), 3),
        }

    # -- what others tell ------------------------------------------------------------------------

    def _link_turned(self, view: LinkView) -> None:
        self.ring.publish(STATUS, self.status())

    def _changed(self, what: What, name: str, row: Row) -> None:
        told = {"source": "kubernetes", "object": name, "change": what, "item": msgspec.Raw(row.shown)}
        self.ring.publish(EVENT, told, row.namespace)

    def _happened(self, found: dict[str, Any]) -> None:
        told = {"source": "kubernetes", "object": "event", "change": "added", "item": found}
        self.ring.publish(EVENT, told, found["namespace"])

    # -- Docker ----------------------------------------------------------------------------------

    def _docker_standing(self) -> dict[str, Any]:
        return {"state": "away" if self._docker_away else "connected", "reason": self._docker_away}

    async def _follow_docker(self, docker: Docker) -> None:
        backoff = Backoff(longest=LONGEST_PAUSE, clock=self._clock)
        filters = {"type": ["container"], "event": WATCHED_EVENTS}
        while True:
            try:
                async with docker.engine.stream("GET", "/events", filters=filters) as chunks:
                    self._docker_away = ""
                    backoff.reset()
                    await self._listen_to_docker(chunks)
            except DockerError as error:
                self._docker_away = str(error)
            await backoff.wait()

    async def _listen_to_docker(self, chunks: AsyncIterator[bytes]) -> None:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                with contextlib.suppress(msgspec.DecodeError):
                    self.ring.publish(EVENT, _container_event(_events.decode(line)))


class _JobNews:
    """Jobs that are not as they were at the last look."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._changes = 0
        self._told = self._now()

    def fresh(self) -> list[dict[str, Any]]:
        """Return those that changed; nothing while the journal cannot be read."""
        with contextlib.suppress(AgentError):
            if self._journal is not None and self._journal.changes != self._changes:
                self._changes, before, self._told = self._journal.changes, self._told, self._now()
                return [job for name, job in self._told.items() if before.get(name) != job]
        return []

    def _now(self) -> dict[str, dict[str, Any]]:
        if self._journal is None:
            return {}
        with contextlib.suppress(AgentError):
            return {job["id"]: job for job in jobs.glances(self._journal)}
        return {}


def _container_event(event: containers.Event) -> dict[str, Any]:
    """Return what happened to a container. Labels are left out but for those of Compose: they may hold anything."""
    known = event.actor.attributes
    change, _, detail = event.action.partition(": ")
    item = {
        "id": event.actor.id,
        "name": known.get("name", ""),
        "project": known.get(containers.PROJECT_LABEL, ""),
        "service": known.get(containers.SERVICE_LABEL, ""),
        "image": known.get("image", ""),
        "detail": detail,
        "exit_code": int(known["exitCode"]) if known.get("exitCode", "").isdigit() else None,
        "at": event.time_nano / 1e9 or float(event.time),
    }
    return {"source": "docker", "object": "container", "change": change, "item": item}

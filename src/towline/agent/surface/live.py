"""What the endpoints for cluster, containers and streams share: made when the surface starts, ended with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from towline.agent.surface.cache import ClusterCache
from towline.agent.surface.errors import SurfaceError, unavailable
from towline.agent.surface.feed import Feed
from towline.agent.surface.parts import Docker, Parts
from towline.agent.surface.passage import Passage
from towline.agent.surface.requests import STATISTICS
from towline.agent.surface.running import LocalCommands
from towline.agent.surface.statistics import Statistics
from towline.agent.surface.usage import Usage

MOST_EVENT_STREAMS = 1000
"""Open at once: what the agent is measured with."""
MOST_LOG_STREAMS = 50
"""Open at once, each with up to some hundred connections to the API server or the engine."""
MOST_WEBSOCKETS = 1000
"""Open at once: what the agent is measured with."""


MOST = {"events": MOST_EVENT_STREAMS, "logs": MOST_LOG_STREAMS, "websocket": MOST_WEBSOCKETS}


@dataclass(slots=True)
class Live:
    """Shared by the endpoints."""

    parts: Parts
    statistics: Statistics
    cache: ClusterCache | None
    feed: Feed
    way: Passage | None
    commands: LocalCommands
    usage: Usage | None

    @contextlib.contextmanager
    def hold(self, kind: str) -> Iterator[None]:
        """Count something long for as long as it lasts. Raises: SurfaceError: there are too many of its kind."""
        if self.statistics.live[kind] >= MOST[kind]:
            what = "WebSockets" if kind == "websocket" else f"{kind} streams"
            raise SurfaceError("throttled", f"{MOST[kind]} {what} are open already", headers={"Retry-After": "5"})
        with self.statistics.holding(kind):
            yield

    def followed(self) -> ClusterCache:
        """Return what is known of the cluster. Raises: SurfaceError: there is none. KubernetesError, PolicyRefused."""
        if self.cache is None or self.parts.kubernetes is None:
            raise unavailable("Kubernetes", "the settings of this agent switch it off")
        self.parts.policy().require_kubernetes()
        self.parts.kubernetes.credentials.current()
        return self.cache

    def used(self) -> Usage:
        """Return what measures. Raises: SurfaceError: there is nothing to. KubernetesError, PolicyRefused."""
        self.followed()
        assert self.usage is not None
        return self.usage

    def passage(self) -> Passage:
        """Return the way to the API server. Raises: SurfaceError: there is none."""
        if self.way is None:
            raise unavailable("Kubernetes", "the settings of this agent switch it off")
        return self.way

    def docker(self) -> Docker:
        """Return the engine's parts. Raises: SurfaceError: there is none."""
        if self.parts.docker is None:
            raise unavailable("Docker", "the settings of this agent switch it off")
        return self.parts.docker


LIVE: web.AppKey[Live] = web.AppKey("live", Live)


def live_of(request: web.Request) -> Live:
    """Return what is shared."""
    return request.app[LIVE]


def make(parts: Parts, statistics: Statistics) -> Live:
    """Make it; nothing is followed before somebody asks."""
    kubernetes = parts.kubernetes
    cache = passage = usage = None
    if kubernetes is not None:
        cache = ClusterCache(kubernetes.api, parts.policy, parts.owner, clock=parts.clock)
        passage = Passage(kubernetes.credentials, parts.policy, clock=parts.clock)
        usage = Usage(kubernetes.inventory.sampler, parts.policy, parts.owner, clock=parts.clock)
    return Live(parts, statistics, cache, Feed(parts, cache, statistics, usage), passage, LocalCommands(parts), usage)


async def start(app: web.Application, parts: Parts) -> None:
    """Put it into the application, and begin to wait for listeners."""
    app[LIVE] = live = make(parts, app[STATISTICS])
    app.on_cleanup.append(_let_go)
    parts.owner.spawn("live", live.feed.run())


async def _let_go(app: web.Application) -> None:
    way = app[LIVE].way
    if way is not None:
        way.close()

"""Every endpoint of the surface, and what has to begin with it. A module that serves something is named here once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from towline.agent.surface import (
    commands,
    connectivity,
    dashboard,
    docker,
    events,
    features,
    figures,
    health,
    jobs,
    kubernetes,
    live,
    logs,
    proxy,
    runtime,
    signing_in,
    websocket,
)
from towline.agent.surface.endpoints import Endpoint
from towline.agent.surface.parts import Parts

Start = Callable[[web.Application, Parts], Awaitable[None]]
"""Puts what its module keeps into the application (by `web.AppKey`) and begins its work as tasks of `parts.owner`."""

ENDPOINTS: tuple[Endpoint, ...] = (
    *dashboard.ENDPOINTS,
    *health.ENDPOINTS,
    *features.ENDPOINTS,
    *runtime.ENDPOINTS,
    *connectivity.ENDPOINTS,
    *figures.ENDPOINTS,
    *signing_in.ENDPOINTS,
    *kubernetes.ENDPOINTS,
    *proxy.ENDPOINTS,
    *docker.ENDPOINTS,
    *jobs.ENDPOINTS,
    *events.ENDPOINTS,
    *logs.ENDPOINTS,
    *websocket.ENDPOINTS,
    *commands.ENDPOINTS,
)

STARTS: tuple[Start, ...] = (runtime.start, connectivity.start, live.start)

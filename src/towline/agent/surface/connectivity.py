"""`GET /api/status/connectivity`: everything that the agent connects to, tried now: names, TLS, latency, proxy.

What it finds are the checks of `towline agent doctor`, with figures beside them. One try runs at a time, and whoever
asks meanwhile or right after it gets the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from aiohttp import web

from towline.agent import doctor
from towline.agent.errors import AgentError, IdentityError
from towline.agent.surface import probes
from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.linkstate import Standing
from towline.agent.surface.parts import Parts
from towline.agent.surface.probes import Found
from towline.agent.surface.requests import parts_of

KEEP_SECONDS = 5.0
"""For which an answer is good: a page that asks each second must not knock at the control plane as often."""
TRY_SECONDS = 45.0
"""For everything; what has not answered then is told as unreachable."""


class Trials:
    """Tries everything, and keeps the last answer for a moment."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = asyncio.Lock()
        self._answer: dict[str, Any] | None = None
        self._made_at = 0.0

    def __repr__(self) -> str:
        return f"<Trials {'running' if self._lock.locked() else 'idle'}>"

    async def result(self) -> dict[str, Any]:
        """Return an answer that is at most KEEP_SECONDS old."""
        async with self._lock:
            now = self._parts.clock.monotonic()
            if self._answer is None or now - self._made_at > KEEP_SECONDS:
                self._answer = await self._try_all()
                self._made_at = self._parts.clock.monotonic()
            return self._answer

    async def _try_all(self) -> dict[str, Any]:
        parts = self._parts
        checks, plane, cluster, engine = await asyncio.gather(
            _checks(parts),
            _in_time(self._control_plane()),
            _in_time(probes.kubernetes(parts)),
            _in_time(probes.docker(parts)),
        )
        found = {"control_plane": plane, "kubernetes": cluster, "docker": engine}
        return {
            "timestamp": parts.clock.now().isoformat(timespec="milliseconds"),
            "connectivity": {name: each.shown() for name, each in found.items()},
            "well": all(each.is_well for each in found.values()),
            "checks": msgspec.to_builtins(checks),
        }

    async def _control_plane(self) -> Found:
        view = self._parts.link.view
        if view.standing is Standing.STANDALONE:
            return Found(configured=False, error="this agent runs standalone")
        try:
            urls, route = self._parts.store.current.server_urls, self._parts.route()
        except IdentityError as error:
            return Found(configured=bool(self._parts.settings.server or view.server), error=str(error))
        chosen = self._parts.counts.status().server or urls[0]
        return await probes.control_plane(chosen, route)


async def _checks(parts: Parts) -> list[doctor.Check]:
    try:
        async with asyncio.timeout(TRY_SECONDS):
            return await doctor.examine(parts.settings)
    except TimeoutError:
        return [doctor.Check(name="doctor", ok=False, text=f"it did not end within {TRY_SECONDS:g} seconds")]


async def _in_time(trial: Awaitable[Found]) -> Found:
    try:
        async with asyncio.timeout(TRY_SECONDS):
            return await trial
    except TimeoutError:
        return Found(error=f"no answer within {TRY_SECONDS:g} seconds")
    except AgentError as error:
        return Found(error=str(error))


TRIALS: web.AppKey[Trials] = web.AppKey("trials", Trials)


async def start(app: web.Application, parts: Parts) -> None:
    """Make what keeps the last answer."""
    app[TRIALS] = Trials(parts)


async def tell(request: web.Request) -> web.StreamResponse:
    """Try everything now."""
    # Shielded, so that a caller who goes away does not end the trial of the others.
    parts = parts_of(request)
    return answer(await asyncio.shield(parts.owner.spawn("connectivity", request.app[TRIALS].result())))


ENDPOINTS = (
    Endpoint(
        "GET", "/api/status/connectivity", tell, Right.READ,
        "Try control plane, Kubernetes and Docker now: reachable, latency, names, TLS, proxy; and what doctor finds.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/status/connectivity',
        fields=("timestamp", "connectivity", "well", "checks"),
    ),
)  # fmt: skip

"""Looking at a route from end to end, now: does its name lead here, its certificate, its agents, its targets.

Each answer is a light with a reason in words. Nothing is remembered, and nothing is changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from towline.aio.streams import StreamError
from towline.control.access.actor import Access
from towline.control.domains.names import WILDCARD
from towline.control.domains.resolver import Whereabouts
from towline.control.links.registry import Links
from towline.control.routes.models import PublishedRoute
from towline.control.routes.schemas import Light, RouteCheck
from towline.control.routes.service import RouteService, View
from towline.control.routes.states import RouteState
from towline.control.routes.targets import TargetInvalid, restored, shown
from towline.control.routes.words import TLS_OF_TARGET, ends_tls_itself
from towline.tunnel.errors import TargetRefused, TunnelClosed
from towline.wire.yamux_model import TooManyStreams

TARGET_TIMEOUT = 10.0
"""Seconds that an agent gets to reach a target: what opening a stream may take."""
CHECK_LABEL = "towline-check"
"""Stands for the `*` of a wildcard when its name is looked up."""

CertificateLight = Callable[[str], Awaitable[Light]]
"""Says what the certificate of a host name is like."""


class RouteChecks:
    """The lights of a route."""

    def __init__(
        self, routes: RouteService, links: Links, whereabouts: Whereabouts, certificate: CertificateLight
    ) -> None:
        self._routes = routes
        self._links = links
        self._whereabouts = whereabouts
        self.certificate = certificate
        """Replaced by whoever knows more about certificates."""

    async def check(self, access: Access, route: str) -> RouteCheck:
        """Look at a route. Raises: ApiError: route_not_found."""
        view = await self._routes.get(access, route)
        row = view.row
        host = CHECK_LABEL + row.host[1:] if row.host.startswith(WILDCARD) else row.host
        first: list[Awaitable[Light]] = [_state(row)]
        if host:
            first += [self.name(host), self._certificate(row, host)]
        targets = asyncio.gather(*(self._target(view, number) for number in range(len(row.targets))))
        found, reached = await asyncio.gather(asyncio.gather(*first), targets)
        lights = [*found, *(light for some in reached for light in some)]
        return RouteCheck(route=row.name, host=row.host, ok=all(one.state == "ok" for one in lights), lights=lights)

    async def _certificate(self, row: PublishedRoute, host: str) -> Light:
        return TLS_OF_TARGET if ends_tls_itself(row.options) else await self.certificate(host)

    async def name(self, host: str) -> Light:
        """Tell whether a name leads to this server."""
        began = time.perf_counter()
        here, words = await self._whereabouts.leads_here(host)
        return Light(name="name", state="ok" if here else "failed", reason=words, seconds=_since(began))

    async def _target(self, view: View, number: int) -> list[Light]:
        """Look at one target: is an agent there, and does it reach what it should."""
        one = view.row.targets[number]
        cluster = view.names.get(one["cluster_id"], one["cluster_id"])
        found = self._links.for_stream(one["cluster_id"])
        if found is None:
            away = f"no agent of {cluster} is connected; on the host, `towline agent doctor` says why"
            return [
                Light(name="agent", cluster=cluster, state="failed", reason=away),
                Light(name="target", cluster=cluster, state="unknown", reason="not reached"),
            ]
        agent = Light(
            name="agent", cluster=cluster, state="ok", reason=f"connected since {found.connected_at:%H:%M} UTC"
        )
        began = time.perf_counter()
        try:
            target = restored(one["target"])
            stream = await found.session.open_stream(target, timeout=TARGET_TIMEOUT)
        except (TargetRefused, TargetInvalid, TunnelClosed, TooManyStreams, StreamError, TimeoutError) as error:
            why = getattr(error, "reason", "") or str(error) or "no answer in time"
            return [agent, Light(name="target", cluster=cluster, state="failed", reason=why, seconds=_since(began))]
        stream.abort("checked")
        words = f"{shown(target)} accepts connections"
        return [agent, Light(name="target", cluster=cluster, state="ok", reason=words, seconds=_since(began))]


async def _state(row: PublishedRoute) -> Light:
    """Tell whether the route answers at all."""
    if not row.enabled:
        return Light(name="route", state="failed", reason="it is switched off")
    good = row.state == RouteState.ACTIVE
    return Light(name="route", state="ok" if good else "failed", reason=row.reason or row.state)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 4)

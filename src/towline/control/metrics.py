"""Figures for Prometheus: one registry per control plane, what is counted for every request, and what is read at
scrape time. Features add their own to `Metrics.registry`.
"""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from towline import __version__

REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All figures of one control plane."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        build = Gauge("towline_build_info", "Release that runs.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self.requests = Counter(
            "towline_api_requests",
            "API requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "towline_api_request_seconds",
            "Seconds until the answer began.",
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.logins = Counter("towline_logins", "Attempts to sign in.", ["result"], registry=self.registry)
        self.audit_events = Counter(
            "towline_audit_events", "Audit events by result.", ["result"], registry=self.registry
        )
        self.throttled = Counter("towline_throttled", "Requests refused by a rate limit.", registry=self.registry)
        self.streams_open = Gauge("towline_api_streams_open", "Streams of users that are open.", registry=self.registry)
        tasks = Gauge("towline_tasks", "Tasks of the event loop: what leaks shows here first.", registry=self.registry)
        tasks.set_function(_running_tasks)

    def __repr__(self) -> str:
        return "<Metrics>"

    def render(self) -> tuple[bytes, str]:
        """Return the text of a scrape and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def _running_tasks() -> float:
    try:
        return float(len(asyncio.all_tasks()))
    except RuntimeError:
        return 0.0  # rendered outside of a loop


class RequestMeter:
    """ASGI middleware that counts requests by the pattern of their route, never by their address."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.request_seconds.observe(time.perf_counter() - began)
                route = getattr(scope.get("route"), "path", "") or "none"
                self._metrics.requests.labels(scope["method"], route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted)

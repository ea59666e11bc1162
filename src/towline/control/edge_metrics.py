"""The edge's plain counters as Prometheus figures, read when they are scraped, and its access log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.logging import get_logger
from towline.gateway.counters import EdgeCounters
from towline.gateway.interfaces import AccessRecord, RouteKind
from towline.gateway.route_figures import BOUNDS, RouteFigure, RouteFigures

_log = get_logger("access")

PLAIN = {
    "connections": "Connections accepted.",
    "received_bytes": "Bytes of requests.",
    "sent_bytes": "Bytes of answers.",
    "handshake_failures": "TLS handshakes that failed.",
    "upgrades": "Connections upgraded.",
    "links": "Connections handed to agent links.",
    "clients_gone": "Clients that went before their answer was whole.",
    "upstream_connections": "Connections made to upstreams.",
    "upstream_reuses": "Requests on a kept upstream connection.",
    "upstream_failures": "Upstreams that failed.",
    "retries": "Requests sent once more on another connection.",
    "dropped_identities": "Requests with headers that only Towline may set.",
    "shed": "Slow readers cut off for want of memory.",
    "accept_pauses": "Pauses of accepting for want of file descriptors.",
}
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: logged only when they fail."""


class EdgeCollector(Collector):
    """Shows one edge's counters."""

    def __init__(self, counters: EdgeCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield GaugeMetricFamily("towline_edge_open_connections", "Open connections.", counters.open_connections)
        for name, about in PLAIN.items():
            yield CounterMetricFamily(f"towline_edge_{name}", about, getattr(counters, name))
        requests = CounterMetricFamily("towline_edge_requests", "Requests.", labels=["kind", "status"])
        for (kind, status), count in counters.requests.items():
            requests.add_metric([kind.value, f"{status}xx" if status else "none"], count)
        yield requests
        refused = CounterMetricFamily("towline_edge_refused", "Requests and connections refused.", labels=["reason"])
        for reason, count in counters.refused.items():
            refused.add_metric([reason], count)
        yield refused


class RouteTrafficCollector(Collector):
    """Shows what happened on each published route. The label `route` is bounded: the rest is `other`."""

    def __init__(self, figures: RouteFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("towline_route_requests", "Requests of a route.", labels=["route", "status"])
        received = CounterMetricFamily("towline_route_received_bytes", "Bytes of a route's requests.", labels=["route"])
        sent = CounterMetricFamily("towline_route_sent_bytes", "Bytes of a route's answers.", labels=["route"])
        running = GaugeMetricFamily(
            "towline_route_open_requests", "Requests and upgraded connections of a route now.", labels=["route"]
        )
        seconds = HistogramMetricFamily(
            "towline_route_seconds", "Seconds from a request's head to the end of its answer.", labels=["route"]
        )
        for figure in self._figures.all():
            for status, count in figure.statuses.items():
                requests.add_metric([figure.name, f"{status}xx" if status else "none"], count)
            received.add_metric([figure.name], figure.received_bytes)
            sent.add_metric([figure.name], figure.sent_bytes)
            running.add_metric([figure.name], figure.open)
            seconds.add_metric([figure.name], _buckets(figure), figure.seconds)
        yield from (requests, received, sent, running, seconds)


def _buckets(figure: RouteFigure) -> list[tuple[str, float]]:
    """Return the cumulative counts of a histogram, as Prometheus reads them."""
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, itertools.accumulate(figure.buckets), strict=True))


def log_request(record: AccessRecord) -> None:
    """Log one finished request. Of published services' good answers, those that a route's `sample` asks for."""
    is_good = record.status < 400 and not record.dropped_identity
    quiet = is_good and (record.path in QUIET_PATHS or record.kind is RouteKind.KUBERNETES)  # on record in the audit
    write = _log.debug if quiet else _log.info
    write(
        "request",
        request=record.request_id,
        address=record.peer.address,
        method=record.method,
        host=record.host,
        path=record.path,
        kind=record.kind.value,
        route=record.route,
        status=record.status,
        sent_bytes=record.sent_bytes,
        seconds=round(record.seconds, 4),
        outcome=record.outcome,
        **_remarks(record),
    )


def _remarks(record: AccessRecord) -> dict[str, str | bool]:
    """Return what is rarely there: the words of a target that failed, and the try to send an identity."""
    remarks: dict[str, str | bool] = {}
    if record.detail:
        remarks["detail"] = record.detail
    if record.dropped_identity:
        remarks["dropped_identity"] = True
    return remarks

"""Figures of routes for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from towline.control.routes.feature import Gateway

COUNTED = {
    "messages": "Messages of agents about what their sources claim.",
    "claims": "Claims in those messages.",
    "left_out": "Claims beyond what is kept of a cluster.",
    "dropped": "Batches of claims that could not be stored.",
    "changed": "Routes that were added, changed or removed because of claims.",
}


class RouteCollector(Collector):
    """Shows the table and the intake of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        registry, intake = self._gateway.registry, self._gateway.intake
        yield GaugeMetricFamily("towline_gateway_routes", "Routes that answer for their names.", len(registry.table))
        yield GaugeMetricFamily("towline_gateway_hosts", "Host names with a route.", len(registry.table.hosts()))
        counts: Counter[str] = intake.counts
        for name, about in COUNTED.items():
            yield CounterMetricFamily(f"towline_gateway_claims_{name}", about, counts[name])
        yield GaugeMetricFamily("towline_gateway_claims_waiting", "Claims that are not written yet.", intake.waiting)
        reads = CounterMetricFamily("towline_gateway_table_reads", "Reads of routes into the table.", labels=["of"])
        for kind, count in registry.reads.items():
            reads.add_metric([kind], count)
        yield reads

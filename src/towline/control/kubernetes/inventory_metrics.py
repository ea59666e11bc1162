"""Figures of the inventory of Kubernetes clusters for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.kubernetes.inventory_intake import InventoryIntake


class InventoryCollector(Collector):
    """Shows one intake's counters."""

    def __init__(self, intake: InventoryIntake) -> None:
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        counts = self._intake.counts
        yield CounterMetricFamily(
            "towline_kube_inventory_messages", "Messages about Kubernetes clusters.", counts["messages"]
        )
        yield CounterMetricFamily("towline_kube_inventory_entries", "Entries in those messages.", counts["entries"])
        yield CounterMetricFamily(
            "towline_kube_inventory_left_out", "Entries beyond what is kept of a cluster.", counts["left_out"]
        )
        yield CounterMetricFamily(
            "towline_kube_inventory_dropped", "Batches that could not be stored.", counts["dropped"]
        )
        yield GaugeMetricFamily(
            "towline_kube_inventory_waiting", "Entries that are not written yet.", self._intake.waiting
        )

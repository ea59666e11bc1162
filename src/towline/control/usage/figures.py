"""Figures of the history of usage for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.usage.intake import UsageIntake


class UsageCollector(Collector):
    """Shows one intake's counters."""

    def __init__(self, intake: UsageIntake) -> None:
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        counts = self._intake.counts
        yield CounterMetricFamily("towline_usage_messages", "Messages of samples of usage.", counts["messages"])
        yield CounterMetricFamily(
            "towline_usage_broken", "Messages that one before was missing of; all is told again.", counts["broken"]
        )
        yield CounterMetricFamily("towline_usage_blocks", "Blocks of a minute written.", counts["blocks"])
        yield CounterMetricFamily("towline_usage_bytes", "Bytes of those blocks, packed.", counts["bytes"])
        yield CounterMetricFamily(
            "towline_usage_dropped", "Minutes of clusters that were never written.", counts["dropped"]
        )
        yield GaugeMetricFamily(
            "towline_usage_series", "Nodes, namespaces and pods that are told at present.", self._intake.series
        )
        yield GaugeMetricFamily(
            "towline_usage_waiting", "Minutes of clusters that wait to be written.", self._intake.waiting
        )

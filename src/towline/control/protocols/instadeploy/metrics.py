"""Figures of InstaDeploy's agents for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.links.registry import Links
from towline.control.protocols.instadeploy.session import InstaDeploySession


class InstaDeployCollector(Collector):
    """Shows what their sessions and their door counted. Args: refused: upgrades by the status they got."""

    def __init__(self, links: Links, refused: Mapping[int, int], strange: Counter[str]) -> None:
        self._links = links
        self._refused = refused
        self._strange = strange

    def collect(self) -> Iterator[Metric]:
        up = sum(isinstance(one.session, InstaDeploySession) for one in self._links)
        yield GaugeMetricFamily("towline_instadeploy_agents", "InstaDeploy agents with a session here.", up)
        refused = CounterMetricFamily(
            "towline_instadeploy_upgrades_refused", "Upgrades refused, by the status of the answer.", labels=["status"]
        )
        for status, count in self._refused.items():
            refused.add_metric([str(status)], count)
        yield refused
        strange = CounterMetricFamily(
            "towline_instadeploy_messages_ignored",
            "Messages of ended sessions that were none, or answered nothing, by why.",
            labels=["reason"],
        )
        for reason, count in self._strange.items():
            strange.add_metric([reason], count)
        yield strange

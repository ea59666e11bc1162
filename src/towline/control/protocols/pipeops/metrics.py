"""Figures of PipeOps agents on their WebSocket for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.protocols.pipeops.session import PipeOpsSession

EVENTS: Final = (
    "admitted", "not_admitted", "told_to_register", "message_refused", "message_ignored", "stray_answer",
    "yamux_began", "yamux_died",
)  # fmt: skip
"""What is counted, all from the start: what an agent calls its messages is no label, or it could make any number."""


class PipeOpsCollector(Collector):
    """Shows what connections counted, and what sessions are. Args: refused: upgrades by the status they got."""

    def __init__(self, sessions: Mapping[str, PipeOpsSession], tally: Counter[str], refused: Mapping[int, int]) -> None:
        self._sessions = sessions
        self._tally = tally
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        events = CounterMetricFamily(
            "towline_pipeops_events", f"What happened with PipeOps agents: {', '.join(EVENTS)}.", labels=["event"]
        )
        for event in EVENTS:
            events.add_metric([event], self._tally[event])
        yield events
        refused = CounterMetricFamily(
            "towline_pipeops_upgrades_refused", "Upgrades refused, by the status of the answer.", labels=["status"]
        )
        for status, count in self._refused.items():
            refused.add_metric([str(status)], count)
        yield refused

    def _gauges(self) -> Iterator[Metric]:
        sessions = list(self._sessions.values())
        yield GaugeMetricFamily("towline_pipeops_agents", "PipeOps agents with a session here.", len(sessions))
        yield GaugeMetricFamily(
            "towline_pipeops_connections",
            "Open WebSockets of PipeOps agents, of those too that were not let in yet.",
            self._tally["opened"] - self._tally["closed"],
        )
        yield GaugeMetricFamily(
            "towline_pipeops_yamux",
            "PipeOps agents whose streams go over yamux.",
            sum(one.connection.mux is not None for one in sessions),
        )
        yield GaugeMetricFamily(
            "towline_pipeops_streams_open",
            "Streams that are open at PipeOps agents.",
            sum(one.stream_count for one in sessions),
        )
        yield GaugeMetricFamily(
            "towline_pipeops_requests_waiting",
            "Requests to PipeOps agents that wait for their answers.",
            sum(len(one.connection.requests) for one in sessions),
        )

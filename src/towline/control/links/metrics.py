"""Figures of links, agents and jobs for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from towline.control.agents import refusals

if TYPE_CHECKING:
    from towline.control.fleet import Fleet

MOST_LINKS = 1000
"""Links with figures of their own; beyond that the sums must do, or a scrape would be megabytes."""


class FleetCollector(Collector):
    """Shows one fleet's counters."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        links = fleet.links
        yield GaugeMetricFamily("towline_links_up", "Agents with a link to this process.", len(links))
        yield CounterMetricFamily("towline_links_begun", "Links that came up.", links.begun)
        yield _counts("towline_links_ended", "Links that ended, by who ended them.", "by", links.ended)
        yield _counts("towline_agents_refused", "Agents turned away, by reason.", "reason", refusals.counts)
        yield _counts("towline_link_upgrades_refused", "Upgrades refused, by reason.", "reason", fleet.acceptor.refused)
        yield GaugeMetricFamily(
            "towline_link_strangers", "Connections that have not proved who they are.", fleet.acceptor.stranger_count
        )
        yield from self._each_link()
        yield from self._jobs()

    def _each_link(self) -> Iterator[Metric]:
        times = GaugeMetricFamily("towline_link_round_trip_seconds", "Median round trip.", labels=["cluster"])
        offsets = GaugeMetricFamily(
            "towline_link_clock_offset_seconds", "Agent's clock minus ours.", labels=["cluster"]
        )
        reconnects = GaugeMetricFamily(
            "towline_link_reconnects", "Reconnects of the agent's process.", labels=["cluster"]
        )
        streams = GaugeMetricFamily("towline_link_streams_open", "Streams in the link's tunnel.", labels=["cluster"])
        for _, one in zip(range(MOST_LINKS), self._fleet.links, strict=False):
            name = [one.admitted.cluster_name]
            found = one.rtt_ms()
            if found is not None:
                times.add_metric(name, found["median"] / 1000)
            offsets.add_metric(name, one.clock_offset)
            reconnects.add_metric(name, one.reconnects)
            streams.add_metric(name, one.session.stream_count)
        yield from (times, offsets, reconnects, streams)

    def _jobs(self) -> Iterator[Metric]:
        jobs, intake = self._fleet.jobs, self._fleet.intake
        ended = CounterMetricFamily("towline_jobs_ended", "Jobs that ended.", labels=["kind", "state"])
        for (kind, state), count in jobs.ended.items():
            ended.add_metric([kind, state], count)
        yield ended
        waiting = GaugeMetricFamily("towline_jobs", "Jobs that have not ended, by state.", labels=["state"])
        for state, count in self._fleet.dispatcher.depths.items():
            waiting.add_metric([state], count)
        yield waiting
        yield _counts(
            "towline_job_messages_ignored", "Messages about jobs that are not the sender's.", "reason", intake.ignored
        )


def _counts(name: str, about: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family

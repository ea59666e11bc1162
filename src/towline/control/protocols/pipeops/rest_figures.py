"""Figures of PipeOps REST agents for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class Figures:
    """Counts of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sessions = Gauge(
            "towline_pipeops_rest_sessions", "PipeOps REST agents that beat at this process.", registry=registry
        )
        self.commands = Counter(
            "towline_pipeops_rest_commands",
            "What happened to commands of PipeOps REST agents: handed_out, result_taken, result_repeated, lease_again, "
            "lease_lost, not_fetched.",
            ["event"],
            registry=registry,
        )
        self.statuses = Counter(
            "towline_pipeops_rest_statuses",
            "Statuses of PipeOps REST agents: changed, unchanged, bad.",
            ["result"],
            registry=registry,
        )

    def watch(self, sessions: Callable[[], int]) -> None:
        """Read the number of sessions at each scrape."""
        self.sessions.set_function(sessions)

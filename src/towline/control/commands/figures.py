"""Figures of commands for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Figures:
    """Registered once per control plane."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = Counter("towline_command_runs", "Runs that ended, by how.", ["state"], registry=registry)
        self.commands = Counter(
            "towline_commands", "Commands that ended on a target, by program and how.", ["program", "state"],
            registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "towline_commands_refused", "Commands that did not go to a target, by why.", ["why"], registry=registry
        )
        self.open = Gauge("towline_command_runs_open", "Runs that have not ended.", registry=registry)

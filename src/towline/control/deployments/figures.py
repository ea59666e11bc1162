"""Figures of deployments for Prometheus. Counted where things happen, read at scrape time; no rules here."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.control.deployments.states import State


class Figures:
    """What is counted about deployments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deploys = Counter(
            "towline_deploys",
            "Deploys that ended, by what asked for them and how they ended.",
            ["action", "outcome"],
            registry=registry,
        )
        self._rolled_back = Counter(
            "towline_deploys_rolled_back",
            "Failed deploys after which the last good revision was put back.",
            registry=registry,
        )
        self._states = Gauge("towline_deployments", "Deployments by state.", ["state"], registry=registry)

    def __repr__(self) -> str:
        return "<Figures of deployments>"

    def deploy_ended(self, action: str, outcome: str, *, rolled_back: bool) -> None:
        """Count the end of a deploy."""
        self._deploys.labels(action, outcome).inc()
        if rolled_back:
            self._rolled_back.inc()

    def states(self, counts: Mapping[str, int]) -> None:
        """Say how many deployments are in each state."""
        for state in State:
            self._states.labels(state.value).set(counts.get(state.value, 0))

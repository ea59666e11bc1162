"""Figures of alerts for Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.control.alerts.catalogue import RuleName


class Figures:
    """Registered once per control plane; gauges are set at each look."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.firing = Gauge("towline_alerts_firing", "Alerts that fire, by rule.", ["rule"], registry=registry)
        self.changes = Counter(
            "towline_alert_changes", "Alerts that began to fire, and that ended, by rule.", ["rule", "what"],
            registry=registry,
        )  # fmt: skip
        self.messages = Counter(
            "towline_alert_messages", "Tries to send a message, by kind of channel and result.", ["kind", "result"],
            registry=registry,
        )  # fmt: skip
        self.waiting = Gauge("towline_alert_messages_waiting", "Messages that are not sent yet.", registry=registry)
        self.looks = Counter(
            "towline_alert_looks", "Looks for what is not well, by reach.", ["reach"], registry=registry
        )

    def show(self, rules: Iterable[str]) -> None:
        """Set how many alerts of each rule fire. Args: rules: one entry for each alert."""
        counts = Tally(rules)
        for rule in RuleName:
            self.firing.labels(rule).set(counts[rule])

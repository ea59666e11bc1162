"""Figures of certificates: what was asked for, and what will end when."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from towline.gateway.certificates import Certificates


class Figures:
    """Registered once per control plane; `towline_certificates` is set at each look at the rows."""

    def __init__(self, registry: CollectorRegistry, certificates: Certificates) -> None:
        self.orders = Counter(
            "towline_certificate_tries",
            "Tries to have a certificate, by how they ended: issued, blocked before asking, or failed.",
            ["result"],
            registry=registry,
        )
        self.certificates = Gauge(
            "towline_certificates", "Names that need a certificate, by source and state.", ["source", "state"],
            registry=registry,
        )  # fmt: skip
        self.ending = Gauge(
            "towline_certificates_ending",
            "Certificates in use past three quarters of their life: their renewal fails.",
            registry=registry,
        )
        self.soonest = Gauge(
            "towline_certificate_soonest_end_seconds",
            "Seconds until the first certificate in use ends; negative once it has.",
            registry=registry,
        )
        served = Gauge("towline_certificates_served", "Names that have a certificate.", registry=registry)
        served.set_function(lambda: float(len(certificates)))
        refused = Gauge(
            "towline_tls_unknown_names", "Handshakes ended because nothing is served under the name.", registry=registry
        )
        refused.set_function(lambda: float(certificates.refused["unknown_name"]))

    def __repr__(self) -> str:
        return "<Figures of certificates>"

    def show(self, states: dict[tuple[str, str], int]) -> None:
        """Set how many names are in which state; states that nobody is in any more are set to nothing."""
        self.certificates.clear()
        for (source, state), count in states.items():
            self.certificates.labels(source, state).set(count)

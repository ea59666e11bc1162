"""Wiring of Kubernetes access: one per control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.kubernetes.audit import Records
from towline.control.kubernetes.connectors import Connectors
from towline.control.kubernetes.figures import Figures
from towline.control.kubernetes.gate import Gate
from towline.control.kubernetes.live import Visits
from towline.control.kubernetes.places import Places
from towline.control.kubernetes.tokens import Bearers

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


class KubernetesAccess:
    """The gate, and what it remembers. A feature of the control plane."""

    def __init__(self, control: ControlPlane) -> None:
        settings, clock = control.settings, control.clock
        figures = Figures(control.metrics.registry)
        self.places = Places(control.db, clock)
        self.bearers = Bearers(control.access, clock)
        self.records = Records(control.db, control.audit, clock, reads=settings.kubernetes_audit_reads)
        self.visits = Visits(control, self.places, self.bearers, self.records, figures)
        self.connectors = Connectors(control.fleet.links)
        self.gate = Gate(settings, self.bearers, self.places, self.visits, self.records, self.connectors, figures)

    def __repr__(self) -> str:
        return f"<KubernetesAccess {self.visits!r}>"

    async def start(self) -> None:
        """Begin to record and to look at rights."""
        self.records.start()
        self.visits.start()

    async def stop(self) -> None:
        """Write what is left."""
        await self.visits.stop()
        await self.records.stop()

"""Wiring of Kubernetes access: one per control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from towline.control.access.actor import Access
from towline.control.clusters.models import Cluster
from towline.control.kubernetes.audit import Records
from towline.control.kubernetes.connectors import Connectors
from towline.control.kubernetes.figures import Figures
from towline.control.kubernetes.gate import Gate
from towline.control.kubernetes.grants import DISCOVERY, judge
from towline.control.kubernetes.live import Visits
from towline.control.kubernetes.places import Places
from towline.control.kubernetes.talking import Talker
from towline.control.kubernetes.tokens import Bearers

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


class KubernetesAccess:
    """The gate, and what it remembers. A feature of the control plane."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        settings, clock = control.settings, control.clock
        figures = Figures(control.metrics.registry)
        self.places = Places(control.db, clock)
        self.bearers = Bearers(control.access, clock)
        self.records = Records(control.db, control.audit, clock, reads=settings.kubernetes_audit_reads)
        self.visits = Visits(control, self.places, self.bearers, self.records, figures)
        self.connectors = Connectors(control.fleet.links)
        self.gate = Gate(
            settings, self.bearers, self.places, self.visits, self.records, control.recordings, self.connectors,
            figures, lambda: control.addresses().origin,
        )  # fmt: skip
        self.talker = Talker(self.gate)

    def __repr__(self) -> str:
        return f"<KubernetesAccess {self.visits!r}>"

    async def served(self, access: Access) -> list[str]:
        """Return the names of all clusters that the actor has any right to and that serve Kubernetes."""
        async with self._control.db.read() as tx:
            query = select(Cluster).where(Cluster.org_id == access.org_id).order_by(Cluster.name)
            rows = [row for row in (await tx.scalars(query)).all() if _serves(row)]
            places = await self.places.by_id(tx, [row.id for row in rows])
        return [row.name for row in rows if judge(access.rights, places[row.id], DISCOVERY).visible]

    async def start(self) -> None:
        """Begin to record and to look at rights."""
        self.records.start()
        self.visits.start()

    async def stop(self) -> None:
        """Write what is left."""
        await self.visits.stop()
        await self.records.stop()


def _serves(row: Cluster) -> bool:
    return any(one.get("name") == "kubernetes" for one in row.capabilities if isinstance(one, dict))

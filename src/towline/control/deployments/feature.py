"""The services of deployments wired together, and their background work. No rules live here."""

from __future__ import annotations

from towline.aio.clock import Clock
from towline.control.audit.service import AuditLog
from towline.control.bundles.service import BundleService
from towline.control.bus import Bus
from towline.control.db import Database
from towline.control.deployments.comparisons import Comparisons
from towline.control.deployments.figures import Figures
from towline.control.deployments.interfaces import Fleet, Queue
from towline.control.deployments.revisions import RevisionService
from towline.control.deployments.service import DeploymentService
from towline.control.deployments.upkeep import Upkeep
from towline.control.deployments.validation import Validation
from towline.control.deployments.vault import Vault
from towline.control.registries.service import RegistryService


class Deployments:
    """What `ControlPlane` holds."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        audit: AuditLog,
        fleet: Fleet,
        queue: Queue,
        vault: Vault,
        registries: RegistryService,
        bundles: BundleService,
        figures: Figures,
        *,
        clock: Clock,
        keep_bundle_days: float,
    ) -> None:
        self.vault = vault
        self.service = DeploymentService(db, fleet, queue, vault, audit)
        self.comparisons = Comparisons(db, fleet, vault, bundles)
        self.revisions = RevisionService(db, fleet, queue, vault, self.comparisons, registries, bundles, audit)
        self.validation = Validation(db, fleet, queue, vault, self.revisions)
        self.upkeep = Upkeep(
            db, bus, fleet, queue, bundles, audit, figures, clock=clock, keep_bundle_days=keep_bundle_days
        )

    def __repr__(self) -> str:
        return f"<Deployments {self.upkeep!r}>"

    async def start(self) -> None:
        """Begin the background work."""
        await self.upkeep.start()

    async def stop(self) -> None:
        """End the background work."""
        await self.upkeep.stop()

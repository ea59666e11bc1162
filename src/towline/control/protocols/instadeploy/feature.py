"""Wiring of InstaDeploy's side: the door of its agents, imports. No rules live here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.deployments.vault import Vault
from towline.control.protocols.admission import Compat
from towline.control.protocols.instadeploy.entrance import Entrance
from towline.control.protocols.instadeploy.importing import Importing
from towline.control.protocols.instadeploy.metrics import InstaDeployCollector
from towline.control.protocols.instadeploy.shelf import Rows
from towline.control.protocols.tokens import CompatTokens
from towline.control.protocols.upgrade import UpgradeDoor
from towline.wire import instadeploy

if TYPE_CHECKING:
    from towline.control.app import ControlPlane
    from towline.control.protocols.instadeploy.place import Place


class InstaDeploy:
    """What of InstaDeploy one process serves."""

    def __init__(self, control: ControlPlane, compat: Compat, tokens: CompatTokens, owner: TaskOwner) -> None:
        vault = Vault(control.sealer)
        shelf = Rows(control.db, vault, control.fleet.jobs)
        self.entrance = Entrance(compat, control.fleet.links, shelf, owner, control.clock)
        self.place: Place | None = None
        """The listener of its own, set by whoever starts the server where the settings want one."""
        self._door = self.entrance.door()
        refused, strange = self._door.refused, self.entrance.strange
        control.metrics.registry.register(InstaDeployCollector(control.fleet.links, refused, strange))
        self.importing = Importing(control.db, control.audit, compat, tokens, vault)

    def __repr__(self) -> str:
        return "<InstaDeploy>"

    def doors(self) -> dict[bytes, UpgradeDoor]:
        """Return who takes the upgrades of its agents, by path."""
        return {path.encode(): self._door for path in instadeploy.PATHS}

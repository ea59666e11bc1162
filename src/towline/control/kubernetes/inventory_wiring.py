"""Puts the inventory of Kubernetes clusters into the control plane: its intake, its figures, and what is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.db import Transaction
from towline.control.kubernetes import inventory_repository as repository
from towline.control.kubernetes.inventory_intake import InventoryIntake
from towline.control.kubernetes.inventory_metrics import InventoryCollector
from towline.control.retention import DAY

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


def intake_of(control: ControlPlane) -> InventoryIntake:
    """Make the intake. The fleet is there already; retention has not begun."""
    intake = InventoryIntake(control.db, control.fleet.links, control.fleet.reports, clock=control.clock)
    control.metrics.registry.register(InventoryCollector(intake))

    async def old(tx: Transaction) -> int:
        return await repository.forget_silent(tx, control.settings.keep_inventory_days * DAY)

    control.retention.custom.append(("kubernetes_inventories", old))
    return intake

"""Puts the history of usage into the control plane: its intake, its reader, its figures, and what is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.db import Transaction
from towline.control.usage import rollup
from towline.control.usage.figures import UsageCollector
from towline.control.usage.history import UsageHistory
from towline.control.usage.intake import UsageIntake

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


class UsageFeature:
    """Everything about usage. The fleet is there already; retention has not begun."""

    def __init__(self, control: ControlPlane) -> None:
        self.intake = UsageIntake(control.db, control.fleet.links, clock=control.clock)
        self.history = UsageHistory(control.db, control.kube_inventory, clock=control.clock)
        control.metrics.registry.register(UsageCollector(self.intake))

        async def old(tx: Transaction) -> int:
            return await rollup.forget(tx, control.clock.now().timestamp())

        control.retention.custom.append(("usage", old))

    def __repr__(self) -> str:
        return f"<UsageFeature {self.intake!r}>"

    async def start(self) -> None:
        await self.intake.start()

    async def stop(self) -> None:
        await self.intake.stop()

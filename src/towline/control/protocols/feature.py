"""Wiring of everything about agents of older systems. No rules live here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.access.throttle import per_minute
from towline.control.protocols.admission import Compat
from towline.control.protocols.instadeploy.feature import InstaDeploy
from towline.control.protocols.lookups import Lookups
from towline.control.protocols.pipeops.rest_agents import RestAgents
from towline.control.protocols.pipeops.websocket import PipeOpsAgents
from towline.control.protocols.standins import MakesStandIns
from towline.control.protocols.tokens import CompatTokens
from towline.control.protocols.upgrade import UpgradeDoor

if TYPE_CHECKING:
    from towline.control.app import ControlPlane


class Protocols:
    """The adapters of this process.

    `doors` holds who takes WebSocket upgrades, by path; an adapter adds its own.
    """

    def __init__(self, control: ControlPlane) -> None:
        fleet = control.fleet
        self.tasks = TaskOwner("protocols")
        self.tokens = CompatTokens(control.db, control.audit)
        self.admission = Compat(
            control.db,
            control.audit,
            fleet.links,
            fleet.reports,
            Lookups(control.db, self.tasks),
            per_minute(control.clock, control.settings.enrol_per_address),
            tasks=self.tasks,
            owner=fleet.replica,
            clock=control.clock,
        )
        self.doors: dict[bytes, UpgradeDoor] = {}
        self.stand_ins: MakesStandIns | None = None
        """Set by whoever starts the server."""
        self.pipeops = PipeOpsAgents(control, self.admission, lambda: self.stand_ins, self.tasks)
        self.rest_agents = RestAgents(control, self.admission, self.tasks)
        self.instadeploy = InstaDeploy(control, self.admission, self.tokens, self.tasks)
        self.doors.update(self.pipeops.doors)
        self.doors.update(self.instadeploy.doors())

    def __repr__(self) -> str:
        return f"<Protocols {sorted(self.doors)}>"

    async def start(self) -> None:
        """Begin to notice which agents fell silent; they come by themselves."""
        await self.rest_agents.start()
        self.pipeops.start()

    async def stop(self) -> None:
        """Take no new agents; sessions are sent away by the registry."""
        for door in self.doors.values():
            door.draining = True
        await self.tasks.close()

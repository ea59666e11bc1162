"""Wiring of PipeOps agents on their WebSocket. No rules live here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from towline.aio.tasks import TaskOwner
from towline.control.bus import RESYNC
from towline.control.protocols.admission import Compat
from towline.control.protocols.pipeops.metrics import PipeOpsCollector
from towline.control.protocols.pipeops.office import Office
from towline.control.protocols.pipeops.registered import TOPIC, RegisteredTokens
from towline.control.protocols.pipeops.routes import Routes
from towline.control.protocols.standins import MakesStandIns
from towline.control.protocols.upgrade import UpgradeDoor
from towline.wire.pipeops import WEBSOCKET_PATH

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

JOURNALS = "older-agents"
"""Folder of the jobs that are done for PipeOps agents, in the data folder."""


class PipeOpsAgents:
    """The adapter. `doors` are its paths."""

    def __init__(
        self,
        control: ControlPlane,
        compat: Compat,
        stand_ins: Callable[[], MakesStandIns | None],
        tasks: TaskOwner,
    ) -> None:
        self._bus = control.bus
        self._tasks = tasks
        self.tokens = RegisteredTokens(
            control.db, compat.lookups, control.sealer, control.audit, control.fleet.clusters
        )
        self.office = Office(
            compat,
            control.db,
            self.tokens,
            stand_ins,
            control.settings.data_folder / JOURNALS,
            owner=tasks,
            clock=control.clock,
        )
        self.routes = Routes(compat, control.db, self.office, clock=control.clock)
        door = UpgradeDoor(self.office.enter, owner=tasks, make_channel=self.office.make_channel, clock=control.clock)
        self.doors = {WEBSOCKET_PATH.encode(): door}
        collector = PipeOpsCollector(self.office.sessions, self.office.tally, door.refused)
        control.metrics.registry.register(collector)

    def __repr__(self) -> str:
        return f"<PipeOpsAgents {self.office!r}>"

    def start(self) -> None:
        """Begin to hear of switches that were turned, here or by another process."""
        self._tasks.spawn("PipeOps switches", self._follow())

    async def _follow(self) -> None:
        async with self._bus.subscribe(TOPIC, RESYNC) as events:
            async for event in events:
                self.office.changed(event.ids.get("cluster_id", ""))

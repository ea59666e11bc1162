"""Cuts links whose agent may not have one any more: at once on a hint, and after ten seconds without any.

The row decides. A dead bus costs no more than the interval.
"""

from __future__ import annotations

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.agents import repository
from towline.control.agents.admission import refusal_by_state
from towline.control.agents.states import AgentState
from towline.control.agents.trust import TrustKeeper
from towline.control.bus import Bus
from towline.control.clusters import repository as clusters
from towline.control.clusters.reports import Reports
from towline.control.db import Database
from towline.control.errors import ApiError
from towline.control.links.registry import Link, Links
from towline.control.logging import get_logger
from towline.tunnel.errors import TunnelClosed
from towline.wire import link

_log = get_logger("links")

RECHECK_INTERVAL = 10.0
"""Seconds between two looks at the rows of all agents with a link. Source: design.md, "Streams"."""
BATCH = 500


class Revocations:
    """Keeps the links of this process within what the rows allow."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        links: Links,
        reports: Reports,
        trust: TrustKeeper,
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._bus = bus
        self._links = links
        self._reports = reports
        self._trust = trust
        self._clock = clock
        self._tasks = TaskOwner("revocations")

    async def start(self) -> None:
        self._trust.on_change = self.tell_trust
        self._tasks.spawn("hints", self._follow_hints())
        self._tasks.spawn("recheck", self._recheck_for_ever())

    async def stop(self) -> None:
        await self._tasks.close()

    async def _follow_hints(self) -> None:
        async with self._bus.subscribe("agent") as events:
            async for event in events:
                await self.recheck([event.ids["id"]] if "id" in event.ids else None)
                await self._judge(event.ids.get("cluster_id", ""))
                if event.ids.get("change") == "rotate_key":
                    await self._ask_for_key(event.ids["id"])

    async def _recheck_for_ever(self) -> None:
        while True:
            await self._clock.sleep(RECHECK_INTERVAL)
            await self.recheck()
            try:
                await self._trust.refresh()
            except ApiError as error:
                _log.warning("trust not looked at", why=error.message)

    def tell_trust(self, trust: link.Trust) -> None:
        """Send agents new addresses and anchors in-band, before anything is switched."""
        self._tasks.spawn("tell trust", self._tell(trust))

    async def _tell(self, trust: link.Trust) -> None:
        for one in self._links:
            try:
                await one.session.send(trust)
            except TunnelClosed:
                continue  # it gets it with its next welcome

    async def recheck(self, agent_ids: list[str] | None = None) -> None:
        """Look at the rows of agents, of all that have a link by default."""
        held = list(dict.fromkeys(one.agent_id for one in self._links)) if agent_ids is None else agent_ids
        for at in range(0, len(held), BATCH):
            try:
                async with self._db.read() as tx:
                    rows = await repository.standings(tx, held[at : at + BATCH])
            except ApiError as error:
                _log.warning("links not checked", why=error.message)
                return
            for agent_id in held[at : at + BATCH]:
                for one in self._links.all_of_agent(agent_id):
                    self._apply(one, rows.get(agent_id))

    async def _judge(self, cluster_id: str) -> None:
        """The health of a cluster depends on the state of its agent."""
        if cluster_id:
            async with self._db.read() as tx:
                row = (await clusters.by_id(tx, [cluster_id])).get(cluster_id)
            if row is not None:
                self._reports.judge_again(row.id, row.org_id)

    def _apply(self, one: Link, standing: tuple[str, str, int] | None) -> None:
        state, reason, epoch = standing or (AgentState.REMOVED, "", one.epoch)
        refusal = refusal_by_state(state, reason)
        if refusal is not None:
            self._links.cut(one.agent_id, refusal)
        elif epoch > one.epoch and not one.slot:  # the newer one of a named instance may be a sibling's
            self._links.supersede(one)
        elif state == AgentState.ACTIVE:
            self._links.approve(one.agent_id)

    async def _ask_for_key(self, agent_id: str) -> None:
        one = self._links.of_agent(agent_id)
        if one is None:
            return
        try:
            await one.session.send(link.RotateKey())
        except TunnelClosed:
            _log.info("agent left before it was asked for a new key", agent=agent_id)

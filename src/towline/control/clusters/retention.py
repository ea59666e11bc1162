"""What of agents, inventories and jobs is removed when it is old. The loop is `control.retention`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, or_, select

from towline.control.agents.models import Agent, JoinToken
from towline.control.agents.states import AgentState
from towline.control.clusters.models import Cluster, InventoryContainer, InventoryProject
from towline.control.db import Transaction, now
from towline.control.jobs import repository as jobs
from towline.control.retention import BITE, DAY, Rule

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

KEEP_REMOVED_DAYS = 365
"""Days that a removed agent is still told to stop when it comes back."""


def install(control: ControlPlane) -> None:
    """Add the rules of this part to the loop."""
    settings = control.settings
    tokens = settings.keep_token_days * DAY
    old_token = or_(JoinToken.expires_at < now(-tokens), and_(JoinToken.revoked, JoinToken.created_at < now(-tokens)))
    control.retention.rules += [
        Rule("join_tokens", JoinToken.id, lambda: old_token),
        Rule(
            "removed_agents",
            Agent.id,
            lambda: and_(Agent.state == AgentState.REMOVED, Agent.state_since < now(-KEEP_REMOVED_DAYS * DAY)),
        ),
    ]

    async def old_jobs(tx: Transaction) -> int:
        return await jobs.forget(tx, await tx.now() - timedelta(days=settings.keep_job_days), BITE)

    async def old_inventories(tx: Transaction) -> int:
        return await _forget_inventories(tx, settings.keep_inventory_days * DAY)

    control.retention.custom += [("jobs", old_jobs), ("inventories", old_inventories)]


async def _forget_inventories(tx: Transaction, seconds: float) -> int:
    """Remove what ran on hosts that have been away for so long that it says nothing any more."""
    silent = select(Cluster.id).where(Cluster.connected.is_(False), Cluster.last_seen_at < now(-seconds))
    removed = 0
    for table in (InventoryContainer, InventoryProject):
        gone = delete(table).where(table.cluster_id.in_(silent)).returning(table.cluster_id)
        removed += len((await tx.execute(gone.execution_options(synchronize_session=False))).all())
    return removed

"""What administrators do with agents: approve, re-admit, revoke, renew the key; and agents' own change of keys.

Cutting a live link is a hint on the bus (`agent` with `change`); the owner of the link acts on it, and looks at the
row every ten seconds besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Permission, Resource
from towline.control.agents import keys, repository
from towline.control.agents.models import Agent, AgentKey
from towline.control.agents.states import CONNECTABLE, AgentState, before
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.db import Database, Transaction, now
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import is_id, new_id
from towline.wire import link

MOST_KEYS = 2
"""Slots: the key in use and its successor."""


class BadRotation(Exception):
    """An agent's change of keys that does not hold; the message goes to the agent."""


class Agents:
    """Rules of agents once they are enrolled."""

    def __init__(self, db: Database, audit: AuditLog) -> None:
        self._db = db
        self._audit = audit

    async def approve(self, access: Access, cluster: str, agent_id: str) -> Agent:
        """Let a pending agent work. Raises: ApiError: agent_not_found, conflict."""
        return await self._change(access, cluster, agent_id, AgentState.ACTIVE, "approve", {AgentState.PENDING}, {})

    async def readmit(self, access: Access, cluster: str, agent_id: str) -> Agent:
        """End a quarantine: the next instance that connects is the right one. The host need not be touched."""
        values = {"resync": True, "takeovers": [], "rivals": []}
        return await self._change(access, cluster, agent_id, AgentState.ACTIVE, "readmit", {AgentState.SUSPECT}, values)

    async def revoke(self, access: Access, cluster: str, agent_id: str) -> Agent:
        """End an agent for good; it stops by itself. Raises: ApiError: agent_not_found, conflict."""
        states = before(AgentState.REVOKED)
        return await self._change(access, cluster, agent_id, AgentState.REVOKED, "revoke", states, {})

    async def rotate_key(self, access: Access, cluster: str, agent_id: str) -> Agent:
        """Ask an agent for a new key; asked at once when it is connected, else when it comes back."""
        async with self._db.begin() as tx:
            row = await self._manageable(tx, access, cluster, agent_id)
            if row.state not in CONNECTABLE:
                raise ApiError(ErrorCode.CONFLICT, f"the agent is {row.state}")
            await tx.execute(update(Agent).where(Agent.id == row.id).values(rotate_requested_at=now()))
            await self._record(tx, access.actor, row, "rotate_key")
            _publish(tx, row, "rotate_key")
        return row

    async def rotated(self, agent_id: str, epoch: int, current_key_id: str, message: link.KeyRotation) -> str:
        """Register the new key of a connected agent. Returns its id. Raises: BadRotation."""
        async with self._db.begin() as tx:
            row = (await repository.agents_by_id(tx, [agent_id])).get(agent_id)
            known = (await repository.keys_of(tx, [agent_id]))[agent_id]
            current = next((key for key in known if key.id == current_key_id), None)
            if row is None or current is None or not _is_newest(row, epoch):
                raise BadRotation("the link is not the newest one of this agent")
            public_key = _proven(message, agent_id, epoch, current)
            same = next((key for key in known if key.public_key == public_key), None)
            if same is not None:
                return same.id
            key_id = message.new_key_id if is_id(message.new_key_id, "key") else new_id("key")
            key = AgentKey(id=key_id, agent_id=agent_id, public_key=public_key, created_at=await tx.now())
            for old in known:
                if old is not current and len(known) >= MOST_KEYS:
                    await repository.remove_key(tx, old.id)
            tx.add(key)
            try:
                await tx.flush()
            except IntegrityError as error:
                raise BadRotation("the new key, or its id, belongs to another agent") from error
            actor = Actor(kind="agent", org_id=row.org_id, username=row.hostname, address=row.address)
            await self._record(tx, actor, row, "key_changed", {"key": key.id})
        return key.id

    async def sealing_key(self, agent_id: str) -> bytes:
        """Return the X25519 public key that seals for an agent. Raises: ApiError: agent_not_found."""
        async with self._db.read() as tx:
            row = (await repository.agents_by_id(tx, [agent_id])).get(agent_id)
        if row is None:
            raise not_found("agent", agent_id)
        return row.sealing_key

    async def remove_all(self, tx: Transaction, actor: Actor, cluster: Cluster) -> Sequence[str]:
        """End every agent of a cluster that is being removed. Returns their ids."""
        rows = await repository.agents_of(tx, [cluster.id])
        for row in rows:
            values: dict[str, Any] = {
                "state": AgentState.REMOVED,
                "state_reason": f"cluster {cluster.name} was removed",
            }
            await repository.set_state(tx, row.id, before=before(AgentState.REMOVED), values=values)
            _publish(tx, row, "removed")
        return [row.id for row in rows]

    async def _change(
        self,
        access: Access,
        cluster: str,
        agent_id: str,
        state: AgentState,
        verb: str,
        states: frozenset[AgentState] | set[AgentState],
        values: dict[str, Any],
    ) -> Agent:
        async with self._db.begin() as tx:
            row = await self._manageable(tx, access, cluster, agent_id)
            reason = f"{verb} by {access.actor.username}"
            changed = await repository.set_state(
                tx, row.id, before=states, values={"state": state, "state_reason": reason, **values}
            )
            if not changed:
                raise ApiError(ErrorCode.CONFLICT, f"the agent is {row.state}", hint=f"{verb} does not apply to it")
            await self._record(tx, access.actor, row, verb, {"before": row.state})
            _publish(tx, row, str(state))
            await tx.refresh(row)
        return row

    async def _manageable(self, tx: Transaction, access: Access, cluster: str, agent_id: str) -> Agent:
        place = await clusters.find(tx, access.org_id, cluster)
        if place is None:
            raise not_found("cluster", cluster[:64])
        labels = (await clusters.labels_of(tx, [place.id]))[place.id]
        resource = Resource(access.org_id, place.id, labels)
        access.require(Permission.CLUSTER_MANAGE, resource, missing=not_found("cluster", cluster[:64]))
        row = await repository.agent(tx, access.org_id, agent_id)
        if row is None or row.cluster_id != place.id:
            raise not_found("agent", agent_id[:64])
        return row

    async def _record(
        self, tx: Transaction, actor: Actor, row: Agent, verb: str, detail: dict[str, Any] | None = None
    ) -> None:
        await self._audit.record(
            tx, actor, action=f"agent.{verb}", target_kind="agent", target_id=row.id, target_name=row.hostname,
            cluster_id=row.cluster_id or "", detail=detail,
        )  # fmt: skip


def _is_newest(row: Agent, epoch: int) -> bool:
    """Tell whether a link may change the agent's keys; siblings of one agent have older epochs and count as well."""
    return row.epoch == epoch or (row.max_instances > 1 and epoch < row.epoch)


def _publish(tx: Transaction, row: Agent, change: str) -> None:
    tx.publish("agent", id=row.id, cluster_id=row.cluster_id or "", change=change)
    tx.publish("cluster", id=row.cluster_id or "")


def _proven(message: link.KeyRotation, agent_id: str, epoch: int, current: AgentKey) -> bytes:
    """Return the new key once both keys have signed for it."""
    try:
        public_key = keys.parse_identity_key(message.new_public_key)
        text = link.rotate_text(
            agent_id=agent_id,
            old_key_id=current.id,
            new_key_id=message.new_key_id,
            new_public_key=message.new_public_key,
            epoch=epoch,
        )
    except (keys.BadKey, link.BadMessage) as error:
        raise BadRotation(str(error)) from error
    if not keys.verify(current.public_key, message.signature, text):
        raise BadRotation("the old key did not sign for the new one")
    if not keys.verify(public_key, message.new_signature, text):
        raise BadRotation("the new key did not sign for itself")
    return public_key

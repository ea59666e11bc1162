"""Tokens that PipeOps agents register for their clusters: sealed, and used only where an administrator allows that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.agents.models import Agent
from towline.control.audit.service import AuditLog
from towline.control.clusters.service import Clusters
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.logging import get_logger
from towline.control.protocols.lookups import Lookups
from towline.control.protocols.models import CompatAgent
from towline.control.protocols.pipeops.kube import Registered
from towline.control.sealing.service import CannotOpen, Sealer

SEALED_FOR: Final = "pipeops registered credential"
LONGEST_SECRET: Final = 16 * 1024
"""Bytes of a registered token; a ServiceAccount's has some 1,200."""
TOPIC: Final = "compat"
"""Of hints that something of an older agent has changed."""

_log = get_logger("pipeops")


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether a cluster's registered token may be used, and whether there is one."""

    allowed: bool
    registered: bool


class RegisteredTokens:
    """See the module."""

    def __init__(self, db: Database, lookups: Lookups, sealer: Sealer, audit: AuditLog, clusters: Clusters) -> None:
        self._db = db
        self._lookups = lookups
        self._clusters = clusters
        self._sealer = sealer
        self._audit = audit

    def seal(self, org_id: str, agent_id: str, secret: str) -> bytes | None:
        """Return what is stored of a token; None: it is none."""
        text = secret.encode()
        if not 0 < len(text) <= LONGEST_SECRET or not secret.isascii() or any(one.isspace() for one in secret):
            return None
        return self._sealer.seal(org_id, agent_id, 1, SEALED_FOR, text)

    async def read(self, agent_id: str) -> Registered:
        """Return an agent's token, if it may be used."""
        row = await self._lookups.agent_by_id(agent_id)
        if row is None or not row.secret_allowed:
            return Registered()
        if row.sealed_secret is None:
            return Registered(allowed=True)
        try:
            opened = self._sealer.open(row.org_id, agent_id, 1, SEALED_FOR, row.sealed_secret)
        except CannotOpen as error:
            _log.warning("registered token cannot be opened", agent=agent_id, why=str(error))
            return Registered(allowed=True)
        return Registered(opened.decode(), allowed=True)

    async def look(self, access: Access, cluster: str) -> Switch:
        """Return the switch of a cluster. Raises: ApiError: cluster_not_found, conflict: no agent of this kind."""
        async with self._db.read() as tx:
            row, _ = await self._clusters.require(tx, access, cluster, Permission.CLUSTER_READ)
            return _switch(await _rows(tx, row.id), row.name)

    async def peek(self, access: Access, cluster: str) -> Switch | None:
        """Return the switch of a cluster; None for one that has no agent of this kind. Raises: cluster_not_found."""
        try:
            return await self.look(access, cluster)
        except ApiError as error:
            if error.code is not ErrorCode.CONFLICT:
                raise
            return None

    async def allow(self, access: Access, cluster: str, allowed: bool) -> Switch:
        """Turn the switch of a cluster. Raises: ApiError: as `look`, forbidden."""
        async with self._db.begin() as tx:
            found, _ = await self._clusters.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
            rows = await _rows(tx, found.id)
            before = _switch(rows, found.name)
            for row in rows:
                row.secret_allowed = allowed
            await self._audit.record(
                tx, access.actor, action="cluster.registered_token", target_kind="cluster", target_id=found.id,
                target_name=found.name, cluster_id=found.id, detail={"allowed": allowed, "before": before.allowed},
            )  # fmt: skip
            tx.publish(TOPIC, cluster_id=found.id)
            tx.publish("cluster", id=found.id)
        return Switch(allowed, before.registered)


async def _rows(tx: Transaction, cluster_id: str) -> list[CompatAgent]:
    query = (
        select(CompatAgent)
        .join(Agent, Agent.id == CompatAgent.agent_id)
        .where(Agent.cluster_id == cluster_id, CompatAgent.protocol == "pipeops")
    )
    return list((await tx.execute(query)).scalars())


def _switch(rows: list[CompatAgent], name: str) -> Switch:
    if not rows:
        raise ApiError(ErrorCode.CONFLICT, f"the cluster {name} has no PipeOps agent, which alone registers a token")
    return Switch(any(row.secret_allowed for row in rows), any(row.sealed_secret for row in rows))

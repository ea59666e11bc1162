"""Orders to agents to install another release: passed on only when a known release key has signed them.

The server cannot make one: the key that signs is not here. What an order does is the agent's business.
"""

from __future__ import annotations

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission
from towline.control.agents import keys
from towline.control.agents.trust import TrustKeeper
from towline.control.audit.service import AuditLog
from towline.control.clusters.service import Clusters
from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.links.registry import Links
from towline.tunnel.errors import TunnelClosed
from towline.wire import link

LONGEST_MANIFEST = 64 * 1024
"""Characters: some twenty files with their hashes are 3 KiB."""


class Updates:
    """Sends signed orders."""

    def __init__(self, db: Database, audit: AuditLog, trust: TrustKeeper, clusters: Clusters, links: Links) -> None:
        self._db = db
        self._audit = audit
        self._trust = trust
        self._clusters = clusters
        self._links = links

    async def send(self, access: Access, cluster: str, agent_id: str, order: link.Update) -> None:
        """Pass an order on. Raises: ApiError: invalid when nobody known signed it, agent_away, agent_not_found."""
        async with self._db.read() as tx:
            row, _ = await self._clusters.require(tx, access, cluster, Permission.CLUSTER_MANAGE)
        if not is_signed(order, self._trust.current.signing_keys):
            raise ApiError(ErrorCode.INVALID, "no release key that this server knows has signed the manifest")
        one = self._links.of_agent(agent_id)
        if one is None or one.cluster_id != row.id:
            raise await self._clusters.away(row.id) if one is None else not_found("agent", agent_id[:64])
        async with self._db.begin() as tx:
            await self._audit.record(
                tx, access.actor, action="agent.update", target_kind="agent", target_id=agent_id,
                target_name=row.name, cluster_id=row.id, detail={"key": order.key},
            )  # fmt: skip
        try:
            await one.session.send(order)
        except TunnelClosed as error:
            raise await self._clusters.away(row.id) from error


def is_signed(order: link.Update, known: tuple[str, ...]) -> bool:
    """Tell whether one of some release keys has signed a manifest."""
    if len(order.manifest) > LONGEST_MANIFEST:
        return False
    text = link.update_text(order.manifest)
    return any(keys.verify(keys.parse_identity_key(key), order.signature, text) for key in known)

"""REST calls that PipeOps agents make beside their socket: whose they are, and what becomes of routes and tunnels.

A call carries a token and sometimes a cluster id. Of several agents that share a token, one that ends a route without a
cluster id is the one that has it; where two have, the one at the caller's address.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import select

from towline.aio.clock import Clock
from towline.control.agents.models import Agent
from towline.control.agents.refusals import Refused
from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.logging import get_logger
from towline.control.protocols.admission import Compat, Recognised
from towline.control.protocols.models import CompatAgent
from towline.control.protocols.pipeops.claims import BURST_TIMEOUT, Changed, clean_host
from towline.control.protocols.pipeops.office import PROTOCOL, Office
from towline.wire import pipeops_routes as rest

MOST_TUNNELS: Final = 500
"""Tunnels of one agent: one for each port of a Gateway."""
LONGEST: Final = 255
"""Characters of a tunnel's names."""

_log = get_logger("pipeops")


class Routes:
    """See the module."""

    def __init__(self, compat: Compat, db: Database, office: Office, *, clock: Clock) -> None:
        self._compat = compat
        self._db = db
        self._office = office
        self._clock = clock

    async def caller(self, token: str, address: str) -> Recognised:
        """Return whose token it is. Raises: ApiError: unauthenticated."""
        try:
            return await self._compat.recognise(PROTOCOL, token, address)
        except Refused as error:
            raise ApiError(ErrorCode.UNAUTHENTICATED, str(error)) from error

    # -- routes --------------------------------------------------------------------------------

    async def sync(self, known: Recognised, listing: rest.SyncIngresses, address: str) -> None:
        """Take a full list of ingresses."""
        agent_id = await self._agent(known, listing.cluster_uuid, address)
        self._tell(agent_id, self._office.book(agent_id).synced(listing, self._clock.monotonic()))

    async def register(self, known: Recognised, route: rest.RegisterRoute, address: str) -> None:
        """Take one path of an ingress."""
        agent_id = await self._agent(known, route.cluster_uuid, address)
        book = self._office.book(agent_id)
        self._tell(agent_id, book.registered(route, self._clock.monotonic()))
        self._clock.call_later(BURST_TIMEOUT, self._settle, agent_id)

    async def unregister(self, known: Recognised, route: rest.UnregisterRoute, address: str) -> None:
        """Take the end of a host name's routes; of nobody's it is nothing."""
        host = clean_host(route.hostname)
        agent_id = await self._agent(known, route.cluster_uuid, address, host=host, may_lack=True)
        if agent_id:
            self._tell(agent_id, self._office.book(agent_id).unregistered(host))

    def _settle(self, agent_id: str) -> None:
        changed = self._office.book(agent_id).settle(self._clock.monotonic())
        if changed is not None:
            self._tell(agent_id, changed)

    def _tell(self, agent_id: str, changed: Changed) -> None:
        """Tell it over the agent's session; one that is away tells its book when it is back."""
        session = self._office.sessions.get(agent_id)
        if session is not None:
            session.tell_routes(changed)

    # -- tunnels -------------------------------------------------------------------------------

    async def tunnels(self, known: Recognised, cluster_id: str) -> list[rest.Tunnel]:
        """Return the tunnels of an agent."""
        agent_id = await self._agent(known, cluster_id, "")
        return list((await self._known_tunnels(agent_id)).values())

    async def keep(
        self, known: Recognised, cluster_id: str, told: tuple[rest.Tunnel, ...], *, whole: bool = False
    ) -> rest.SyncedTunnels:
        """Keep tunnels; what a later call leaves empty stays as it was. whole: all others are gone."""
        agent_id = await self._agent(known, cluster_id, "")
        async with self._db.begin() as tx:
            row = await tx.get_one(CompatAgent, agent_id)
            before = _tunnels(row)
            kept: dict[str, rest.Tunnel] = {} if whole else dict(before)
            rejected = []
            for tunnel in told:
                if reason := _unfit(tunnel, kept):
                    rejected.append(rest.RejectedTunnel(tunnel_id=tunnel.tunnel_id[:LONGEST], reason=reason))
                else:
                    kept[tunnel.tunnel_id] = merged(before.get(tunnel.tunnel_id), tunnel)
            row.info = {**row.info, "tunnels": [msgspec.to_builtins(one) for one in kept.values()]}
        accepted = tuple(kept[one.tunnel_id] for one in told if one.tunnel_id in kept)
        return rest.SyncedTunnels(accepted=accepted, rejected=tuple(rejected))

    async def drop(self, known: Recognised, cluster_id: str, tunnel_id: str) -> None:
        """Forget a tunnel; one that is not known is gone already."""
        agent_id = await self._agent(known, cluster_id, "")
        async with self._db.begin() as tx:
            row = await tx.get_one(CompatAgent, agent_id)
            kept = _tunnels(row)
            kept.pop(tunnel_id, None)
            row.info = {**row.info, "tunnels": [msgspec.to_builtins(one) for one in kept.values()]}

    async def _known_tunnels(self, agent_id: str) -> dict[str, rest.Tunnel]:
        async with self._db.read() as tx:
            return _tunnels(await tx.get_one(CompatAgent, agent_id))

    # -- whose it is -----------------------------------------------------------------------------

    async def _agent(
        self, known: Recognised, cluster_id: str, address: str, *, host: str = "", may_lack: bool = False
    ) -> str:
        """Return the id of the agent that calls. Raises: ApiError: not found: it has not registered yet."""
        query = select(Agent).join(CompatAgent, CompatAgent.agent_id == Agent.id)
        async with self._db.read() as tx:
            rows = list((await tx.execute(query.where(CompatAgent.token_id == known.token_id))).scalars())
        if known.shared and cluster_id:
            rows = [row for row in rows if row.cluster_id == cluster_id]
        elif known.shared:
            rows = [row for row in rows if host in self._office.book(row.id).hosts()]
            rows = [row for row in rows if row.address == address] if len(rows) > 1 else rows
        if len(rows) == 1:
            return rows[0].id
        if may_lack:
            _log.info("the end of a route belongs to no known agent", host=host[:100], candidates=len(rows))
            return ""
        raise not_found("cluster", cluster_id[:64])


def merged(before: rest.Tunnel | None, now: rest.Tunnel) -> rest.Tunnel:
    """Return a tunnel with what a later call left empty filled in from before."""
    if before is None:
        return now
    changes: dict[str, Any] = {name: getattr(before, name) for name in now.__struct_fields__ if not getattr(now, name)}
    return msgspec.structs.replace(now, **changes)


def _unfit(tunnel: rest.Tunnel, kept: dict[str, rest.Tunnel]) -> str:
    """Return why a tunnel is not kept; empty when it is."""
    texts = (tunnel.tunnel_id, tunnel.gateway_name, tunnel.gateway_namespace, tunnel.service_name)
    if not tunnel.tunnel_id or any(len(text) > LONGEST for text in texts):
        return "its id or one of its names is empty or too long"
    if tunnel.protocol not in ("tcp", "udp") or not 0 <= tunnel.gateway_port < 2**16:
        return "its protocol is tcp or udp, its port a port's number"
    if len(kept) >= MOST_TUNNELS and tunnel.tunnel_id not in kept:
        return f"more than {MOST_TUNNELS} tunnels"
    return ""


def _tunnels(row: CompatAgent) -> dict[str, rest.Tunnel]:
    found: dict[str, rest.Tunnel] = {}
    for one in row.info.get("tunnels", ()):
        tunnel = msgspec.convert(one, rest.Tunnel)
        found[tunnel.tunnel_id] = tunnel
    return found

"""Letting agents of older systems in: the token that they present, who they are there, and the claim of their session.

They have no keys and prove nothing but a token. One of its own makes one agent, whatever that calls itself; a shared
one makes an agent of each name, and each of those needs an approval or an open window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.access.actor import Actor
from towline.control.access.throttle import Throttle, source_key
from towline.control.agents import clones, refusals, repository
from towline.control.agents.admission import Turn, refusal_by_state, takeovers_with
from towline.control.agents.connect import Admitted
from towline.control.agents.join_tokens import admits
from towline.control.agents.models import Agent
from towline.control.agents.refusals import Refusal, Refused
from towline.control.agents.states import AgentState, before
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.names import name_from_host
from towline.control.clusters.reports import Reports
from towline.control.db import Database, Transaction, now
from towline.control.ids import new_id
from towline.control.links.registry import Link, Links
from towline.control.protocols.models import CompatAgent, CompatToken
from towline.control.protocols.session import AdaptedSession
from towline.wire import link

LONGEST_SECRET = 4096
"""Characters of a token; longer text is none, and is not hashed."""
LONGEST_NAME = 255
WRITE_USE_EVERY = timedelta(minutes=10)
"""How fresh `last_used_at` of a token is: agents that ask every few seconds would write it each time."""

BAD_TOKEN = Refusal("bad_token", "This server does not know the token, or it was revoked, or has ended.")
THROTTLED = Refusal("throttled", "Too many wrong tokens from this address; wait a minute.")
WRONG_NETWORK = Refusal("network", "The token may not be used from this address.")
NAMELESS = Refusal("nameless", "The agent does not say who it is; several present this token, so it has to.")


@dataclass(frozen=True, slots=True)
class Recognised:
    """A token that was presented and counts."""

    token_id: str
    org_id: str
    protocol: str
    shared: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """What an agent says of itself.

    Args: external_id: its name in its own system, at most 255 characters count. instance: tells its processes apart,
        where the protocol says something of the kind; a newer one replaces an older, and two in turns are a duel.
    """

    external_id: str
    hostname: str = ""
    cluster_name: str = ""
    version: str = ""
    address: str = ""
    instance: str = ""


def digest(secret: str) -> str:
    """Return what is stored instead of a secret: hex SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Compat:
    """Recognises tokens and admits agents of older systems.

    Args: owner: id of this replica. failures: counts wrong tokens by address.
    """

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        links: Links,
        reports: Reports,
        failures: Throttle,
        *,
        owner: str,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._audit = audit
        self._links = links
        self._reports = reports
        self._failures = failures
        self._owner = owner
        self._clock = clock

    async def recognise(self, protocol: str, secret: str, address: str) -> Recognised:
        """Return the token behind a secret. Raises: Refused."""
        async with self._db.read() as tx:
            moment = await tx.now()
            row = await _token(tx, protocol, secret) if 0 < len(secret) <= LONGEST_SECRET else None
        if row is None or row.revoked or (row.expires_at is not None and row.expires_at <= moment):
            raise self._refused(THROTTLED if self._failures.wait(source_key(address)) else BAD_TOKEN)
        if not admits(row.networks, address):
            raise self._refused(WRONG_NETWORK)
        if row.last_used_at is None or moment - row.last_used_at > WRITE_USE_EVERY:
            async with self._db.begin() as tx:
                await tx.execute(update(CompatToken).where(CompatToken.id == row.id).values(last_used_at=now()))
        return Recognised(row.id, row.org_id, protocol, row.shared)

    async def admit(self, known: Recognised, caller: Caller) -> Admitted:
        """Find or make the agent that a caller is, and claim its session for this process. Raises: Refused."""
        if known.shared and not caller.external_id:
            raise self._refused(NAMELESS)
        for attempt in (1, 2):
            try:
                async with self._db.begin() as tx:
                    outcome = await self._claim(tx, known, caller)
                break
            except IntegrityError:  # another connection of the same agent made it a moment ago
                if attempt == 2:
                    raise
        if isinstance(outcome, Refusal):
            raise self._refused(outcome)
        return outcome

    async def expect(self, tx: Transaction, token: CompatToken, caller: Caller) -> tuple[Agent, bool]:
        """Make an approved agent before it comes for the first time; it is told apart by its name alone.

        Returns: the agent, and whether it was made.
        """
        known = Recognised(token.id, token.org_id, token.protocol, token.shared)
        row = await self._found(tx, known, caller)
        if row is not None:
            return row, False
        row = await self._made(tx, token, caller, await tx.now())
        row.state, row.state_reason = AgentState.ACTIVE, "approved by an import"
        await tx.flush()
        return row, True

    def attach(self, session: AdaptedSession, admitted: Admitted, capabilities: Sequence[link.Capability]) -> Link:
        """Give an admitted session to everybody above; an older one of the same agent is closed."""
        one = self._links.attach(session, admitted)
        if self._links.leads(one):
            self._reports.connected(admitted.cluster_id, admitted.org_id, session.remote_address)
            self._reports.capabilities(admitted.cluster_id, admitted.org_id, tuple(capabilities))
        return one

    async def agent_id(self, known: Recognised, external_id: str) -> str:
        """Return which agent a caller would be; empty when it would be a new one."""
        query = select(CompatAgent.agent_id).where(CompatAgent.token_id == known.token_id)
        if known.shared:
            query = query.where(CompatAgent.external_id == external_id[:LONGEST_NAME])
        async with self._db.read() as tx:
            return (await tx.execute(query)).scalars().first() or ""

    async def agent(self, agent_id: str) -> CompatAgent | None:
        """Return what an agent is in its own system."""
        async with self._db.read() as tx:
            return await tx.get(CompatAgent, agent_id)

    async def refusal(self, agent_id: str) -> Refusal | None:
        """Return what an agent in its present state is told; None: it may come in."""
        async with self._db.read() as tx:
            row = await tx.get(Agent, agent_id)
        return refusal_by_state(row.state, row.state_reason) if row is not None else None

    def _refused(self, refusal: Refusal) -> Refused:
        refusals.counts[refusal.code] += 1
        return Refused(refusal)

    async def _claim(self, tx: Transaction, known: Recognised, caller: Caller) -> Admitted | Refusal:
        token = await tx.get_one(CompatToken, known.token_id)
        moment = await tx.now()
        row = await self._found(tx, known, caller)
        if row is None:
            row = await self._made(tx, token, caller, moment)
        if (refusal := refusal_by_state(row.state, row.state_reason)) is not None:
            return refusal
        turn = Turn(moment, self._clock.now().timestamp())
        takeovers = takeovers_with(row.takeovers, caller.instance, self._links.live_instance(row.id), turn)
        if clones.is_duel(takeovers, turn.seconds):
            return await self._quarantine(tx, row, caller)
        values: dict[str, Any] = {
            "owner": self._owner,
            "takeovers": [[one.at, one.instance_id] for one in takeovers],
            "instance_id": caller.instance[:64],
            "hostname": caller.hostname[:LONGEST_NAME] or row.hostname,
            "version": caller.version[:64] or row.version,
            "address": caller.address,
            "last_seen_at": moment,
        }
        epoch = await repository.claim(tx, row.id, epoch=row.epoch, states=[row.state], values=values)
        if epoch is None:
            return refusals.UNAVAILABLE
        cluster_id = row.cluster_id or ""
        names = await clusters.names(tx, {cluster_id})
        return Admitted(
            agent_id=row.id,
            org_id=row.org_id,
            cluster_id=cluster_id,
            cluster_name=names.get(cluster_id, ""),
            epoch=epoch,
            generation=row.generation,
            pending=row.state == AgentState.PENDING,
            key_id="",
            instance_id=caller.instance[:64],
        )

    async def _found(self, tx: Transaction, known: Recognised, caller: Caller) -> Agent | None:
        """A token of its own is one agent, and what that calls itself may change; a shared one has an agent a name."""
        query = select(CompatAgent).where(CompatAgent.token_id == known.token_id)
        external_id = caller.external_id[:LONGEST_NAME]
        if known.shared:
            query = query.where(CompatAgent.external_id == external_id)
        compat = (await tx.execute(query)).scalars().first()
        if compat is None:
            return None
        if external_id and compat.external_id != external_id:
            compat.external_id = external_id
        return await tx.get_one(Agent, compat.agent_id)

    async def _made(self, tx: Transaction, token: CompatToken, caller: Caller, moment: datetime) -> Agent:
        cluster = await _cluster(tx, token, caller, moment)
        open_now = token.open_until is not None and token.open_until > moment
        state = AgentState.PENDING if token.shared and not open_now else AgentState.ACTIVE
        row = Agent(
            id=new_id("agt"),
            org_id=token.org_id,
            cluster_id=cluster.id,
            state=state,
            state_since=moment,
            protocol=token.protocol,
            hostname=caller.hostname[:LONGEST_NAME],
            address=caller.address,
            sealing_key=b"",
            join_token_id=token.id,
            created_at=moment,
        )
        tx.add(row)
        await tx.flush()
        external_id = caller.external_id[:LONGEST_NAME]
        tx.add(CompatAgent(
            agent_id=row.id, org_id=token.org_id, protocol=token.protocol, external_id=external_id, token_id=token.id
        ))  # fmt: skip
        await tx.flush()
        await self._record(tx, row, caller, "agent.enrol", {"token": token.id, "pending": state is AgentState.PENDING})
        tx.publish("cluster", id=cluster.id)
        tx.publish("agent", id=row.id, cluster_id=cluster.id)
        return row

    async def _quarantine(self, tx: Transaction, row: Agent, caller: Caller) -> Refusal:
        values = {"state": AgentState.SUSPECT, "state_reason": refusals.DUEL}
        await repository.set_state(tx, row.id, before=before(AgentState.SUSPECT), values=values)
        await self._record(tx, row, caller, "agent.quarantine", {}, reason=refusals.DUEL)
        tx.publish("agent", id=row.id, cluster_id=row.cluster_id or "", change="suspect")
        tx.publish("cluster", id=row.cluster_id or "")
        return refusals.suspect(refusals.DUEL)

    async def _record(
        self, tx: Transaction, row: Agent, caller: Caller, action: str, detail: dict[str, Any], reason: str = ""
    ) -> None:
        actor = Actor(kind="agent", org_id=row.org_id, username=caller.external_id[:80], address=caller.address)
        await self._audit.record(
            tx, actor, action=action, target_kind="agent", target_id=row.id, target_name=row.hostname,
            cluster_id=row.cluster_id or "", result="refused" if reason else "done", reason=reason,
            detail=detail | {"protocol": row.protocol},
        )  # fmt: skip


async def _token(tx: Transaction, protocol: str, secret: str) -> CompatToken | None:
    query = select(CompatToken).where(CompatToken.protocol == protocol, CompatToken.digest == digest(secret))
    return (await tx.execute(query)).scalar_one_or_none()


async def _cluster(tx: Transaction, token: CompatToken, caller: Caller, moment: datetime) -> Cluster:
    existing = await tx.get(Cluster, token.cluster_id) if token.cluster_id and not token.shared else None
    if existing is not None:
        return existing
    wanted = token.cluster_name or name_from_host(caller.cluster_name or caller.hostname or caller.external_id)
    return await clusters.insert_called(
        tx, org_id=token.org_id, wanted=wanted, labels=token.labels, created_by=token.created_by, moment=moment
    )

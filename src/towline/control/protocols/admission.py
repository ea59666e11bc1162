"""Letting agents of older systems in: the token that they present, who they are there, and the claim of their session.

They have no keys and prove nothing but a token. One of its own makes one agent, whatever that calls itself; a shared
one makes an agent of each name, and each of those needs an approval or an open window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
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
from towline.control.db import Database, Transaction, ask_together, now
from towline.control.ids import new_id
from towline.control.links.cleaning import clean
from towline.control.links.registry import Link, Links
from towline.control.protocols.lookups import AT_ONCE, MOST_WAITING, Called, Lookups, Presented, agents_called
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

    def called(self, external_id: str) -> Called:
        """Return who somebody is that calls itself so."""
        return Called(self.token_id, clean(external_id)[:LONGEST_NAME] if self.shared else None)


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

    def cleaned(self) -> Caller:
        """Return it without what no database takes, or no page shows."""
        return Caller(**{name: clean(getattr(self, name)) for name in self.__slots__})


def digest(secret: str) -> str:
    """Return what is stored instead of a secret: hex SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Compat:
    """Recognises tokens and admits agents of older systems.

    Many agents come back at once when a server restarts, so what they ask is asked together, and claims of known agents
    that come together are written in one transaction.

    Args: lookups: asks for many. tasks: owner of what does. owner: id of this replica. failures: counts wrong tokens by
        address.
    """

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        links: Links,
        reports: Reports,
        lookups: Lookups,
        failures: Throttle,
        *,
        tasks: TaskOwner,
        owner: str,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._db = db
        self._audit = audit
        self._links = links
        self._reports = reports
        self._failures = failures
        self.lookups = lookups
        self._returns = ask_together(tasks, "returns", self._readmit, most=AT_ONCE, waiting=MOST_WAITING)
        self._uses = ask_together(tasks, "uses", self._note_uses, most=AT_ONCE, waiting=MOST_WAITING)
        self._owner = owner
        self._clock = clock

    async def recognise(self, protocol: str, secret: str, address: str) -> Recognised:
        """Return the token behind a secret. Raises: Refused."""
        presented = Presented(protocol, digest(secret) if 0 < len(secret) <= LONGEST_SECRET else "")
        row, moment = await self.lookups.token(presented)
        if row is None or row.revoked or (row.expires_at is not None and row.expires_at <= moment):
            raise self._refused(THROTTLED if self._failures.wait(source_key(address)) else BAD_TOKEN)
        if not admits(row.networks, address):
            raise self._refused(WRONG_NETWORK)
        if row.last_used_at is None or moment - row.last_used_at > WRITE_USE_EVERY:
            await self._uses.ask(row.id)
        return Recognised(row.id, row.org_id, protocol, row.shared)

    async def admit(self, known: Recognised, caller: Caller) -> Admitted:
        """Find or make the agent that a caller is, and claim its session for this process. Raises: Refused."""
        caller = caller.cleaned()
        if known.shared and not caller.external_id:
            raise self._refused(NAMELESS)
        outcome = await self._returns.ask((known, caller)) or await self._admit_alone(known, caller)
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

    async def find(self, known: Recognised, external_id: str) -> CompatAgent | None:
        """Return which agent a caller would be; None when it would be a new one."""
        return await self.lookups.agent(known.called(external_id))

    async def refusal(self, agent_id: str) -> Refusal | None:
        """Return what an agent in its present state is told; None: it may come in."""
        async with self._db.read() as tx:
            row = await tx.get(Agent, agent_id)
        return refusal_by_state(row.state, row.state_reason) if row is not None else None

    def _refused(self, refusal: Refusal) -> Refused:
        refusals.counts[refusal.code] += 1
        return Refused(refusal)

    async def _note_uses(self, token_ids: Sequence[str]) -> list[None]:
        async with self._db.begin() as tx:
            await tx.execute(update(CompatToken).where(CompatToken.id.in_(set(token_ids))).values(last_used_at=now()))
        return [None] * len(token_ids)

    async def _readmit(self, asked: Sequence[tuple[Recognised, Caller]]) -> list[Admitted | Refusal | None]:
        """Claim the sessions of agents that are known. None: one that is not, or that asks twice, is admitted alone."""
        async with self._db.begin() as tx:
            return await self._claim_known(tx, asked)

    async def _claim_known(
        self, tx: Transaction, asked: Sequence[tuple[Recognised, Caller]]
    ) -> list[Admitted | Refusal | None]:
        moment = await tx.now()
        compats = await agents_called(tx, {known.called(caller.external_id) for known, caller in asked})
        rows = await repository.agents_by_id(tx, {compat.agent_id for compat in compats.values()})
        names = await clusters.names(tx, {row.cluster_id for row in rows.values() if row.cluster_id})
        outcomes: list[Admitted | Refusal | None] = []
        for known, caller in asked:
            compat = compats.get(known.called(caller.external_id))
            row = rows.pop(compat.agent_id, None) if compat is not None else None
            if compat is None or row is None:
                outcomes.append(None)
                continue
            _note_name(compat, caller)
            outcomes.append(await self._claim(tx, row, caller, moment, names))
        return outcomes

    async def _admit_alone(self, known: Recognised, caller: Caller) -> Admitted | Refusal:
        try:
            return await self._find_or_make(known, caller)
        except IntegrityError:  # another connection of the same agent made it a moment ago
            return await self._find_or_make(known, caller)

    async def _find_or_make(self, known: Recognised, caller: Caller) -> Admitted | Refusal:
        async with self._db.begin() as tx:
            moment = await tx.now()
            row = await self._found(tx, known, caller)
            if row is None:
                row = await self._made(tx, await tx.get_one(CompatToken, known.token_id), caller, moment)
            names = await clusters.names(tx, {row.cluster_id or ""})
            return await self._claim(tx, row, caller, moment, names)

    async def _claim(
        self, tx: Transaction, row: Agent, caller: Caller, moment: datetime, names: Mapping[str, str]
    ) -> Admitted | Refusal:
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
        called = known.called(caller.external_id)
        compat = (await agents_called(tx, {called})).get(called)
        if compat is None:
            return None
        _note_name(compat, caller)
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


def _note_name(compat: CompatAgent, caller: Caller) -> None:
    """A token of its own is one agent, and what that calls itself may change."""
    external_id = caller.external_id[:LONGEST_NAME]
    if external_id and compat.external_id != external_id:
        compat.external_id = external_id


async def _cluster(tx: Transaction, token: CompatToken, caller: Caller, moment: datetime) -> Cluster:
    existing = await tx.get(Cluster, token.cluster_id) if token.cluster_id and not token.shared else None
    if existing is not None:
        return existing
    wanted = token.cluster_name or name_from_host(caller.cluster_name or caller.hostname or caller.external_id)
    return await clusters.insert_called(
        tx, org_id=token.org_id, wanted=wanted, labels=token.labels, created_by=token.created_by, moment=moment
    )

"""Enrolment: a join token and two fresh public keys become an agent. The HTTP side is in `api.py`.

Checks go from cheap to dear: the token's check characters before anything, the signature before the database.
Source: reference of the link, docs/wire-protocol.md, "Enrolment".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Actor
from towline.control.access.throttle import Throttle, throttled
from towline.control.agents import join_tokens, keys, refusals, repository
from towline.control.agents.challenges import Challenges
from towline.control.agents.identity import IdentitySource
from towline.control.agents.models import Agent, AgentKey, JoinToken
from towline.control.agents.states import AgentState, before
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.clusters.names import name_from_host
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import DEFAULT_ORG, new_id
from towline.control.logging import get_logger
from towline.wire import link, tokens

_log = get_logger("agents")

REPEAT_WITHIN = timedelta(minutes=15)
"""An answer that was lost may be asked for again with the same token and the same key for this long."""
LONGEST_FIELD = 255


@dataclass(frozen=True, slots=True)
class Application:
    """What a new agent sends."""

    token: str
    public_key: str
    sealing_key: str
    instance_id: str
    nonce: str
    signature: str
    hostname: str = ""
    version: str = ""

    def __repr__(self) -> str:
        return f"<Application from {self.hostname}>"


@dataclass(frozen=True, slots=True)
class Enrolled:
    agent_id: str
    key_id: str
    cluster_id: str
    cluster_name: str
    pending: bool


class Enrolment:
    """Turns join tokens into agents."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        identity: IdentitySource,
        challenges: Challenges,
        throttle: Throttle,
    ) -> None:
        self._db = db
        self._audit = audit
        self._identity = identity
        self._challenges = challenges
        self._throttle = throttle

    def challenge(self) -> str:
        """Return a nonce for one enrolment."""
        return self._challenges.issue()

    async def enrol(self, application: Application, address: str) -> Enrolled:
        """Redeem a join token.

        Repeating the call with the same token and the same keys returns the same agent for 15 minutes.
        Raises: ApiError: throttled, join_token_refused, bad_request, agent_key_known.
        """
        wait = self._throttle.wait(address)
        if wait:
            refusals.counts["throttled"] += 1
            raise throttled("attempts to enrol from this address", wait)
        identity_key, sealing_key = self._proven(application)
        for attempt in (1, 2):
            try:
                return await self._redeem(application, identity_key, sealing_key, address)
            except IntegrityError:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _proven(self, application: Application) -> tuple[bytes, bytes]:
        """Check everything that needs no database."""
        if not tokens.is_well_formed(application.token, tokens.JOIN):
            raise refused("mistyped", "the join token is mistyped or cut off: its check characters do not fit")
        try:
            identity_key = keys.parse_identity_key(application.public_key)
            sealing_key = keys.parse_sealing_key(application.sealing_key)
        except keys.BadKey as error:
            raise ApiError(ErrorCode.BAD_REQUEST, str(error)) from error
        if not self._challenges.is_valid(application.nonce):
            raise ApiError(
                ErrorCode.BAD_REQUEST, "the challenge is too old or not from this server", hint="ask for a new one"
            )
        text = link.enrol_text(
            origin=self._identity().origin,
            token_id=tokens.public_id(application.token),
            keys_sha256=keys.keys_sha256(identity_key, sealing_key),
            nonce=application.nonce,
        )
        if not keys.verify(identity_key, application.signature, text):
            refusals.counts["bad_signature"] += 1
            raise ApiError(
                ErrorCode.BAD_REQUEST,
                "the signature does not fit the key, the token and this server's address",
                hint="does something between the agent and the server change the address?",
            )
        return identity_key, sealing_key

    async def _redeem(
        self, application: Application, identity_key: bytes, sealing_key: bytes, address: str
    ) -> Enrolled:
        refusal: _Refusal | None = None
        async with self._db.begin() as tx:
            token = await repository.token_by_digest(tx, tokens.digest(application.token))
            moment = await tx.now()
            known = await repository.key_by_public_key(tx, identity_key)
            if known is not None:
                repeated = await _repeated(tx, known, token, moment)
                if repeated is not None:
                    return repeated
                refusal = _Refusal("key_known", "an agent with this key exists already", ErrorCode.AGENT_KEY_KNOWN)
            else:
                refusal = await _objection(tx, token, address, moment)
            actor = _actor(token, application, address)
            if refusal is None:
                assert token is not None
                enrolled = await _insert(tx, token, application, identity_key, sealing_key, address, moment)
                await self._record(tx, actor, enrolled, token)
                tx.publish("cluster", id=enrolled.cluster_id)
                tx.publish("agent", id=enrolled.agent_id, cluster_id=enrolled.cluster_id)
            else:
                await self._audit.record(
                    tx, actor, action="agent.enrol", target_kind="join_token", target_id=token.id if token else "",
                    target_name=application.hostname[:LONGEST_FIELD], result="refused", reason=refusal.message,
                )  # fmt: skip
        if refusal is not None:
            raise refused(refusal.code, refusal.message, refusal.error)
        return enrolled

    async def _record(self, tx: Transaction, actor: Actor, enrolled: Enrolled, token: JoinToken) -> None:
        await self._audit.record(
            tx, actor, action="agent.enrol", target_kind="agent", target_id=enrolled.agent_id,
            target_name=enrolled.cluster_name, cluster_id=enrolled.cluster_id,
            detail={"join_token": token.id, "pending": enrolled.pending},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: str
    message: str
    error: ErrorCode = ErrorCode.JOIN_TOKEN_REFUSED


def refused(code: str, message: str, error: ErrorCode = ErrorCode.JOIN_TOKEN_REFUSED) -> ApiError:
    """Count a refusal and return what the agent is told."""
    refusals.counts[code] += 1
    _log.warning("enrolment refused", code=code, why=message)
    return ApiError(error, message, hint="make a new join token", detail={"reason": code})


async def _objection(tx: Transaction, token: JoinToken | None, address: str, moment: datetime) -> _Refusal | None:
    """Use the token up, or say why that cannot be."""
    if token is None:
        return _Refusal("unknown", "this server does not know the join token; was it made on another one?")
    if not join_tokens.admits(token.networks, address):
        return _Refusal("network", f"the join token may not be used from {address}")
    if await repository.use_token(tx, token.digest):
        return None
    await tx.refresh(token)
    match join_tokens.state_of(token, moment):
        case "revoked":
            return _Refusal("revoked", "the join token was revoked")
        case "expired":
            return _Refusal("expired", f"the join token expired at {token.expires_at:%Y-%m-%d %H:%M} UTC")
    return _Refusal("used", "the join token was used already")


async def _repeated(
    tx: Transaction, known: tuple[AgentKey, Agent], token: JoinToken | None, moment: datetime
) -> Enrolled | None:
    key, agent = known
    fresh = moment - agent.created_at < REPEAT_WITHIN
    if token is None or agent.join_token_id != token.id or not fresh or agent.cluster_id is None:
        return None
    cluster = await tx.get_one(Cluster, agent.cluster_id)
    return Enrolled(agent.id, key.id, cluster.id, cluster.name, agent.state == AgentState.PENDING)


async def _insert(
    tx: Transaction,
    token: JoinToken,
    application: Application,
    identity_key: bytes,
    sealing_key: bytes,
    address: str,
    moment: datetime,
) -> Enrolled:
    cluster = await _cluster(tx, token, application, moment)
    state = AgentState.PENDING if token.approval_required else AgentState.ACTIVE
    agent = Agent(
        id=new_id("agt"),
        org_id=token.org_id,
        cluster_id=cluster.id,
        state=state,
        state_since=moment,
        max_instances=token.max_instances,
        generation=1,
        acked_generation=1,
        instance_id=application.instance_id[:64],
        hostname=application.hostname[:LONGEST_FIELD],
        version=application.version[:64],
        address=address,
        sealing_key=sealing_key,
        join_token_id=token.id,
        created_at=moment,
    )
    tx.add(agent)
    await tx.flush()
    key = AgentKey(id=new_id("key"), agent_id=agent.id, public_key=identity_key, created_at=moment)
    tx.add(key)
    await tx.flush()
    return Enrolled(agent.id, key.id, cluster.id, cluster.name, state is AgentState.PENDING)


async def _cluster(tx: Transaction, token: JoinToken, application: Application, moment: datetime) -> Cluster:
    existing = await tx.get(Cluster, token.cluster_id) if token.cluster_id else None
    if existing is not None:
        await _replace_agents(tx, existing.id)
        return existing
    wanted = token.cluster_name or name_from_host(application.hostname)
    return await clusters.insert_called(
        tx, org_id=token.org_id, wanted=wanted, labels=token.labels, created_by=token.created_by, moment=moment
    )


async def _replace_agents(tx: Transaction, cluster_id: str) -> None:
    """A host that joins again speaks for its cluster alone: what joined before it is revoked."""
    for old in await repository.agents_of(tx, [cluster_id]):
        values: dict[str, Any] = {"state": AgentState.REVOKED, "state_reason": "the host joined again"}
        if await repository.set_state(tx, old.id, before=before(AgentState.REVOKED), values=values):
            tx.publish("agent", id=old.id, cluster_id=cluster_id, change="revoked")


def _actor(token: JoinToken | None, application: Application, address: str) -> Actor:
    org_id = token.org_id if token else DEFAULT_ORG
    return Actor(kind="agent", org_id=org_id, username=application.hostname[:LONGEST_FIELD], address=address)

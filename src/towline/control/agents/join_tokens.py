"""Join tokens: made, listed, revoked. Redeeming one is `enrolment.py`.

A token is shown once. Labels and name are fixed by it, never chosen by the agent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Permission, Resource
from towline.control.agents import repository
from towline.control.agents.models import JoinToken
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.names import check_name
from towline.control.clusters.selectors import require_labels
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import is_id, new_id
from towline.control.listing import Listed, ListQuery, fetch
from towline.wire import tokens

DEFAULT_TTL = 3600.0
"""Seconds: long enough to walk to the host, short enough to be worthless in a chat log."""
LONGEST_TTL = 7 * 86400.0
SHORTEST_TTL = 60.0
MOST_USES = 1000
"""Hosts that one token may bring in, for images that join at first boot."""
MOST_INSTANCES = 16
"""Of one agent; each holds a link and a row."""
MOST_NETWORKS = 32
SORTS = {"created_at": JoinToken.created_at, "expires_at": JoinToken.expires_at, "cluster_name": JoinToken.cluster_name}

Joined = dict[str, list[dict[str, str]]]
"""Token id to who joined with it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new token shall allow."""

    cluster_name: str = ""
    rejoin: bool = False
    """The cluster exists already, and its host joins again with new keys."""
    labels: dict[str, str] = field(default_factory=dict)
    ttl: float = DEFAULT_TTL
    max_uses: int = 1
    networks: tuple[str, ...] = ()
    approval_required: bool = False
    max_instances: int = 1
    """Instances of the one agent that may be connected at once: its replicas, and those that come while others go."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token; the only moment at which its text exists here."""

    row: JoinToken
    token: str = field(repr=False)


class JoinTokens:
    """Rules of join tokens."""

    def __init__(self, db: Database, audit: AuditLog) -> None:
        self._db = db
        self._audit = audit

    async def create(self, access: Access, wanted: Wanted) -> Minted:
        """Make a token. Raises: ApiError: invalid, name_taken, cluster_not_found."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        check(wanted)
        token = tokens.mint(tokens.JOIN)
        async with self._db.begin() as tx:
            moment = await tx.now()
            cluster_id = await _existing_cluster(tx, access, wanted)
            row = _row(access.actor, wanted, token, cluster_id, moment)
            tx.add(row)
            await tx.flush()
            detail = {"labels": wanted.labels, "max_uses": wanted.max_uses, "expires_at": row.expires_at.isoformat()}
            if wanted.max_instances > 1:
                detail["max_instances"] = wanted.max_instances
            await self._audit.record(
                tx, access.actor, action="join_token.create", target_kind="join_token", target_id=row.id,
                target_name=wanted.cluster_name, cluster_id=cluster_id, detail=detail,
            )  # fmt: skip
        return Minted(row, token)

    async def page(self, access: Access, asked: ListQuery) -> tuple[Listed[JoinToken], Joined]:
        """Return a page of tokens, newest first, and who joined with them."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        async with self._db.read() as tx:
            query = repository.tokens(access.org_id, asked.search)
            found = await fetch(tx, query, asked, sorts=SORTS, default="-created_at", key=JoinToken.id)
            return found, await _joined(tx, [row.id for row in found.rows])

    async def find(self, access: Access, token_id: str) -> tuple[JoinToken, list[dict[str, str]]]:
        """Return a token and who joined with it. Raises: ApiError: join_token_not_found."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        async with self._db.read() as tx:
            row = await _token(tx, access, token_id)
            return row, (await _joined(tx, [row.id])).get(row.id, [])

    async def any_usable(self) -> bool:
        """Tell whether any host may join now."""
        async with self._db.read() as tx:
            return await repository.any_usable_token(tx)

    async def revoke(self, access: Access, token_id: str) -> None:
        """End a token; agents that joined with it stay. Raises: ApiError: join_token_not_found."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        async with self._db.begin() as tx:
            row = await _token(tx, access, token_id)
            await repository.revoke_token(tx, row.id)
            await self._audit.record(
                tx, access.actor, action="join_token.revoke", target_kind="join_token", target_id=row.id,
                target_name=row.cluster_name, cluster_id=row.cluster_id,
            )  # fmt: skip


def check(wanted: Wanted) -> None:
    """Raises: ApiError: invalid, with what is wrong."""
    if not SHORTEST_TTL <= wanted.ttl <= LONGEST_TTL:
        raise ApiError(ErrorCode.INVALID, f"ttl must lie between {SHORTEST_TTL:g} and {LONGEST_TTL:g} seconds")
    if not 1 <= wanted.max_uses <= MOST_USES:
        raise ApiError(ErrorCode.INVALID, f"max_uses must lie between 1 and {MOST_USES}")
    if not 1 <= wanted.max_instances <= MOST_INSTANCES:
        raise ApiError(ErrorCode.INVALID, f"max_instances must lie between 1 and {MOST_INSTANCES}")
    if wanted.cluster_name:
        check_name(wanted.cluster_name)
    if wanted.rejoin and wanted.max_uses != 1:
        raise ApiError(ErrorCode.INVALID, "one host joins one cluster again: max_uses must be 1")
    require_labels(wanted.labels)
    check_networks(wanted.networks)


def state_of(row: JoinToken, moment: datetime) -> str:
    """Return usable, used, revoked or expired."""
    if row.revoked:
        return "revoked"
    if row.used >= row.max_uses:
        return "used"
    return "expired" if row.expires_at <= moment else "usable"


def admits(networks: Sequence[str], address: str) -> bool:
    """Tell whether an address lies in one of the networks; an empty list is any."""
    if not networks:
        return True
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return any(mapped in ipaddress.ip_network(network, strict=False) for network in networks)


def check_networks(networks: Sequence[str]) -> None:
    if len(networks) > MOST_NETWORKS:
        raise ApiError(ErrorCode.INVALID, f"a token may name {MOST_NETWORKS} networks")
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise ApiError(ErrorCode.INVALID, "networks are written like 10.0.0.0/8 or 2001:db8::/32") from error


async def _joined(tx: Transaction, token_ids: Sequence[str]) -> Joined:
    found: Joined = {}
    for agent in await repository.agents_by_token(tx, token_ids):
        seen = {"agent_id": agent.id, "cluster_id": agent.cluster_id or "", "hostname": agent.hostname}
        found.setdefault(agent.join_token_id, []).append(seen | {"state": agent.state})
    return found


async def _existing_cluster(tx: Transaction, access: Access, wanted: Wanted) -> str:
    if not wanted.cluster_name:
        return ""
    row = await clusters.find(tx, access.org_id, wanted.cluster_name)
    if wanted.rejoin:
        if row is None:
            raise not_found("cluster", wanted.cluster_name)
        access.require(Permission.CLUSTER_MANAGE, Resource(access.org_id, row.id))
        return row.id
    if row is not None and wanted.max_uses == 1:
        raise ApiError(
            ErrorCode.NAME_TAKEN,
            f"a cluster named {wanted.cluster_name} exists already",
            hint="choose another name, or ask for a token to join that host again",
        )
    return ""


async def _token(tx: Transaction, access: Access, token_id: str) -> JoinToken:
    row = await repository.token_by_id(tx, access.org_id, token_id) if is_id(token_id, "jtk") else None
    if row is None:
        raise not_found("join_token", token_id[:64])
    return row


def _row(actor: Actor, wanted: Wanted, token: str, cluster_id: str, moment: datetime) -> JoinToken:
    return JoinToken(
        id=new_id("jtk"),
        org_id=actor.org_id,
        public_id=tokens.public_id(token),
        digest=tokens.digest(token),
        cluster_name=wanted.cluster_name,
        cluster_id=cluster_id,
        labels=dict(wanted.labels),
        networks=list(wanted.networks),
        approval_required=wanted.approval_required,
        max_instances=wanted.max_instances,
        max_uses=wanted.max_uses,
        used=0,
        revoked=False,
        expires_at=moment + timedelta(seconds=wanted.ttl),
        created_at=moment,
        created_by=actor.username,
    )

"""Tokens of older agents: made, taken over from the older system, listed, opened for a move, revoked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import get_args

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.agents.join_tokens import check_networks
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.names import check_name
from towline.control.clusters.selectors import require_labels
from towline.control.db import Database, Transaction
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import is_id, new_id
from towline.control.listing import Listed, ListQuery, fetch
from towline.control.protocols.admission import LONGEST_SECRET, digest
from towline.control.protocols.models import CompatAgent, CompatToken
from towline.control.protocols.names import Protocol
from towline.wire import tokens

PREFIX = "twc"
SHORTEST_SECRET = 8
"""Characters of a secret that is taken over: an older system's may be weak, but less is a typing error."""
LONGEST_OPEN = 30 * 86400.0
"""Seconds of a window: a move takes days, and an open door that nobody closes is none."""
LONGEST_TTL = 10 * 365 * 86400.0
"""Seconds that a token may live; who wants more lets it live until it is revoked."""
SORTS = {"created_at": CompatToken.created_at, "protocol": CompatToken.protocol}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new token shall allow.

    Args: secret: one that agents present already; empty: a new one is made. open_for: seconds in which agents that
        come with a shared token need no approval. ttl: seconds that it lives; 0: until it is revoked.
    """

    protocol: Protocol
    cluster: str = ""
    shared: bool = False
    secret: str = field(default="", repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    open_for: float = 0.0
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token; the only moment at which its text exists here."""

    row: CompatToken
    secret: str = field(repr=False)


class CompatTokens:
    """Rules of these tokens."""

    def __init__(self, db: Database, audit: AuditLog) -> None:
        self._db = db
        self._audit = audit

    async def create(self, access: Access, wanted: Wanted) -> Minted:
        """Make a token. Raises: ApiError: invalid, conflict."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        check(wanted)
        secret = wanted.secret or tokens.mint(PREFIX)
        try:
            async with self._db.begin() as tx:
                row = await self._insert(tx, access, wanted, secret)
        except IntegrityError as error:
            raise ApiError(ErrorCode.CONFLICT, "agents of this kind have a token with this secret already") from error
        return Minted(row, secret)

    async def page(self, access: Access, asked: ListQuery) -> tuple[Listed[CompatToken], dict[str, int]]:
        """Return a page of tokens, newest first, and how many agents each has."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        query = select(CompatToken).where(CompatToken.org_id == access.org_id)
        async with self._db.read() as tx:
            found = await fetch(tx, query, asked, sorts=SORTS, default="-created_at", key=CompatToken.id)
            ids = [row.id for row in found.rows]
            agents = await tx.scalars(select(CompatAgent.token_id).where(CompatAgent.token_id.in_(ids)))
            return found, Counter(agents)

    async def open(self, access: Access, token_id: str, seconds: float) -> CompatToken:
        """Let agents that come with a shared token in without approval for a while; 0 ends that.

        Raises: ApiError: token_not_found, invalid, conflict.
        """
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        if not 0 <= seconds <= LONGEST_OPEN:
            raise ApiError(ErrorCode.INVALID, f"open_for must lie between 0 and {LONGEST_OPEN:g} seconds")
        async with self._db.begin() as tx:
            row = await _row(tx, access, token_id)
            if not row.shared:
                raise ApiError(ErrorCode.CONFLICT, "the token is of one agent, which needs no approval")
            row.open_until = await tx.now() + timedelta(seconds=seconds) if seconds else None
            await self._record(tx, access, row, "open", {"seconds": seconds})
        return row

    async def revoke(self, access: Access, token_id: str) -> None:
        """End a token: who presents it is refused from the next connect on. Raises: ApiError: token_not_found."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        async with self._db.begin() as tx:
            row = await _row(tx, access, token_id)
            row.revoked = True
            await self._record(tx, access, row, "revoke", {})

    async def ensure_shared(self, tx: Transaction, access: Access, protocol: Protocol, secret: str) -> CompatToken:
        """Return the shared token with a secret, made when there is none. Raises: ApiError: forbidden, conflict."""
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        query = select(CompatToken).where(CompatToken.protocol == protocol, CompatToken.digest == digest(secret))
        row = (await tx.execute(query)).scalar_one_or_none()
        if row is None:
            wanted = Wanted(protocol=protocol, shared=True, secret=secret)
            check(wanted)
            return await self._insert(tx, access, wanted, secret)
        if row.org_id != access.org_id or row.revoked or not row.shared:
            why = "was revoked" if row.revoked else "is of one agent alone, or not of this organisation"
            raise ApiError(ErrorCode.CONFLICT, f"there is a token with this secret already, which {why}")
        return row

    async def _insert(self, tx: Transaction, access: Access, wanted: Wanted, secret: str) -> CompatToken:
        moment = await tx.now()
        cluster = await clusters.find(tx, access.org_id, wanted.cluster) if wanted.cluster else None
        if cluster is not None:
            access.require(Permission.CLUSTER_MANAGE, Resource(access.org_id, cluster.id))
        row = CompatToken(
            id=new_id("ctk"),
            org_id=access.org_id,
            protocol=wanted.protocol,
            digest=digest(secret),
            shared=wanted.shared,
            cluster_name="" if cluster is not None else wanted.cluster,
            cluster_id=cluster.id if cluster is not None else "",
            labels=dict(wanted.labels),
            networks=list(wanted.networks),
            open_until=moment + timedelta(seconds=wanted.open_for) if wanted.open_for else None,
            expires_at=moment + timedelta(seconds=wanted.ttl) if wanted.ttl else None,
            created_at=moment,
            created_by=access.actor.username[:80],
        )
        tx.add(row)
        await tx.flush()
        await self._record(tx, access, row, "create", {"shared": row.shared, "taken_over": bool(wanted.secret)})
        return row

    async def _record(
        self, tx: Transaction, access: Access, row: CompatToken, verb: str, detail: dict[str, object]
    ) -> None:
        await self._audit.record(
            tx, access.actor, action=f"compat_token.{verb}", target_kind="compat_token", target_id=row.id,
            target_name=row.cluster_name, cluster_id=row.cluster_id, detail={"protocol": row.protocol, **detail},
        )  # fmt: skip


def check(wanted: Wanted) -> None:
    """Raises: ApiError: invalid, with what is wrong."""
    if wanted.protocol not in get_args(Protocol):
        raise ApiError(ErrorCode.INVALID, f"protocol is one of {', '.join(get_args(Protocol))}")
    if wanted.secret and not SHORTEST_SECRET <= len(wanted.secret) <= LONGEST_SECRET:
        raise ApiError(ErrorCode.INVALID, f"a secret has {SHORTEST_SECRET} to {LONGEST_SECRET} characters")
    if wanted.shared and wanted.cluster:
        raise ApiError(ErrorCode.INVALID, "agents with a shared token are clusters of their own: name none")
    if not wanted.shared and wanted.open_for:
        raise ApiError(ErrorCode.INVALID, "only a shared token has a window in which nobody needs approval")
    if not 0 <= wanted.open_for <= LONGEST_OPEN or not 0 <= wanted.ttl <= LONGEST_TTL:
        raise ApiError(ErrorCode.INVALID, f"open_for is at most {LONGEST_OPEN:g} seconds, ttl at most {LONGEST_TTL:g}")
    if wanted.cluster:
        check_name(wanted.cluster)
    require_labels(wanted.labels)
    check_networks(wanted.networks)


async def _row(tx: Transaction, access: Access, token_id: str) -> CompatToken:
    row = await tx.get(CompatToken, token_id) if is_id(token_id, "ctk") else None
    if row is None or row.org_id != access.org_id:
        raise not_found("token", token_id[:64])
    return row

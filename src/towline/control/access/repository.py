"""Queries of identity. Every one that is not a sign-in names the organisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, or_, select, update

from towline.control.access.models import (
    ApiToken,
    Grant,
    KubernetesToken,
    Organisation,
    Session,
    SetupToken,
    Ticket,
    User,
)
from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.db import Transaction, now

USED_EVERY = 60.0
"""Seconds between two notes of "last used": more often would make every read a write."""


def reach_from(stored: dict[str, object]) -> Reach:
    """Read a stored reach; unknown fields are ignored, an unknown kind is an error of ours."""
    selector = stored.get("selector")
    return Reach(
        kind=ScopeKind(str(stored.get("kind", "org"))),
        selector=tuple(sorted((str(key), str(value)) for key, value in selector.items()))
        if isinstance(selector, dict)
        else (),
        cluster_id=str(stored.get("cluster_id", "")),
        project=str(stored.get("project", "")),
        namespace=str(stored.get("namespace", "")),
    )


@dataclass(frozen=True, slots=True)
class KnownSession:
    session: Session
    user: User


async def session_by_hash(tx: Transaction, secret_hash: str, idle: float) -> KnownSession | None:
    """Return a session that is neither expired nor idle for too long, of a user who may still sign in."""
    fresh = now(-idle)
    query = (
        select(Session, User)
        .join(User, User.id == Session.user_id)
        .where(Session.secret_hash == secret_hash, Session.expires_at > now(), Session.used_at > fresh, User.active)
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else KnownSession(row[0], row[1])


async def session_by_id(tx: Transaction, session_id: str, idle: float) -> KnownSession | None:
    """As `session_by_hash`, for a stream that holds no secret any more."""
    secret_hash = await tx.scalar(select(Session.secret_hash).where(Session.id == session_id))
    return None if secret_hash is None else await session_by_hash(tx, secret_hash, idle)


async def token_by_hash(tx: Transaction, secret_hash: str) -> ApiToken | None:
    """Return a token that is neither expired nor revoked, and whose user may still sign in."""
    return (await tx.execute(_live_token().where(ApiToken.secret_hash == secret_hash))).scalar_one_or_none()


async def token_by_id(tx: Transaction, token_id: str) -> ApiToken | None:
    return (await tx.execute(_live_token().where(ApiToken.id == token_id))).scalar_one_or_none()


def _live_token() -> Select[ApiToken]:
    return (
        select(ApiToken)
        .outerjoin(User, User.id == ApiToken.user_id)
        .where(
            ApiToken.revoked_at.is_(None),
            or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > now()),
            or_(ApiToken.user_id == "", User.active),
        )
    )


async def user_by_id(tx: Transaction, user_id: str) -> User | None:
    return await tx.get(User, user_id)


async def org_name(tx: Transaction, org_id: str) -> str:
    return await tx.scalar(select(Organisation.name).where(Organisation.id == org_id)) or ""


async def rights_of(tx: Transaction, org_id: str, kind: str, subject_id: str) -> tuple[Right, ...]:
    """Return every right that a user or a service token was granted."""
    query = select(Grant.role, Grant.reach).where(
        Grant.org_id == org_id, Grant.subject_kind == kind, Grant.subject_id == subject_id
    )
    return tuple(Right(Role(role), reach_from(reach)) for role, reach in (await tx.execute(query)).all())


async def note_used(tx: Transaction, table: type[Session] | type[ApiToken], row_id: str) -> None:
    """Write down that a session or token was used, unless that was done within the minute."""
    stale = or_(table.used_at.is_(None), table.used_at < now(-USED_EVERY))
    await tx.execute(update(table).where(table.id == row_id, stale).values(used_at=now()))


async def redeem_ticket(tx: Transaction, secret_hash: str) -> tuple[str, str] | None:
    """Use a ticket up, in one statement. Returns its session and token ids."""
    statement = (
        update(Ticket)
        .where(Ticket.secret_hash == secret_hash, Ticket.used_at.is_(None), Ticket.expires_at > now())
        .values(used_at=now())
        .returning(Ticket.session_id, Ticket.token_id)
    )
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else (row.session_id, row.token_id)


async def kubernetes_parent(tx: Transaction, secret_hash: str) -> tuple[str, str] | None:
    """Return the session and token ids that a Kubernetes token was made with; whether they still hold is not said."""
    query = select(KubernetesToken.session_id, KubernetesToken.token_id).where(
        KubernetesToken.secret_hash == secret_hash, KubernetesToken.expires_at > now()
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else (row.session_id, row.token_id)


async def has_users(tx: Transaction) -> bool:
    return bool(await tx.scalar(select(func.count()).select_from(User)))


async def owners(tx: Transaction, org_id: str) -> Sequence[str]:
    """Return the active users who own the whole organisation; it must never be empty."""
    query = (
        select(User.id, Grant.reach)
        .join(Grant, (Grant.subject_id == User.id) & (Grant.subject_kind == "user"))
        .where(User.org_id == org_id, User.active, Grant.org_id == org_id, Grant.role == Role.OWNER.value)
    )
    return [user_id for user_id, reach in (await tx.execute(query)).all() if reach_from(reach).kind is ScopeKind.ORG]


async def ensure_org(tx: Transaction, org_id: str, name: str) -> None:
    if await tx.get(Organisation, org_id) is None:
        tx.add(Organisation(id=org_id, name=name, created_at=await tx.now()))
        await tx.flush()


async def put_setup_token(tx: Transaction, secret_hash: str, lifetime: timedelta) -> datetime:
    """Replace the setup token; there is only ever one."""
    expires_at = await tx.now() + lifetime
    row = await tx.get(SetupToken, 1)
    if row is None:
        tx.add(SetupToken(id=1, secret_hash=secret_hash, expires_at=expires_at))
    else:
        row.secret_hash, row.expires_at = secret_hash, expires_at
    return expires_at

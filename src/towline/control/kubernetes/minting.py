"""Makes the tokens that kubectl's plugin hands out: for Kubernetes alone, for an hour at most.

A token is bound to the session or API token that asked for it: whatever ends that one (revoked, expired, the user
disabled or removed) ends it too, and it never allows more. Requests are throttled per parent, and old rows are swept,
so their number is bounded. Who a token speaks for is found by `access.service`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from towline.control.access import repository, secrets
from towline.control.access.actor import Access, Actor
from towline.control.access.models import KubernetesToken, Session
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

LIFETIME = timedelta(hours=1)
"""Long enough that few commands meet the end of it, short enough to be worthless in an old backup of a laptop."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token; the secret is in this value and nowhere else."""

    secret: str
    made_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        return f"<Minted until {self.expires_at}>"


async def mint(control: ControlPlane, access: Access) -> Minted:
    """Make a token for whoever asks. Raises: ApiError: unauthenticated, when what they asked with ended just now."""
    secret, actor = secrets.mint("twk"), access.actor
    async with control.db.begin() as tx:
        made_at = await tx.now()
        expires_at = min(made_at + LIFETIME, await _end_of_parent(tx, actor))
        tx.add(
            KubernetesToken(
                secret_hash=secrets.hashed(secret), org_id=actor.org_id, session_id=actor.session_id,
                token_id=actor.token_id, created_at=made_at, expires_at=expires_at,
            )
        )  # fmt: skip
        await control.audit.record(
            tx, actor, action="kubernetes.token", target_kind="token" if actor.token_id else "session",
            target_id=actor.token_id or actor.session_id, detail={"expires_at": expires_at.isoformat()},
        )  # fmt: skip
    return Minted(secret, made_at, expires_at)


async def _end_of_parent(tx: Transaction, actor: Actor) -> datetime:
    """Return when the session or token of an actor ends at the latest."""
    if actor.token_id:
        token = await repository.token_by_id(tx, actor.token_id)
        if token is not None:
            return token.expires_at or await tx.now() + LIFETIME
    elif (session := await tx.get(Session, actor.session_id)) is not None:
        return session.expires_at
    raise ApiError(ErrorCode.UNAUTHENTICATED, "the session or token has ended", hint="sign in again")

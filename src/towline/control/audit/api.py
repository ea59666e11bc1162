"""REST routes of the audit log: reading it and proving it whole. Nothing here writes."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from sqlalchemy import select

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.audit.models import AuditEvent
from towline.control.audit.service import verify
from towline.control.listing import ListQuery, Page, contains, fetch, list_query, page

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Reader = Annotated[Access, needs(Permission.AUDIT_READ)]
Word = Annotated[str, Query(max_length=128)]


class EventOut(BaseModel):
    id: str
    seq: int
    at: datetime
    actor: dict[str, str]
    action: str
    target: dict[str, str]
    cluster_id: str
    result: str
    reason: str
    detail: dict[str, Any]
    request_id: str
    hash: str


class VerdictOut(BaseModel):
    ok: bool
    events: int
    first_seq: int
    last_seq: int
    broken_seq: int
    reason: str
    oldest_at: datetime | None


@router.get("")
async def list_events(
    request: Request,
    access: Reader,
    query: Annotated[ListQuery, Depends(list_query)],
    actor: Word = "",
    action: Word = "",
    cluster: Word = "",
    target: Word = "",
    result: Annotated[str, Query(pattern="^(done|refused|failed|)$")] = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[EventOut]:
    """List events, newest first. `action` may end in `*`."""
    access.require_org(Permission.AUDIT_READ)
    rows = select(AuditEvent).where(AuditEvent.org_id == access.org_id)
    if actor:
        rows = rows.where((AuditEvent.actor_name == actor) | (AuditEvent.actor_id == actor))
    if action:
        exact = AuditEvent.action == action
        rows = rows.where(AuditEvent.action.startswith(action[:-1], autoescape=True) if action.endswith("*") else exact)
    if cluster:
        rows = rows.where(AuditEvent.cluster_id == cluster)
    if target:
        rows = rows.where((AuditEvent.target_id == target) | (AuditEvent.target_name == target))
    if result:
        rows = rows.where(AuditEvent.result == result)
    if since:
        rows = rows.where(AuditEvent.at >= aware(since))
    if until:
        rows = rows.where(AuditEvent.at < aware(until))
    if query.search:
        rows = rows.where(contains(AuditEvent.target_name, query.search) | contains(AuditEvent.action, query.search))
    async with request.app.state.control.db.read() as tx:
        found = await fetch(tx, rows, query, sorts={"seq": AuditEvent.seq}, default="-seq", key=AuditEvent.seq)
    return page(found, event_out)


@router.get("/verify")
async def verify_chain(request: Request, access: Reader) -> VerdictOut:
    """Walk the chain of hashes and say whether anything was changed or removed."""
    access.require_org(Permission.AUDIT_READ)
    found = await verify(request.app.state.control.db)
    return VerdictOut(
        ok=found.ok, events=found.events, first_seq=found.first_seq, last_seq=found.last_seq,
        broken_seq=found.broken_seq, reason=found.reason, oldest_at=found.oldest_at,
    )  # fmt: skip


def aware(moment: datetime) -> datetime:
    """A moment without zone is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def event_out(row: AuditEvent) -> EventOut:
    actor = {"kind": row.actor_kind, "id": row.actor_id, "name": row.actor_name}
    actor |= {"token_id": row.token_id, "address": row.address}
    return EventOut(
        id=row.id, seq=row.seq, at=row.at, actor=actor, action=row.action, cluster_id=row.cluster_id, result=row.result,
        target={"kind": row.target_kind, "id": row.target_id, "name": row.target_name}, reason=row.reason,
        detail=row.detail, request_id=row.request_id, hash=row.hash,
    )  # fmt: skip

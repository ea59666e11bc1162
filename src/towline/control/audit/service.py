"""Writing the audit log and proving that nobody changed it.

Every event holds the hash of the one before it. The head row is locked last in a transaction (`before_commit`), so
that two changes never wait for each other in both directions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, select, update

from towline.control.access.actor import Actor
from towline.control.audit.models import AuditEvent, AuditHead
from towline.control.db import Database, Transaction, execute_many, upsert
from towline.control.ids import new_id
from towline.control.logging import get_logger, redact_value

_log = get_logger("audit")

Result = Literal["done", "refused", "failed"]
Draft = dict[str, Any]
"""The columns of an event that is not in the chain yet."""
GENESIS = "0" * 64
VERIFY_BATCH = 1000
"""Rows read at once while the chain is checked: a few hundred KiB."""
REASON_CHARACTERS = 500
"""A reason is one or two sentences; anything longer came from somebody's input."""


class AuditLog:
    """The one door to the audit table. Args: counted: told the result of each committed event."""

    def __init__(self, counted: Callable[[Result], object] = lambda result: None) -> None:
        self._counted = counted

    def __repr__(self) -> str:
        return "<AuditLog>"

    async def record(
        self,
        place: Transaction | Database,
        actor: Actor,
        *,
        action: str,
        target_kind: str = "",
        target_id: str = "",
        target_name: str = "",
        cluster_id: str = "",
        result: Result = "done",
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an event: in the caller's transaction, or in one of its own when given the database.

        Args: action: `KIND.VERB`, e.g. `deployment.deploy`. detail: never a secret; known ones are blotted out.
        """
        event = draft(
            actor,
            action=action,
            target_kind=target_kind,
            target_id=target_id,
            target_name=target_name,
            cluster_id=cluster_id,
            result=result,
            reason=reason,
            detail=detail,
        )
        if isinstance(place, Database):
            async with place.begin() as tx:
                tx.before_commit(lambda tx: _append_all(tx, [event]))
                tx.publish("audit", id=event["id"])
                tx.after_commit.append(lambda: self._counted(result))
        else:
            place.before_commit(lambda tx: _append_all(tx, [event]))
            place.publish("audit", id=event["id"])
            place.after_commit.append(lambda: self._counted(result))
        _log.info(
            "audit", action=action, result=result, actor=actor.username, target=target_name or target_id, why=reason
        )

    def record_all(self, tx: Transaction, events: Sequence[Draft]) -> None:
        """Append events from `draft` with the caller's transaction, with one look at the chain for all of them."""
        if not events:
            return
        tx.before_commit(lambda tx: _append_all(tx, events))
        tx.publish("audit", id=events[-1]["id"])
        tx.after_commit.append(lambda: [self._counted(event["result"]) for event in events])

    async def append(self, db: Database, events: Sequence[Draft]) -> None:
        """Append events from `draft` in one transaction, for what happens more often than a disk can follow one by one.

        Raises: ApiError: none of them was written.
        """
        async with db.begin() as tx:
            tx.before_commit(lambda tx: _append_all(tx, events))
            tx.publish("audit", id=events[-1]["id"])
        for event in events:
            self._counted(event["result"])


def draft(
    actor: Actor,
    *,
    action: str,
    target_kind: str = "",
    target_id: str = "",
    target_name: str = "",
    cluster_id: str = "",
    result: Result = "done",
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> Draft:
    """Return an event without its place in the chain; arguments as in `AuditLog.record`."""
    event = Draft(
        id=new_id("aud"),
        org_id=actor.org_id,
        actor_kind=actor.kind,
        actor_id=actor.user_id,
        actor_name=actor.username,
        token_id=actor.token_id,
        address=actor.address,
        request_id=actor.request_id,
        action=action,
        target_kind=target_kind,
        target_id=target_id,
        target_name=target_name,
        cluster_id=cluster_id,
        result=result,
        reason=redact_value(reason[:REASON_CHARACTERS]),
        detail=redact_value(dict(detail or {})),
    )
    return {column: _storable(value) for column, value in event.items()}


def _storable(value: Any) -> Any:
    """Show what PostgreSQL does not take: NUL, and halves of characters. One such event would fail all of its batch."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return value.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


async def _append_all(tx: Transaction, events: Sequence[Draft]) -> None:
    """Give events their places in the chain, with one look at its head for all of them."""
    head = update(AuditHead).where(AuditHead.id == 1).values(seq=AuditHead.seq + len(events))
    row = (await tx.execute(head.returning(AuditHead.seq, AuditHead.hash))).one_or_none()
    if row is None:  # the first event ever, perhaps of two at once
        await upsert(tx, AuditHead, [{"id": 1}], key=["id"], defaults={"seq": 0, "hash": GENESIS})
        row = (await tx.execute(head.returning(AuditHead.seq, AuditHead.hash))).one()
    moment, before = await tx.now(), row.hash
    for seq, event in enumerate(events, row.seq - len(events) + 1):
        event |= {"seq": seq, "prev_hash": before, "at": moment}
        event["hash"] = before = _hash(event)
    await execute_many(tx, insert(AuditEvent), events)
    await tx.execute(update(AuditHead).where(AuditHead.id == 1).values(hash=before))


def chain_hash(event: AuditEvent) -> str:
    """Return the hash over every field but itself, in a form that both databases give back unchanged."""
    return _hash({column.key: getattr(event, column.key) for column in AuditEvent.__table__.columns})


def _hash(event: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in event.items() if name != "hash"}
    fields["at"] = event["at"].isoformat(timespec="microseconds")
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk over the chain found."""

    ok: bool
    events: int
    first_seq: int = 0
    last_seq: int = 0
    broken_seq: int = 0
    reason: str = ""
    oldest_at: datetime | None = None


async def verify(db: Database) -> Verdict:
    """Walk the whole chain. It may begin behind events that retention removed, and must end at the head."""
    seen, first, last_seq, last_hash, oldest = 0, 0, 0, "", None
    async with db.read() as tx:
        head = (await tx.execute(select(AuditHead).where(AuditHead.id == 1))).scalar_one_or_none()
        while True:
            query = select(AuditEvent).where(AuditEvent.seq > last_seq).order_by(AuditEvent.seq).limit(VERIFY_BATCH)
            batch = (await tx.execute(query)).scalars().all()
            for event in batch:
                reason = _broken(event, last_seq if seen else event.seq - 1, last_hash or event.prev_hash)
                if reason:
                    return Verdict(False, seen, first, last_seq, event.seq, reason, oldest)
                seen, last_seq, last_hash = seen + 1, event.seq, event.hash
                first, oldest = first or event.seq, oldest or event.at
            if len(batch) < VERIFY_BATCH:
                break
            tx.expunge_all()
    if head is not None and seen and (head.seq, head.hash) != (last_seq, last_hash):
        return Verdict(False, seen, first, last_seq, head.seq, "the newest events are missing", oldest)
    return Verdict(True, seen, first, last_seq, oldest_at=oldest)


def _broken(event: AuditEvent, last_seq: int, last_hash: str) -> str:
    if event.seq != last_seq + 1:
        return "events are missing before this one"
    if event.prev_hash != last_hash:
        return "it does not follow the one before it"
    return "" if chain_hash(event) == event.hash else "it was changed"


__all__ = ["AuditLog", "Draft", "Result", "Verdict", "chain_hash", "draft", "verify"]

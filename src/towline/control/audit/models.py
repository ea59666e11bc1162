"""The table of audit events and the head of their chain. Rows are never changed; triggers see to it."""

from datetime import datetime
from typing import Any

from sqlalchemy import DDL, BigInteger, Index, Integer, String, event
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

YOUNGEST_DELETABLE_DAYS = 30
"""Retention never deletes an event younger than this, whatever the setting says: the trigger refuses it."""


class AuditEvent(Base):
    """One change, or one refused change."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_org_seq", "org_id", "seq"), Index("ix_audit_event_org_at", "org_id", "at"))

    seq: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False
    )
    """Counts from 1 without gaps over the whole installation."""
    id: Mapped[str] = mapped_column(String(64), unique=True)
    org_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    actor_kind: Mapped[str]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    token_id: Mapped[str]
    address: Mapped[str]
    request_id: Mapped[str]
    action: Mapped[str]
    target_kind: Mapped[str]
    target_id: Mapped[str]
    target_name: Mapped[str]
    cluster_id: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]
    prev_hash: Mapped[str]
    hash: Mapped[str]


class AuditHead(Base):
    """The last link of the chain. One row; whoever appends locks it."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]


SQLITE_TRIGGERS = (
    "CREATE TRIGGER IF NOT EXISTS audit_event_is_final BEFORE UPDATE ON audit_event "
    "BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END",
    "CREATE TRIGGER IF NOT EXISTS audit_event_is_kept BEFORE DELETE ON audit_event "
    f"WHEN OLD.at > strftime('%Y-%m-%d %H:%M:%f', 'now', '-{YOUNGEST_DELETABLE_DAYS} days') "
    "BEGIN SELECT RAISE(ABORT, 'audit events are kept'); END",
)
POSTGRES_TRIGGERS = (
    "CREATE OR REPLACE FUNCTION audit_event_guard() RETURNS trigger LANGUAGE plpgsql AS $guard$ BEGIN "
    "IF TG_OP = 'DELETE' AND OLD.at < now() - interval "
    f"'{YOUNGEST_DELETABLE_DAYS} days' THEN RETURN OLD; END IF; "
    "RAISE EXCEPTION 'audit events are never changed'; END $guard$",
    "CREATE OR REPLACE TRIGGER audit_event_is_final BEFORE UPDATE OR DELETE ON audit_event "
    "FOR EACH ROW EXECUTE FUNCTION audit_event_guard()",
)


def _when_created(statement: str, dialect: str) -> None:
    """Make a trigger with the table; the first migration names the same statements."""
    ddl: DDL = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
    event.listen(AuditEvent.__table__, "after_create", ddl.execute_if(dialect=dialect))


for _statement in SQLITE_TRIGGERS:
    _when_created(_statement, "sqlite")
for _statement in POSTGRES_TRIGGERS:
    _when_created(_statement, "postgresql")

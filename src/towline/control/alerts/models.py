"""Tables of alerts. Columns only; every query is in `repository` and `outbox`.

An alert is one row for each rule and subject, for ever the same one: what changes is its state. That it was told is
written together with the message, so that nothing is told twice whatever ends the process.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(64)
NAME = String(255)
SUBJECT_CHARACTERS = 400
SUMMARY_CHARACTERS = 500
ERROR_CHARACTERS = 300


class Alert(Base):
    """What a rule says about one subject. It outlives its cluster, so names stand beside ids."""

    __tablename__ = "alert"
    __table_args__ = (
        UniqueConstraint("org_id", "rule", "subject"),
        Index("ix_alert_org_id_state", "org_id", "state", "changed_at"),
        Index("ix_alert_cluster_id", "cluster_id", "state"),
        Index("ix_alert_due_at", "due_at"),
        Index("ix_alert_tell_at", "tell_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    rule: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(SUBJECT_CHARACTERS))
    """What tells it from the rule's others: ids and names, for programs."""
    name: Mapped[str] = mapped_column(NAME)
    """What people call the subject."""
    cluster_id: Mapped[str] = mapped_column(ID, default="")
    """Empty: of the whole organisation."""
    cluster_name: Mapped[str] = mapped_column(NAME, default="")
    project: Mapped[str] = mapped_column(NAME, default="")
    namespace: Mapped[str] = mapped_column(NAME, default="")
    page: Mapped[str] = mapped_column(String(700), default="")
    """Path of the page that shows the subject."""

    state: Mapped[str] = mapped_column(String(12))
    """One of `states.State`."""
    severity: Mapped[str] = mapped_column(String(12))
    summary: Mapped[str] = mapped_column(String(SUMMARY_CHARACTERS), default="")
    began_at: Mapped[datetime]
    """When it was seen first, this time."""
    fired_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    absent_at: Mapped[datetime | None]
    """Since when it is not seen any more; None while it is."""
    lasting: Mapped[bool] = mapped_column(default=False)
    """The agent tells of the subject until it is well or gone."""
    changed_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    """When time alone moves it on."""
    times: Mapped[int] = mapped_column(default=0)
    """How often it fired."""

    tell: Mapped[str] = mapped_column(String(12), default="")
    """What nobody was told yet: `firing`, `resolved`, or nothing."""
    tell_at: Mapped[datetime | None]
    """When it is told, with whatever its group has by then."""
    told: Mapped[list[str]] = mapped_column(default=list)
    """Channels that were told that it fires, and will be told that it ended."""

    def __repr__(self) -> str:
        return f"<Alert {self.rule} {self.name} {self.state}>"


class AlertRule(Base):
    """What an organisation does differently from the catalogue; None follows it."""

    __tablename__ = "alert_rule"

    org_id: Mapped[str] = mapped_column(ID, primary_key=True)
    rule: Mapped[str] = mapped_column(String(40), primary_key=True)
    enabled: Mapped[bool | None]
    after_seconds: Mapped[float | None]
    clear_seconds: Mapped[float | None]
    threshold: Mapped[float | None]
    severity: Mapped[str | None] = mapped_column(String(12))
    channels: Mapped[list[str] | None]
    """Ids; None: every channel."""
    changed_by: Mapped[str] = mapped_column(NAME, default="")
    changed_at: Mapped[datetime]


class AlertSilence(Base):
    """Nothing is told of what it covers, until it ends."""

    __tablename__ = "alert_silence"
    __table_args__ = (Index("ix_alert_silence_org_id_ends_at", "org_id", "ends_at"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    cluster_id: Mapped[str] = mapped_column(ID, default="")
    """Empty: everywhere."""
    cluster_name: Mapped[str] = mapped_column(NAME, default="")
    rule: Mapped[str] = mapped_column(String(40), default="")
    """Empty: every rule."""
    reason: Mapped[str] = mapped_column(String(500))
    created_by: Mapped[str] = mapped_column(NAME)
    created_at: Mapped[datetime]
    ends_at: Mapped[datetime]


class AlertChannel(Base):
    """Where an organisation's alerts go. Whatever may be secret in it is sealed, its address included."""

    __tablename__ = "alert_channel"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(63))
    kind: Mapped[str] = mapped_column(String(12))
    """`email` or `webhook`."""
    enabled: Mapped[bool] = mapped_column(default=True)
    shown: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What everybody who manages channels may see of it."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    version: Mapped[int] = mapped_column(default=1)
    """Grows with each change; part of what seals it."""
    created_by: Mapped[str] = mapped_column(NAME)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    """When something last arrived."""
    failing_at: Mapped[datetime | None]
    """Since when nothing arrives; None while it does."""
    error: Mapped[str] = mapped_column(String(ERROR_CHARACTERS), default="")
    """Why the last try failed; empty when it did not."""

    def __repr__(self) -> str:
        return f"<AlertChannel {self.name} {self.kind}>"


class AlertMessage(Base):
    """One message to one channel: written with what it tells, sent at least once."""

    __tablename__ = "alert_message"
    __table_args__ = (
        Index("ix_alert_message_channel_id", "channel_id", "state", "id"),
        Index("ix_alert_message_state", "state", "next_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    """Sortable by birth: a channel's messages go in this order."""
    org_id: Mapped[str] = mapped_column(ID)
    channel_id: Mapped[str] = mapped_column(ID)
    body: Mapped[str] = mapped_column(Text)
    """The JSON that a webhook gets; a mail is written from it. The same at each try."""
    state: Mapped[str] = mapped_column(String(12))
    """`waiting`, `sent`, or `dropped`."""
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(String(ERROR_CHARACTERS), default="")
    created_at: Mapped[datetime]
    next_at: Mapped[datetime]
    """Nobody tries before; while somebody does, when others would."""
    ended_at: Mapped[datetime | None]
    owner: Mapped[str] = mapped_column(String(64), default="")

    def __repr__(self) -> str:
        return f"<AlertMessage {self.id} {self.state}>"

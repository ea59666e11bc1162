"""Tables of recordings: what was recorded, and what a cluster's policy says differently. What was shown is in files."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)
NAME = String(255)


class Recording(Base):
    """One session. It outlives its cluster and its user, so names stand beside ids."""

    __tablename__ = "recording"
    __table_args__ = (
        Index("ix_recording_org_id_began_at", "org_id", "began_at"),
        Index("ix_recording_cluster_id_place", "cluster_id", "namespace", "target"),
        Index("ix_recording_expires_at", "expires_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    cluster_id: Mapped[str] = mapped_column(ID)
    cluster_name: Mapped[str] = mapped_column(NAME)
    kind: Mapped[str] = mapped_column(String(16))
    """docker or kubernetes."""
    action: Mapped[str] = mapped_column(String(16))
    """exec or attach."""
    namespace: Mapped[str] = mapped_column(NAME, default="")
    project: Mapped[str] = mapped_column(NAME, default="")
    target: Mapped[str] = mapped_column(NAME, default="")
    """The pod, or the service or container on a Docker host."""
    container: Mapped[str] = mapped_column(NAME, default="")
    command: Mapped[str] = mapped_column(String(4000), default="")
    tty: Mapped[bool] = mapped_column(default=False)
    keys: Mapped[bool] = mapped_column(default=False)
    """True: what was typed is in it as well."""
    user_id: Mapped[str] = mapped_column(ID, default="")
    user_name: Mapped[str] = mapped_column(NAME, default="")
    token_id: Mapped[str] = mapped_column(ID, default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    request_id: Mapped[str] = mapped_column(String(80), default="")
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(12))
    """See `states`."""
    reason: Mapped[str] = mapped_column(String(500), default="")
    """Why it ended, or why it is not whole."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    columns: Mapped[int] = mapped_column(default=80)
    rows: Mapped[int] = mapped_column(default=24)
    shown_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    dropped_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    exit: Mapped[str] = mapped_column(String(200), default="")


class RecordingPolicy(Base):
    """What one cluster does differently from the settings; empty fields follow them."""

    __tablename__ = "recording_policy"

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    rules: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Fields of `policy.Policy` by name."""

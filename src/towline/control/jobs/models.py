"""Tables of jobs and of what happened in them. No rules here; payloads hold no secrets."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)
_BIG = BigInteger().with_variant(Integer, "sqlite")


class Job(Base):
    """One piece of work for the agent of a cluster."""

    __tablename__ = "job"
    __table_args__ = (
        Index("uq_job_id", "id", unique=True),
        Index("uq_job_org_id_idem_key", "org_id", "idem_key", unique=True),
        Index(
            "uq_job_active_serial_key",
            "serial_key",
            unique=True,
            sqlite_where=text("state IN ('sent', 'running', 'cancelling') AND serial_key <> ''"),
            postgresql_where=text("state IN ('sent', 'running', 'cancelling') AND serial_key <> ''"),
        ),
        Index("ix_job_state_cluster_id", "state", "cluster_id"),
        Index("ix_job_cluster_id_position", "cluster_id", "position"),
        Index("ix_job_deployment_id", "deployment_id"),
    )

    position: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    """Order of submission: what has one serial key runs in this order."""
    id: Mapped[str] = mapped_column(ID)
    org_id: Mapped[str] = mapped_column(ID)
    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"))
    deployment_id: Mapped[str | None] = mapped_column(ID)
    kind: Mapped[str] = mapped_column(String(64))
    project: Mapped[str] = mapped_column(String(255), default="")
    """Compose project that it is about: grants on projects look at it."""
    serial_key: Mapped[str] = mapped_column(String(400), default="")
    idem_key: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(64), default="")
    attempt: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    """Epoch of the link that the last order went out on."""
    lease_owner: Mapped[str] = mapped_column(String(64), default="")
    lease_token: Mapped[int] = mapped_column(default=0)
    """Grows with every claim; a write with an older one changes nothing."""
    lease_until: Mapped[datetime | None]
    run_after: Mapped[datetime]
    deadline_at: Mapped[datetime | None]
    """When it expires unless begun."""
    timeout: Mapped[float]
    """Seconds that the work may take on the host."""
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str] = mapped_column(Text, default="")
    code: Mapped[str] = mapped_column(String(64), default="")
    created_by: Mapped[str] = mapped_column(String(80), default="")
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    last_seq: Mapped[int] = mapped_column(default=0)
    agent_seq: Mapped[int] = mapped_column(default=0)
    """Newest event of the agent that is stored; older ones come again after a reconnect and are dropped."""


class JobEvent(Base):
    """One line of a job's progress, the agent's and ours in one order."""

    __tablename__ = "job_event"

    job_id: Mapped[str] = mapped_column(ID, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    stage: Mapped[str] = mapped_column(String(64), default="")
    text: Mapped[str] = mapped_column(Text, default="")
    service: Mapped[str] = mapped_column(String(255), default="")
    level: Mapped[str] = mapped_column(String(8), default="info")
    current: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)

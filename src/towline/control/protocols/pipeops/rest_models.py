"""The table of commands that PipeOps REST agents fetch: what their journal would be, if they had one. No rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class PipeopsCommand(Base):
    """One command for one agent. Its id is that of the job."""

    __tablename__ = "pipeops_command"
    __table_args__ = (
        Index("ix_pipeops_command_agent_id_state", "agent_id", "state"),
        Index("ix_pipeops_command_state_lease_until", "state", "lease_until"),
    )

    job_id: Mapped[str] = mapped_column(ID, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    agent_id: Mapped[str] = mapped_column(ID, ForeignKey("agent.id", ondelete="CASCADE"))
    fence: Mapped[int]
    """Epoch of the session that took the order."""
    type: Mapped[str] = mapped_column(String(16))
    """kubectl, docker, compose."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The payload: it may hold what somebody typed. Empty once the command has ended."""
    payload_bytes: Mapped[int]
    """Size of the payload as it is handed out."""
    output_bytes: Mapped[int]
    """Output that is kept."""
    reads: Mapped[bool]
    """It changes nothing."""
    timeout: Mapped[float]
    """Seconds that it may take on the host."""
    state: Mapped[str] = mapped_column(String(10))
    handed: Mapped[int] = mapped_column(default=0)
    """Times that it was handed out."""
    cancelling: Mapped[bool] = mapped_column(default=False)
    seq: Mapped[int] = mapped_column(default=0)
    """Number of the last event that was told of it before its output."""
    lease_until: Mapped[datetime]
    """Until when it must be fetched, or its result be there."""
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ending: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How it ended, with its output, until that is stored with the job."""

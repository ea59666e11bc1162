"""Tables of commands: those that were saved, runs, and the targets of each run. Columns only.

What was typed may hold a secret, so arguments and standard input are sealed; `shown` is the list with masks.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(64)
NAME = String(255)
ERROR_CHARACTERS = 500


class SavedCommand(Base):
    """A command under a name, with parameters."""

    __tablename__ = "command_saved"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(63))
    description: Mapped[str] = mapped_column(String(500), default="")
    program: Mapped[str] = mapped_column(String(12))
    arguments: Mapped[list[str]] = mapped_column(default=list)
    """With `{{name}}` where a parameter goes. No secrets: whoever may run commands reads them."""
    defaults: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Values of parameters that nobody gives."""
    namespace: Mapped[str] = mapped_column(NAME, default="")
    project: Mapped[str] = mapped_column(NAME, default="")
    selector: Mapped[str] = mapped_column(String(1024), default="")
    """Where it runs unless somebody names targets."""
    created_by: Mapped[str] = mapped_column(NAME)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class CommandRun(Base):
    """One command on some targets, for one person."""

    __tablename__ = "command_run"
    __table_args__ = (
        UniqueConstraint("org_id", "idem_key"),
        Index("ix_command_run_org_id_created_at", "org_id", "created_at"),
        Index("ix_command_run_state", "state"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    idem_key: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(12))
    """One of `states.RunState`."""
    program: Mapped[str] = mapped_column(String(12))
    shown: Mapped[list[str]] = mapped_column(default=list)
    """The arguments with secrets masked."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """JSON of arguments and standard input."""
    stdin_bytes: Mapped[int] = mapped_column(default=0)
    writes: Mapped[bool] = mapped_column(default=True)
    namespace: Mapped[str] = mapped_column(NAME, default="")
    project: Mapped[str] = mapped_column(NAME, default="")
    saved: Mapped[str] = mapped_column(String(63), default="")
    selector: Mapped[str] = mapped_column(String(1024), default="")
    wave_size: Mapped[int] = mapped_column(default=0)
    """Targets at once; 0: all."""
    stop_on_failure: Mapped[bool] = mapped_column(default=False)
    timeout: Mapped[float]
    """Seconds that it may take on each target."""
    patience: Mapped[float]
    """Seconds that a target whose agent is away is waited for."""
    output_bytes: Mapped[int]
    """Output that is kept of each target."""
    actor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Who runs it: what their rights are looked up by, each time that a target's turn comes."""
    created_by: Mapped[str] = mapped_column(NAME)
    created_at: Mapped[datetime]
    cancelled_by: Mapped[str] = mapped_column(NAME, default="")
    ended_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<CommandRun {self.id} {self.program} {self.state}>"


class CommandTarget(Base):
    """One cluster of a run. It outlives its cluster and its job, so the name and the end stand here."""

    __tablename__ = "command_target"
    __table_args__ = (
        Index("ix_command_target_job_id", "job_id"),
        Index("ix_command_target_cluster_id", "cluster_id"),
    )

    run_id: Mapped[str] = mapped_column(ID, ForeignKey("command_run.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    cluster_id: Mapped[str] = mapped_column(ID)
    cluster_name: Mapped[str] = mapped_column(NAME)
    wave: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(String(12))
    """One of `states.TargetState`."""
    job_id: Mapped[str] = mapped_column(ID, default="")
    error: Mapped[str] = mapped_column(String(ERROR_CHARACTERS), default="")
    code: Mapped[str] = mapped_column(String(64), default="")
    exit_code: Mapped[int | None]
    stdout_bytes: Mapped[int] = mapped_column(default=0)
    stderr_bytes: Mapped[int] = mapped_column(default=0)
    truncated: Mapped[bool] = mapped_column(default=False)
    answer: Mapped[str] = mapped_column(String(64), default="")
    """Hash over exit code and output: equal answers have an equal one."""
    ended_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<CommandTarget {self.cluster_name} {self.state}>"

"""Tables of deployments, their revisions and their secrets. Columns only; every query is in `repository`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

DEFAULT_SETTLE_SECONDS = 10.0
"""As `compose.health`: long enough to catch a container that dies on its first query, short enough to wait for."""
DEFAULT_KEEP_REVISIONS = 5
"""Good revisions whose images and files stay on the host."""
DEFAULT_PRUNE_SECONDS = 7 * 86400.0
"""Images of old revisions pile up by deploys, not by hours: weekly is enough."""


class Deployment(Base):
    """A Compose project on a cluster, and the settings that outlive its revisions."""

    __tablename__ = "deployment"
    __table_args__ = (
        UniqueConstraint("cluster_id", "name"),
        Index("ix_deployment_org_id_name", "org_id", "name"),
        Index("ix_deployment_org_id_state", "org_id", "state"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(64))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("cluster.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(63))
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    auto_rollback: Mapped[bool] = mapped_column(default=True)
    settle_seconds: Mapped[float] = mapped_column(default=DEFAULT_SETTLE_SECONDS)
    keep_revisions: Mapped[int] = mapped_column(default=DEFAULT_KEEP_REVISIONS)
    policy_level: Mapped[str] = mapped_column(String(16), default="standard")
    scales: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Replicas by service, as `scale` set them; they win over the file until a revision names them anew."""
    prune_interval_seconds: Mapped[float] = mapped_column(default=DEFAULT_PRUNE_SECONDS)
    pruned_at: Mapped[datetime | None] = mapped_column(default=None)

    latest_number: Mapped[int] = mapped_column(default=0)
    desired_number: Mapped[int] = mapped_column(default=0)
    running_number: Mapped[int] = mapped_column(default=0)
    """What the agent last said runs there; 0: none of ours."""
    last_good_number: Mapped[int] = mapped_column(default=0)
    deployed_at: Mapped[datetime | None] = mapped_column(default=None)
    """When a deploy last succeeded: a failure before that is no news."""
    stopped_by: Mapped[str] = mapped_column(String(255), default="")
    folder: Mapped[str] = mapped_column(Text, default="")
    """Where an adopted project lives on the host."""
    removed_at: Mapped[datetime | None] = mapped_column(default=None)

    state: Mapped[str] = mapped_column(String(16), default="unknown")
    """Last verdict of `states`, kept for lists and filters; a page judges anew."""
    reason: Mapped[str] = mapped_column(Text, default="")
    state_since: Mapped[datetime]

    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Deployment {self.name} {self.state} r{self.running_number}/{self.desired_number}>"


class Revision(Base):
    """One immutable version of a deployment. Only its outcome is written later, once."""

    __tablename__ = "revision"
    __table_args__ = (
        UniqueConstraint("deployment_id", "number"),
        UniqueConstraint("deployment_id", "idem_key", name="uq_revision_idem_key"),
        Index("ix_revision_bundle", "org_id", "bundle"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(64))
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployment.id", ondelete="CASCADE"))
    number: Mapped[int]
    source: Mapped[str] = mapped_column(String(16), default="deploy")
    author_id: Mapped[str] = mapped_column(String(64))
    author: Mapped[str] = mapped_column(String(255))
    message: Mapped[str] = mapped_column(Text, default="")
    base_number: Mapped[int] = mapped_column(default=0)
    idem_key: Mapped[str | None] = mapped_column(String(255), default=None)
    idem_hash: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime]

    compose: Mapped[str | None] = mapped_column(Text, default=None)
    """None once retention has dropped the content of an old revision that never was good."""
    sealed_values: Mapped[bytes | None] = mapped_column(LargeBinary, default=None)
    """Env file and values of the variables, sealed: env files hold passwords in practice, whatever they should."""
    has_env: Mapped[bool] = mapped_column(default=False)
    bundle: Mapped[str | None] = mapped_column(String(71), default=None)
    variables: Mapped[list[str]] = mapped_column(default=list)
    """Names only."""
    secrets: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Name to the version in `secret_version`; never a value."""
    registries: Mapped[list[str]] = mapped_column(default=list)
    services: Mapped[list[Any]] = mapped_column(default=list)
    """What it wants of each service, read from the file once: name, image, replicas, one_shot."""

    outcome: Mapped[str] = mapped_column(String(16), default="pending")
    error: Mapped[str] = mapped_column(Text, default="")
    code: Mapped[str] = mapped_column(String(64), default="")
    failing: Mapped[list[Any]] = mapped_column(default=list)
    rolled_back_to: Mapped[int | None] = mapped_column(default=None)
    images: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Service to the digest that ran when it was good: what a rollback runs."""
    job_id: Mapped[str | None] = mapped_column(String(64), default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)

    def __repr__(self) -> str:
        return f"<Revision {self.number} {self.outcome}>"


class SecretVersion(Base):
    """One value of one secret, sealed. Opened only to be sealed again for an agent."""

    __tablename__ = "secret_version"
    __table_args__ = (UniqueConstraint("deployment_id", "name", "version"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(64))
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployment.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(63))
    version: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<SecretVersion {self.name} v{self.version}>"

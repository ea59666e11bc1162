"""Tables of older agents: the tokens that let them in, and who they are in their own system. No rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class CompatToken(Base):
    """A secret that agents of an older system present at every connect. Kept as a hash."""

    __tablename__ = "compat_token"
    __table_args__ = (Index("uq_compat_token_protocol_digest", "protocol", "digest", unique=True),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID, index=True)
    protocol: Mapped[str] = mapped_column(String(16))
    """pipeops, instadeploy."""
    digest: Mapped[str] = mapped_column(String(64))
    """Hex SHA-256 of the secret."""
    shared: Mapped[bool] = mapped_column(default=False)
    """Several agents present it, told apart by what they call themselves; each needs approval. Else it is one agent."""
    cluster_name: Mapped[str] = mapped_column(String(63), default="")
    """Name of the cluster that its agent becomes; empty: from what the agent says."""
    cluster_id: Mapped[str] = mapped_column(ID, default="")
    """An existing cluster that its agent speaks for, beside those that it has."""
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    networks: Mapped[list[str]] = mapped_column(default=list)
    """Networks (CIDR) it may be used from; empty: any."""
    open_until: Mapped[datetime | None]
    """Until then agents that come with a shared token need no approval: the window of a move."""
    revoked: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80), default="")
    last_used_at: Mapped[datetime | None]


class CompatAgent(Base):
    """What an agent of an older system is there."""

    __tablename__ = "compat_agent"
    __table_args__ = (Index("uq_compat_agent_token_id_external_id", "token_id", "external_id", unique=True),)

    agent_id: Mapped[str] = mapped_column(ID, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID, index=True)
    protocol: Mapped[str] = mapped_column(String(16))
    external_id: Mapped[str] = mapped_column(String(255))
    """Its id there: PipeOps' agent id, InstaDeploy's host name. Empty until it is said, for a token of its own."""
    token_id: Mapped[str] = mapped_column(ID, index=True)
    sealed_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """A credential that the agent registered, sealed: used only where `secret_allowed`."""
    secret_allowed: Mapped[bool] = mapped_column(default=False)
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What its protocol has to remember over a restart."""


class CompatNumber(Base):
    """The whole number by which an older system's API knows something that has an id of ours."""

    __tablename__ = "compat_number"
    __table_args__ = (Index("uq_compat_number_org_id_kind_number", "org_id", "kind", "number", unique=True),)

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    """agent (which is a cluster here), deployment."""
    ref: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    number: Mapped[int]

"""Tables of agents: join tokens, agents, and their keys. Secrets are here as hashes only. No rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class JoinToken(Base):
    """An expiring secret that turns a new agent into a known one."""

    __tablename__ = "join_token"
    __table_args__ = (Index("uq_join_token_digest", "digest", unique=True),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID, index=True)
    public_id: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    """Hex SHA-256 of the token."""
    cluster_name: Mapped[str] = mapped_column(String(63), default="")
    """Name of the cluster that its agent becomes; empty: from the host's name."""
    cluster_id: Mapped[str] = mapped_column(ID, default="")
    """An existing cluster that the agent joins, or joins again."""
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    networks: Mapped[list[str]] = mapped_column(default=list)
    """Networks (CIDR) it may be used from; empty: any."""
    approval_required: Mapped[bool] = mapped_column(default=False)
    max_instances: Mapped[int] = mapped_column(default=1)
    """Instances that its agent may run at once: replicas in a cluster, and those that come while others go."""
    max_uses: Mapped[int] = mapped_column(default=1)
    used: Mapped[int] = mapped_column(default=0)
    revoked: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80), default="")


class Agent(Base):
    """A process on a managed host, bound to its keys."""

    __tablename__ = "agent"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID, index=True)
    cluster_id: Mapped[str | None] = mapped_column(ID, ForeignKey("cluster.id", ondelete="SET NULL"), index=True)
    """None once the cluster was removed: the agent is still told so when it comes back."""
    state: Mapped[str] = mapped_column(String(16))
    """active, pending, suspect, revoked, removed."""
    state_reason: Mapped[str] = mapped_column(String(500), default="")
    state_since: Mapped[datetime]

    epoch: Mapped[int] = mapped_column(default=0)
    """Grows with every connect. An order carries it; only the newest link's orders count."""
    generation: Mapped[int] = mapped_column(default=1)
    acked_generation: Mapped[int] = mapped_column(default=1)
    max_instances: Mapped[int] = mapped_column(default=1)
    """1: the generation is counted here. More: each instance has a row of its own, and its own generation."""
    resync: Mapped[bool] = mapped_column(default=False)
    """Re-admitted: the next generation presented counts, whatever it is."""
    instance_id: Mapped[str] = mapped_column(String(64), default="")
    owner: Mapped[str] = mapped_column(String(64), default="")
    """Replica that holds the link; empty when none does."""
    takeovers: Mapped[list[Any]] = mapped_column(default=list)
    """Recent [seconds, instance id]: who pushed a live instance aside."""
    rivals: Mapped[list[Any]] = mapped_column(default=list)
    """What an admin sees when it is suspect: instance, generation, address and time of each attempt."""

    protocol: Mapped[str] = mapped_column(String(16), default="towline", server_default="towline")
    """What it speaks: shown to people, and asked by nothing that deals with sessions."""
    hostname: Mapped[str] = mapped_column(String(255), default="")
    version: Mapped[str] = mapped_column(String(64), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    sealing_key: Mapped[bytes] = mapped_column(LargeBinary)
    """X25519 public key: what is meant for this host alone is sealed to it."""
    join_token_id: Mapped[str] = mapped_column(ID, index=True)
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    rotate_requested_at: Mapped[datetime | None]


class AgentInstance(Base):
    """One of several declared installations of an agent that share its key: a pod of a Deployment with replicas."""

    __tablename__ = "agent_instance"

    agent_id: Mapped[str] = mapped_column(ID, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    """What its processes' instance ids begin with."""
    instance_id: Mapped[str] = mapped_column(String(64))
    """Of the process that connected last."""
    epoch: Mapped[int] = mapped_column(default=0)
    """The agent's epoch at that connect."""
    generation: Mapped[int] = mapped_column(default=0)
    acked_generation: Mapped[int] = mapped_column(default=0)
    takeovers: Mapped[list[Any]] = mapped_column(default=list)
    suspect_reason: Mapped[str] = mapped_column(String(500), default="")
    """Why this installation alone is turned away; its successor is a new one."""
    version: Mapped[str] = mapped_column(String(64), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class AgentKey(Base):
    """An identity key. An agent has one, or two while it changes: the old one ends a day after the new one's use."""

    __tablename__ = "agent_key"
    __table_args__ = (Index("uq_agent_key_public_key", "public_key", unique=True),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    agent_id: Mapped[str] = mapped_column(ID, ForeignKey("agent.id", ondelete="CASCADE"), index=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """Set on the old key when the new one was used; refused afterwards."""


class TrustState(Base):
    """What agents were last told to trust, so that a change is noticed and numbered. One row."""

    __tablename__ = "trust_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]

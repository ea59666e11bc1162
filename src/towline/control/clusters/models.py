"""Tables of clusters: the cluster, its labels, and the last known inventory of its hosts. No rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)
NAME = String(63)


class Cluster(Base):
    """One place where things run. What its agents report is kept as they reported it, also while they are away."""

    __tablename__ = "cluster"
    __table_args__ = (Index("uq_cluster_org_id_name", "org_id", "name", unique=True),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(NAME)
    description: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80), default="")

    health_state: Mapped[str] = mapped_column(String(16), default="unknown")
    health_reason: Mapped[str] = mapped_column(String(500), default="")
    health_since: Mapped[datetime]

    capabilities: Mapped[list[Any]] = mapped_column(default=list)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    facts_at: Mapped[datetime | None]
    heartbeat: Mapped[dict[str, Any]] = mapped_column(default=dict)
    last_seen_at: Mapped[datetime | None]
    inventory_at: Mapped[datetime | None]

    connected: Mapped[bool] = mapped_column(default=False)
    connected_since: Mapped[datetime | None]
    link_address: Mapped[str] = mapped_column(String(64), default="")
    link_reconnects: Mapped[int] = mapped_column(default=0)
    link_last_error: Mapped[str] = mapped_column(String(500), default="")


class ClusterLabel(Base):
    """One label; rows of their own, so that selectors are SQL on every database."""

    __tablename__ = "cluster_label"
    __table_args__ = (Index("ix_cluster_label_key_value", "key", "value"),)

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(NAME, primary_key=True)
    value: Mapped[str] = mapped_column(NAME, default="")


class InventoryContainer(Base):
    """A container that the agent saw last. `data` is the whole report; the other columns are for searching."""

    __tablename__ = "inventory_container"
    __table_args__ = (Index("ix_inventory_container_project", "cluster_id", "project", "service"),)

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    container_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(255))
    project: Mapped[str] = mapped_column(String(255), default="")
    service: Mapped[str] = mapped_column(String(255), default="")
    image: Mapped[str] = mapped_column(String(512), default="")
    state: Mapped[str] = mapped_column(String(16), default="")
    health: Mapped[str] = mapped_column(String(16), default="")
    sick: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Unhealthy, restarting or dead; decided when it is stored."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class InventoryProject(Base):
    """A Compose project that the agent saw last, ours or not."""

    __tablename__ = "inventory_project"

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    managed: Mapped[bool] = mapped_column(default=False)
    revision: Mapped[int] = mapped_column(default=0)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)

"""Tables of Kubernetes clusters: what agents told last, kept while they are away. No rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class KubeCluster(Base):
    """What is known about a cluster as a whole; no row: its agent never told anything of Kubernetes."""

    __tablename__ = "kube_cluster"

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    version: Mapped[str] = mapped_column(String(128), default="")
    platform: Mapped[str] = mapped_column(String(128), default="")
    metrics: Mapped[bool] = mapped_column(default=False)
    namespaces: Mapped[list[Any]] = mapped_column(default=list)
    """Those that the agent reads; empty: all."""
    missing: Mapped[list[Any]] = mapped_column(default=list)
    """Kinds that the agent cannot read: kind, namespace, reason."""
    away_since: Mapped[datetime | None]
    """Since when the API server does not answer the agent."""
    away_reason: Mapped[str] = mapped_column(String(500), default="")
    told_at: Mapped[datetime]
    """When the agent last told something; what it did not tell since is unchanged."""


class KubeObject(Base):
    """One entry of the inventory. `data` is what was told; the other columns are for finding it."""

    __tablename__ = "kube_object"
    __table_args__ = (
        Index("ix_kube_object_rank", "cluster_id", "rank"),
        Index("ix_kube_object_namespace", "cluster_id", "section", "namespace"),
    )

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    section: Mapped[str] = mapped_column(String(12), primary_key=True)
    """nodes, namespaces, workloads, pods or events."""
    key: Mapped[str] = mapped_column(String(700), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    kind: Mapped[str] = mapped_column(String(128), default="")
    namespace: Mapped[str] = mapped_column(String(63), default="")
    """Empty for the cluster's own objects; a namespace is in itself."""
    name: Mapped[str] = mapped_column(String(253), default="")
    state: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    words: Mapped[str] = mapped_column(String(1500), default="")
    """What a search looks at."""
    rank: Mapped[int] = mapped_column(default=0)
    """How grave it is; see `inventory_rows`."""
    amount: Mapped[int] = mapped_column(default=0)
    """Pods of a namespace or node, restarts of a pod, times of an event."""
    moment: Mapped[datetime]
    """Since when a pod is unwell, when an event happened last, when anything else was made."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)

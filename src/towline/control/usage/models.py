"""Tables of the history of usage: packed blocks, and how well each cluster is measured. No rules here."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class UsageBlock(Base):
    """What some series of one kind used in one step of time. Written once, never changed."""

    __tablename__ = "usage_block"
    __table_args__ = (Index("ix_usage_block_step_begins", "step", "begins"),)

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(12), primary_key=True)
    """cluster, node, namespace or pod."""
    step: Mapped[int] = mapped_column(primary_key=True)
    """Seconds that a point stands for."""
    begins: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Seconds since the epoch, a multiple of `step`."""
    part: Mapped[int] = mapped_column(primary_key=True)
    """Counts the blocks of one kind and moment, in the order of their names."""
    first: Mapped[bytes] = mapped_column(LargeBinary)
    """The least name in it, as bytes: those are compared alike by both databases."""
    last: Mapped[bytes] = mapped_column(LargeBinary)
    series: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
    """As `packing` makes it."""


class UsageState(Base):
    """How well a cluster is measured; no row: its agent never told."""

    __tablename__ = "usage_state"

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(String(12))
    """metrics, kubelet or none."""
    reason: Mapped[str] = mapped_column(String(500))
    """What is not measured and why; empty when all is."""
    left_out: Mapped[int]
    """Pods beyond those that are kept."""
    sampled_at: Mapped[datetime]
    """When the agent last told something, measured or not."""

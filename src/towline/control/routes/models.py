"""Tables of routes, of the places that they lead to, and of what each cluster may publish. Columns only."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

ID = String(40)


class PublishedRoute(Base):
    """A public name and path, and where its requests go. The class is not called Route: the edge has one."""

    __tablename__ = "route"
    __table_args__ = (
        UniqueConstraint("org_id", "name"),
        UniqueConstraint("cluster_id", "ref"),
        Index("uq_route_claim", "claim", unique=True),
        Index("uq_route_port_claim", "port_claim", unique=True),
        Index("ix_route_host", "host"),
        Index("ix_route_state", "state"),
        Index("ix_route_leaving_at", "leaving_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(200))
    host: Mapped[str] = mapped_column(String(253))
    """Exact, or `*.` and a name; lower-case A-labels."""
    path: Mapped[str] = mapped_column(String(1024), default="/")
    path_type: Mapped[str] = mapped_column(String(8), default="prefix")
    source: Mapped[str] = mapped_column(String(16), default="declared")
    ref: Mapped[str | None] = mapped_column(String(1000))
    """What the source calls it; None for a declared one."""
    cluster_id: Mapped[str | None] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"))
    """The source's cluster; None for a declared one."""
    targets: Mapped[list[Any]] = mapped_column(default=list)
    """`{cluster_id, target}` each, the target as it travels in a stream's header."""
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Those that differ from their defaults, without the sealed ones."""
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Options that are secrets: hashes of passwords, headers for the target."""
    notes: Mapped[list[Any]] = mapped_column(default=list)
    """What the source asks for and the gateway does not do."""
    caution: Mapped[str] = mapped_column(String(500), default="")
    """Why it must not answer before somebody has looked, as its agent says."""
    problem: Mapped[str] = mapped_column(String(500), default="")
    """Why it can be no route, as its agent says."""
    tls: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(16), default="active")
    reason: Mapped[str] = mapped_column(String(500), default="")
    claim: Mapped[str | None] = mapped_column(String(1300))
    """Host, kind and path, while this route is the one that answers for them; None while another one may be."""
    port_claim: Mapped[int | None]
    """The port of the gateway that it asks for by `tcp_port`, while this route is the one that has it."""
    enabled: Mapped[bool] = mapped_column(default=True)
    existed: Mapped[bool] = mapped_column(default=False)
    """Its source was there when the cluster joined."""
    decision: Mapped[str] = mapped_column(String(16), default="")
    """`accepted` or `refused` by somebody, `automatic`, or nothing yet."""
    decided_by: Mapped[str] = mapped_column(String(80), default="")
    leaving_at: Mapped[datetime | None]
    """When a route whose source went away goes too, unless it comes back."""
    missing: Mapped[bool] = mapped_column(default=False)
    """The source is not in what its agent told last; else it is leaving because the agent has been away for long."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80), default="")
    changed_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<PublishedRoute {self.name} {self.host}{self.path} {self.state}>"


class RoutePlace(Base):
    """A cluster that a route leads to, and the project or namespace there: what permissions are looked up by."""

    __tablename__ = "route_place"
    __table_args__ = (Index("ix_route_place_cluster_id", "cluster_id"),)

    route_id: Mapped[str] = mapped_column(ID, ForeignKey("route.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"))
    project: Mapped[str] = mapped_column(String(255), default="")
    namespace: Mapped[str] = mapped_column(String(63), default="")


class ClusterGateway(Base):
    """What a cluster's own sources may publish, and what is known of them."""

    __tablename__ = "cluster_gateway"

    cluster_id: Mapped[str] = mapped_column(ID, ForeignKey("cluster.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(ID)
    existing: Mapped[str] = mapped_column(String(16), default="proposals")
    """What happens to claims that were there when the cluster joined: `automatic`, `proposals` or `off`."""
    appearing: Mapped[str] = mapped_column(String(16), default="automatic")
    """What happens to claims that appear later."""
    watch_ingresses: Mapped[str] = mapped_column(String(8), default="auto")
    baselines: Mapped[list[str]] = mapped_column(default=list)
    """Sources whose first whole list has come: what they name from then on appeared later."""
    told_at: Mapped[datetime | None]
    left_out: Mapped[int] = mapped_column(default=0)
    """Claims beyond what is kept of one cluster."""

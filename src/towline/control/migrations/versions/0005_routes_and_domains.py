"""Routes and domains."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "domain",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domain")),
        sa.UniqueConstraint("org_id", "name", name=op.f("uq_domain_org_id_name")),
    )
    with op.batch_alter_table("domain", schema=None) as batch_op:
        batch_op.create_index("ix_domain_name", ["name"], unique=False)
    op.create_table(
        "route",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("path_type", sa.String(length=8), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("ref", sa.String(length=1000), nullable=True),
        sa.Column("cluster_id", sa.String(length=40), nullable=True),
        sa.Column("targets", _JSON, nullable=False),
        sa.Column("options", _JSON, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("notes", _JSON, nullable=False),
        sa.Column("caution", sa.String(length=500), nullable=False),
        sa.Column("problem", sa.String(length=500), nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("claim", sa.String(length=1300), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("existed", sa.Boolean(), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("decided_by", sa.String(length=80), nullable=False),
        sa.Column("leaving_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("missing", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"], name=op.f("fk_route_cluster_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route")),
        sa.UniqueConstraint("org_id", "name", name=op.f("uq_route_org_id_name")),
        sa.UniqueConstraint("cluster_id", "ref", name=op.f("uq_route_cluster_id_ref")),
    )
    with op.batch_alter_table("route", schema=None) as batch_op:
        batch_op.create_index("uq_route_claim", ["claim"], unique=True)
        batch_op.create_index("ix_route_host", ["host"], unique=False)
        batch_op.create_index("ix_route_state", ["state"], unique=False)
        batch_op.create_index("ix_route_leaving_at", ["leaving_at"], unique=False)
    op.create_table(
        "route_place",
        sa.Column("route_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cluster_id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["cluster.id"], name=op.f("fk_route_place_cluster_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["route_id"], ["route.id"], name=op.f("fk_route_place_route_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("route_id", "number", name=op.f("pk_route_place")),
    )
    with op.batch_alter_table("route_place", schema=None) as batch_op:
        batch_op.create_index("ix_route_place_cluster_id", ["cluster_id"], unique=False)
    op.create_table(
        "cluster_gateway",
        sa.Column("cluster_id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("existing", sa.String(length=16), nullable=False),
        sa.Column("appearing", sa.String(length=16), nullable=False),
        sa.Column("watch_ingresses", sa.String(length=8), nullable=False),
        sa.Column("baselines", _JSON, nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"], ["cluster.id"], name=op.f("fk_cluster_gateway_cluster_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cluster_id", name=op.f("pk_cluster_gateway")),
    )

"""Tokens and identities of agents that speak the protocols of older systems."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("protocol", sa.String(length=16), server_default="towline", nullable=False))
    op.create_table(
        "compat_token",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("cluster_name", sa.String(length=63), nullable=False),
        sa.Column("cluster_id", sa.String(length=40), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("networks", JSON, nullable=False),
        sa.Column("open_until", MOMENT, nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compat_token")),
    )
    with op.batch_alter_table("compat_token", schema=None) as batch_op:
        batch_op.create_index("ix_compat_token_org_id", ["org_id"], unique=False)
        batch_op.create_index("uq_compat_token_protocol_digest", ["protocol", "digest"], unique=True)
    op.create_table(
        "compat_agent",
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("external_id", sa.String(length=255), nullable=False),
        sa.Column("token_id", sa.String(length=40), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=True),
        sa.Column("secret_allowed", sa.Boolean(), nullable=False),
        sa.Column("info", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agent.id"], name=op.f("fk_compat_agent_agent_id_agent"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_compat_agent")),
    )
    with op.batch_alter_table("compat_agent", schema=None) as batch_op:
        batch_op.create_index("ix_compat_agent_org_id", ["org_id"], unique=False)
        batch_op.create_index("ix_compat_agent_token_id", ["token_id"], unique=False)
        batch_op.create_index("uq_compat_agent_token_id_external_id", ["token_id", "external_id"], unique=True)

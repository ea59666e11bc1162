"""Numbers that InstaDeploy's REST API knows agents and deployments by."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "compat_number",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("org_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "ref", name=op.f("pk_compat_number")),
    )
    with op.batch_alter_table("compat_number", schema=None) as batch_op:
        batch_op.create_index("uq_compat_number_org_id_kind_number", ["org_id", "kind", "number"], unique=True)


def downgrade() -> None:
    op.drop_table("compat_number")

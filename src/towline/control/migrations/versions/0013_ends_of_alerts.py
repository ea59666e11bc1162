"""When an alert has ended: what organisations change of it, and whether its subject is told of until it is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("alert", schema=None) as batch_op:
        batch_op.add_column(sa.Column("lasting", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("alert", schema=None) as batch_op:
        batch_op.alter_column("lasting", server_default=None)
    with op.batch_alter_table("alert_rule", schema=None) as batch_op:
        batch_op.add_column(sa.Column("clear_seconds", sa.Double(), nullable=True))

"""Ports of the gateway are claimed like names: no two routes have one. Domains are looked at again and again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROUTE = sa.table(
    "route",
    sa.column("id", sa.String),
    sa.column("claim", sa.String),
    sa.column("enabled", sa.Boolean),
    sa.column("options", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")),
    sa.column("state", sa.String),
    sa.column("reason", sa.String),
    sa.column("port_claim", sa.Integer),
)


def upgrade() -> None:
    with op.batch_alter_table("route", schema=None) as batch_op:
        batch_op.add_column(sa.Column("port_claim", sa.Integer(), nullable=True))
        batch_op.create_index("uq_route_port_claim", ["port_claim"], unique=True)
    with op.batch_alter_table("domain", schema=None) as batch_op:
        batch_op.add_column(sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    _give_ports_out(op.get_bind())


def _give_ports_out(connection: sa.Connection) -> None:
    """Give each port to its oldest route, whose id is the smallest; the others are conflicts from now on."""
    port = ROUTE.c.options["tcp_port"].as_integer()
    query = sa.select(ROUTE.c.id, port.label("port")).where(ROUTE.c.claim.is_not(None), ROUTE.c.enabled, port > 0)
    given: set[int] = set()
    for row in connection.execute(query.order_by(ROUTE.c.id)).all():
        values = {"port_claim": row.port}
        if row.port in given:
            words = f"another route has port {row.port} already; first come stays"
            values = {"claim": None, "state": "conflict", "reason": words}
        given.add(row.port)
        connection.execute(sa.update(ROUTE).where(ROUTE.c.id == row.id).values(**values))

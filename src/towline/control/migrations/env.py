"""Alembic's environment: runs on the connection that `control/schema.py` hands over, never on one of its own."""

from alembic import context

from towline.control.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()

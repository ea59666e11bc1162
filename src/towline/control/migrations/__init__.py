"""Alembic's revisions of the schema. What runs them is `control/schema.py`."""

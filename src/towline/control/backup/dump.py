"""Every row of a database as lines of JSON, and back into an empty one of either kind.

Tables are read from the database itself, not from our classes, so that an older schema can be loaded and migrated
afterwards.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

from sqlalchemy import Connection, DateTime, LargeBinary, MetaData, Table, func, insert, select, text

VERSION_TABLE = "alembic_version"
ROWS_AT_ONCE = 200
"""Rows in memory; the largest, chunks of bundles, are some hundred KiB."""
MOMENT, BYTES = "$moment", "$bytes"


def tables(connection: Connection) -> list[Table]:
    """Return the tables of a database; what others refer to comes first."""
    found = MetaData()
    found.reflect(bind=connection)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def write_rows(connection: Connection, table: Table, out: BinaryIO) -> int:
    """Write one JSON object per row. Returns: how many."""
    count = 0
    result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table))
    for row in result.mappings():
        line = json.dumps({name: _encode(value) for name, value in row.items()}, separators=(",", ":"))
        out.write(line.encode() + b"\n")
        count += 1
    return count


def read_rows(connection: Connection, table: Table, lines: Iterator[bytes]) -> int:
    """Insert the rows of one table. Returns: how many. Columns that the table does not have are an error."""
    count = 0
    batch: list[dict[str, Any]] = []
    for line in lines:
        batch.append({name: _decode(value, table.columns[name].type) for name, value in json.loads(line).items()})
        if len(batch) >= ROWS_AT_ONCE:
            connection.execute(insert(table), batch)
            count += len(batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)
    _move_sequences(connection, table)
    return count + len(batch)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {MOMENT: aware.isoformat()}
    if isinstance(value, bytes | memoryview):
        return {BYTES: base64.b64encode(bytes(value)).decode()}
    return value


def _decode(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(kind, DateTime) and set(value) == {MOMENT}:
        moment = datetime.fromisoformat(value[MOMENT])
        return moment if kind.timezone else moment.replace(tzinfo=None)
    if isinstance(kind, LargeBinary) and set(value) == {BYTES}:
        return base64.b64decode(value[BYTES])
    return value


def _move_sequences(connection: Connection, table: Table) -> None:
    """Let PostgreSQL go on counting behind what was inserted."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        query = text("SELECT pg_get_serial_sequence(:table, :column)")
        sequence = connection.scalar(query, {"table": f'"{table.name}"', "column": column.name})
        highest = connection.scalar(select(func.max(column))) if sequence else None
        if highest is not None:
            connection.execute(text("SELECT setval(:sequence, :value)"), {"sequence": sequence, "value": highest})

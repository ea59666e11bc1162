"""Brings the database to this release's schema when the server starts: a backup first, then Alembic's revisions.

Refuses a schema of a newer release and a file that is no database, in one line. Revisions only go up: going back is
restoring the backup, which the line names.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from alembic.command import upgrade
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from towline.control.db import Database, sqlite_migration_engine
from towline.control.errors import StartupError
from towline.control.logging import get_logger

_log = get_logger("schema")

FOLDER = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x746F776C
"""Key of the PostgreSQL lock that one migrating process holds: "towl"."""


def scripts() -> ScriptDirectory:
    """Return the revisions that this release knows."""
    return ScriptDirectory.from_config(config())


def config() -> Config:
    alembic = Config()
    alembic.set_main_option("script_location", str(FOLDER))
    alembic.set_main_option("path_separator", "os")
    return alembic


async def prepare(db: Database, backups: Path, kept: int) -> None:
    """Check the database and migrate it. Raises: StartupError."""
    path = Path(db.url.database or "") if db.is_sqlite else None
    try:
        if path is not None and path.exists():
            await asyncio.to_thread(_check_file, path)
        current = await current_revision(db)
        _refuse_newer(current)
        if current == scripts().get_current_head():
            return
        if path is not None and current is not None:
            copy = await asyncio.to_thread(backup_sqlite, path, backups, current, kept)
            _log.info("backup before migration", file=str(copy))
        await _migrate(db)
        _log.info("schema migrated", before=current or "empty", now=scripts().get_current_head())
    except (DBAPIError, OSError, sqlite3.DatabaseError) as error:
        raise StartupError(f"the database cannot be used: {reason(error)}") from error


async def current_revision(db: Database) -> str | None:
    """Return the revision that the database is at; None when it is empty."""
    async with db.engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def is_current(db: Database) -> bool:
    """Tell whether the schema is this release's."""
    return await current_revision(db) == scripts().get_current_head()


async def _migrate(db: Database) -> None:
    engine = sqlite_migration_engine(db.url) if db.is_sqlite else db.engine
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
    finally:
        if engine is not db.engine:
            await engine.dispose()


def _upgrade(connection: Connection) -> None:
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        connection.commit()
    try:
        alembic = config()
        alembic.attributes["connection"] = connection
        upgrade(alembic, "head")
        if not postgres:
            _check_references(connection)
        connection.commit()
    finally:
        if postgres:
            connection.rollback()
            connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
            connection.execute(text("RESET statement_timeout"))
            connection.execute(text("RESET idle_in_transaction_session_timeout"))
            connection.commit()


def _check_references(connection: Connection) -> None:
    """Foreign keys are off while tables are rebuilt; what they would have said is asked afterwards."""
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        raise StartupError(f"the migration left {len(broken)} rows that refer to nothing, first in {broken[0][0]}")


def _refuse_newer(current: str | None) -> None:
    if current is not None and current not in {script.revision for script in scripts().walk_revisions()}:
        raise StartupError(
            f"the database has schema {current}, which this release does not know: it is of a newer one. "
            "Install that release, or restore a backup made before the upgrade"
        )


def _check_file(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise StartupError(f"the database {path} is damaged ({answer}); restore a backup")


def backup_sqlite(path: Path, folder: Path, name: str, kept: int) -> Path:
    """Copy a live SQLite database by its own backup interface; keep the newest few copies."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"towline-{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}.sqlite"
    partial = target.with_suffix(".partial")
    partial.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    partial.rename(target)
    for old in sorted(folder.glob("towline-*.sqlite"))[:-kept]:
        old.unlink()
    return target


def reason(error: Exception) -> str:
    """Return the driver's own words, without the statement."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]

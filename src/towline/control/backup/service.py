"""Backup of a running server into one file, and restore of that file onto an empty machine, of either database kind.

The file holds what agents know the server by, its authority and its keys, so that every agent comes back untouched.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from alembic.command import upgrade
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from towline import __version__
from towline.control import schema
from towline.control.access.setup import write_secret
from towline.control.authority.service import FOLDER as TLS
from towline.control.backup import dump
from towline.control.backup.container import BadBackup, SealedReader, SealedWriter
from towline.control.db import Database, sqlite_migration_engine
from towline.control.errors import StartupError
from towline.control.lock import ProcessLock
from towline.control.opening import KEYS, make_folder
from towline.control.sealing.ring import FILE_PATTERN
from towline.control.settings import Settings

MANIFEST = "manifest.json"
LARGEST_FILE_BYTES = 64 * 1024
"""A key or a certificate chain; anything larger in a backup's `files` is none of ours."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What went into or came out of a backup."""

    revision: str
    created_at: str
    version: str
    rows: dict[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()


async def backup(settings: Settings, target: Path, passphrase: str) -> Summary:
    """Write a backup; the server may run. The file appears whole or not at all.

    Raises: BadBackup: the passphrase is too short. StartupError: the database cannot be read.
    """
    db = Database(settings.resolved_database_url())
    try:
        async with db.reader.connect() as connection:
            if not db.is_sqlite:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            return await connection.run_sync(lambda sync: _write(sync, settings, target, passphrase))
    except (DBAPIError, OSError) as error:
        raise StartupError(f"the backup failed: {schema.reason(error)}") from error
    finally:
        await db.close()


async def restore(settings: Settings, source: Path, passphrase: str) -> Summary:
    """Load a backup into an empty data folder and an empty database, and bring it to this release's schema.

    Raises: BadBackup: another passphrase, or damaged. StartupError: there is something already.
    """
    make_folder(settings.data_folder)
    lock = ProcessLock(settings.data_folder)
    lock.acquire()
    db = Database(settings.resolved_database_url())
    try:
        await _refuse_full(settings, db)
        with tempfile.TemporaryFile(dir=settings.data_folder) as plain:
            await asyncio.to_thread(_decrypt, source, passphrase, plain)
            with tarfile.open(fileobj=plain, mode="r:") as archive:
                return await _load(settings, db, archive)
    except (DBAPIError, OSError, tarfile.TarError) as error:
        raise StartupError(f"the restore failed: {schema.reason(error)}") from error
    finally:
        await db.close()
        lock.release()


# -- writing


def _write(connection: Connection, settings: Settings, target: Path, passphrase: str) -> Summary:
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            sealed = SealedWriter(out, passphrase)
            with tarfile.open(fileobj=cast(IO[bytes], sealed), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                summary = _fill(connection, settings, archive)
            sealed.close()
            out.flush()
            os.fsync(out.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _fill(connection: Connection, settings: Settings, archive: tarfile.TarFile) -> Summary:
    revision = MigrationContext.configure(connection).get_current_revision() or ""
    files = list(_files(settings))
    about = {
        "revision": revision,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }
    _add(archive, MANIFEST, json.dumps(about).encode())
    for name, path in files:
        _add(archive, f"files/{name}", path.read_bytes())
    rows = {}
    for table in dump.tables(connection):
        with tempfile.TemporaryFile(dir=settings.data_folder) as lines:
            rows[table.name] = dump.write_rows(connection, table, lines)
            _add_file(archive, f"tables/{table.name}.jsonl", lines)
    return Summary(**about, rows=rows, files=tuple(name for name, _ in files))


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Everything beside the rows: sealing keys wherever they lie, and the authority with the server's key."""
    named = [Path(name) for name in settings.sealing_key_files]
    for number, path in enumerate(named or sorted((settings.data_folder / KEYS).glob(FILE_PATTERN)), 1):
        yield f"{KEYS}/{FILE_PATTERN.replace('*', f'{number:03}')}", path
    for path in sorted((settings.data_folder / TLS).glob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            yield f"{TLS}/{path.name}", path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = content.tell()
    content.seek(0)
    archive.addfile(entry, content)


# -- reading


async def _refuse_full(settings: Settings, db: Database) -> None:
    for folder in (KEYS, TLS):
        if any((settings.data_folder / folder).glob("*")):
            raise StartupError(f"{settings.data_folder / folder} is not empty; restore into an empty data folder")
    if db.is_sqlite and not await asyncio.to_thread(Path(db.url.database or "").exists):
        return
    async with db.engine.connect() as connection:
        full = await connection.run_sync(
            lambda sync: [table.name for table in dump.tables(sync) if _has_rows(sync, table)]
        )
    if full:
        raise StartupError(f"the database is not empty ({full[0]} has rows); restore into an empty one")


def _has_rows(connection: Connection, table: Any) -> bool:
    return bool(connection.scalar(select(func.count()).select_from(table)))


def _decrypt(source: Path, passphrase: str, plain: IO[bytes]) -> None:
    """Decrypt to the end before anything is touched: a damaged backup changes nothing."""
    with source.open("rb") as file:
        reader = SealedReader(file, passphrase)
        while block := reader.read(1024 * 1024):
            plain.write(block)
    plain.seek(0)


async def _load(settings: Settings, db: Database, archive: tarfile.TarFile) -> Summary:
    about = json.loads(_content(archive, MANIFEST))
    known = {script.revision for script in schema.scripts().walk_revisions()}
    if about["revision"] not in known:
        raise StartupError(f"the backup is of release {about['version']}, which is newer than this one")
    engine = sqlite_migration_engine(db.url) if db.is_sqlite else db.engine
    async with engine.connect() as connection:
        rows = await connection.run_sync(lambda sync: _load_rows(sync, archive, str(about["revision"])))
    if engine is not db.engine:
        await engine.dispose()
    files = tuple(_load_files(settings, archive))
    return Summary(str(about["revision"]), str(about["created_at"]), str(about["version"]), rows, files)


def _load_rows(connection: Connection, archive: tarfile.TarFile, revision: str) -> dict[str, int]:
    alembic = schema.config()
    alembic.attributes["connection"] = connection
    upgrade(alembic, revision)
    rows = {}
    for table in dump.tables(connection):
        lines = archive.extractfile(f"tables/{table.name}.jsonl")
        assert lines is not None
        rows[table.name] = dump.read_rows(connection, table, iter(lines))
    connection.commit()
    upgrade(alembic, "head")
    connection.commit()
    return rows


def _load_files(settings: Settings, archive: tarfile.TarFile) -> Iterator[str]:
    for entry in archive.getmembers():
        folder, _, rest = entry.name.partition("/")
        if folder != "files":
            continue
        kind, _, name = rest.partition("/")
        if kind not in (KEYS, TLS) or not name or "/" in name or name.startswith(".") or not entry.isfile():
            raise BadBackup(f"the backup holds a file that is none of ours: {entry.name}")
        if entry.size > LARGEST_FILE_BYTES:
            raise BadBackup(f"the backup's file {entry.name} is too large")
        path = settings.data_folder / kind / name
        content = archive.extractfile(entry)
        assert content is not None
        _put(path, content.read())
        yield rest


def _put(path: Path, content: bytes) -> None:
    write_secret(path, content)
    if path.parent.name == KEYS:
        path.chmod(0o400)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        content = archive.extractfile(name)
    except KeyError as error:
        raise BadBackup("the backup has no manifest") from error
    return b"" if content is None else content.read()


__all__ = ["BadBackup", "Summary", "backup", "restore"]

"""Migrations make exactly the tables of the code, keep data, and are backed up first."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from tests.support.control_app import running_control, test_settings

from towline.control import schema
from towline.control.bus import Bus
from towline.control.db import Database
from towline.control.opening import opened
from towline.control.tables import metadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


async def test_the_migrations_make_the_tables_of_the_code(database_url: str, folder: Path) -> None:
    db = Database(database_url)
    await schema.prepare(db, folder, 1)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [one for one in compare_metadata(context, metadata) if "alembic_version" not in str(one)]

    async with db.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    assert await schema.is_current(db)
    await db.close()


async def test_two_processes_migrate_one_database_once(database_url: str, folder: Path) -> None:
    one, two = Database(database_url), Database(database_url)
    if one.is_sqlite:
        await schema.prepare(one, folder, 1)
    await asyncio.gather(schema.prepare(one, folder, 1), schema.prepare(two, folder, 1))
    assert await schema.is_current(two)
    await one.close()
    await two.close()


async def test_a_database_is_backed_up_before_it_is_migrated_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with running_control(url, tmp_path) as app:
        await app.token("ada")
    newer = tmp_path / "migrations"
    _copy(schema.FOLDER, newer)
    (newer / "versions" / "9000_next.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision = '9000'\ndown_revision = {schema.scripts().get_current_head()!r}\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('user_account', recreate='always') as batch:\n"
        "        batch.add_column(sa.Column('shoe_size', sa.Integer()))\n"
    )
    monkeypatch.setattr(schema, "FOLDER", newer)
    async with opened(test_settings(url, tmp_path)) as control, control.db.read() as tx:
        assert (await tx.execute(text("SELECT username, shoe_size FROM user_account"))).all() == [("ada", None)]
        assert (await tx.execute(text("SELECT count(*) FROM api_token"))).scalar() == 1
    (backup,) = (tmp_path / "data" / "backups").iterdir()
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT username FROM user_account").fetchall() == [("ada",)]
    assert backup.stat().st_mode & 0o077 == 0


async def test_ports_of_routes_that_were_there_go_to_the_oldest_of_each(
    database_url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "migrations"
    _copy(schema.FOLDER, older)
    for path in (older / "versions").glob("00*.py"):
        if path.name >= "0008":
            path.unlink()
    db = Database(database_url)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FOLDER", older)
        await schema.prepare(db, folder, 1)
    async with db.begin() as tx:
        for name, port, enabled in (("b", 5432, True), ("a", 5432, True), ("c", 5432, False), ("d", 6379, True)):
            options = f'{{"tcp_port": {port}}}' if port else "{}"
            await tx.execute(text(ROUTE_OF_THE_FIRST_RELEASES), {"name": name, "options": options, "enabled": enabled})
    await schema.prepare(db, folder, 1)
    async with db.read() as tx:
        found = await tx.execute(text("SELECT name, state, claim, port_claim, reason FROM route ORDER BY name"))
        rows = {row.name: tuple(row)[1:] for row in found}
    assert rows["a"] == ("active", "a", 5432, "") and rows["d"] == ("active", "d", 6379, "")
    assert rows["b"] == ("conflict", None, None, "another route has port 5432 already; first come stays")
    assert rows["c"] == ("active", "c", None, "")
    await db.close()


ROUTE_OF_THE_FIRST_RELEASES = """
INSERT INTO route (id, org_id, name, host, path, path_type, source, targets, options, notes, caution, problem, tls,
    state, reason, claim, enabled, existed, decision, decided_by, missing, created_at, created_by, changed_at)
VALUES (:name, 'org_1', :name, :name, '/', 'prefix', 'declared', '[]', :options, '[]', '', '', false, 'active',
    '', :name, :enabled, false, '', '', false, '2026-01-01 00:00:00+00:00', '', '2026-01-01 00:00:00+00:00')
"""


async def test_only_the_newest_backups_are_kept(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
    for name in "abcd":
        schema.backup_sqlite(path, folder, name, kept=2)
    assert len(list(folder.iterdir())) == 2


async def test_hints_are_told_after_the_commit_and_never_after_a_rollback(database_url: str, folder: Path) -> None:
    bus = Bus()
    db = Database(database_url, bus=bus)
    async with bus.subscribe("x") as events:
        with pytest.raises(RuntimeError):
            async with db.begin() as tx:
                tx.publish("x", id="lost")
                raise RuntimeError
        async with db.begin() as tx:
            tx.publish("x", id="kept")
        assert (await anext(events)).ids == {"id": "kept"}
    await db.close()


async def test_a_reading_transaction_writes_nothing(database_url: str, folder: Path) -> None:
    db = Database(database_url)
    await schema.prepare(db, folder, 1)
    with pytest.raises(Exception, match=r"read-only|does not answer"):
        async with db.read() as tx:
            await tx.execute(text("DELETE FROM ticket"))
    await db.close()


async def test_the_databases_clock_moves_with_added_seconds(database_url: str, folder: Path) -> None:
    from sqlalchemy import select

    from towline.control.db import now

    db = Database(database_url)
    async with db.read() as tx:
        before, later = (await tx.execute(select(now(), now(90.5)))).one()
    assert 90 < (later - before).total_seconds() < 91
    assert before.utcoffset() is not None
    await db.close()


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))

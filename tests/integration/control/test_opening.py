"""Starting on what is there: refusals in one clear line, and nothing made anew that was lost."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.control_app import running_control, test_settings

from towline.control.errors import StartupError
from towline.control.lock import ProcessLock
from towline.control.opening import opened


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'towline.sqlite'}"


async def refusal(url: str, folder: Path, **changes: object) -> str:
    with pytest.raises(StartupError) as raised:
        async with opened(test_settings(url, folder, **changes)):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_second_start_goes_on(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path) as app:
        await app.token("ada")
        first = app.control.fingerprint
    async with running_control(database_url, tmp_path) as app:
        assert app.control.fingerprint == first
        assert app.control.setup_token == ""
        assert len(await app.rows(_users())) == 1


class Unstoppable:
    """A feature whose end fails."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        raise OSError("no end")


async def test_a_feature_that_cannot_stop_keeps_no_other_from_stopping(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no end"):
        async with running_control(sqlite_url(tmp_path), tmp_path) as app:
            app.control.features.append(Unstoppable())
    assert app.control.tasks.closed and app.control.fleet.tasks.closed


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    async with opened(test_settings(sqlite_url(tmp_path), tmp_path)):
        assert f"another server (process {os.getpid()}) uses" in await refusal(sqlite_url(tmp_path), tmp_path)
    async with opened(test_settings(sqlite_url(tmp_path), tmp_path)):
        pass


def test_a_lock_says_whether_it_is_held(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path)
    lock.acquire()
    assert "held" in repr(lock)
    lock.release()
    assert "free" in repr(lock)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "towline.sqlite").write_bytes(b"this is no database" * 1000)
    assert "not a database" in await refusal(sqlite_url(tmp_path), tmp_path)


async def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    async with opened(test_settings(sqlite_url(tmp_path), tmp_path)):
        pass
    path = tmp_path / "towline.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 4096):
        content[at : at + 200] = b"\xff" * 200
    path.write_bytes(content)
    said = await refusal(sqlite_url(tmp_path), tmp_path)
    assert "malformed" in said or "damaged" in said


async def test_a_database_of_a_newer_release_is_refused(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path) as app, app.control.db.begin() as tx:
        await tx.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)"))
        await tx.execute(text("DELETE FROM alembic_version"))
        await tx.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    said = await refusal(database_url, tmp_path)
    assert "9999" in said and "newer" in said


async def test_a_lost_sealing_key_is_never_made_anew(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path):
        pass
    (key,) = (tmp_path / "data" / "keys").iterdir()
    key.rename(tmp_path / "moved.key")
    assert "the sealing key is missing" in await refusal(database_url, tmp_path)
    assert list((tmp_path / "data" / "keys").iterdir()) == []


async def test_the_key_of_another_installation_is_refused(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path):
        pass
    (key,) = (tmp_path / "data" / "keys").iterdir()
    key.chmod(0o600)
    key.write_bytes(os.urandom(32))
    assert "not those of this database" in await refusal(database_url, tmp_path)


async def test_a_key_added_to_the_ring_seals_and_the_old_one_still_opens(database_url: str, tmp_path: Path) -> None:
    place = ("org", "rec", 1, "test")
    async with running_control(database_url, tmp_path) as app:
        sealed = app.control.sealer.seal(*place, b"x")
    new = tmp_path / "data" / "keys" / "sealing-002.key"
    new.write_bytes(os.urandom(32))
    new.chmod(0o400)
    async with running_control(database_url, tmp_path) as app:
        assert len(app.control.sealer.ring.names) == 2
        assert app.control.sealer.open(*place, sealed) == b"x"
    new.unlink()
    assert "is missing" in await refusal(database_url, tmp_path)


async def test_a_sealing_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    async with opened(test_settings(sqlite_url(tmp_path), tmp_path)):
        pass
    (key,) = (tmp_path / "data" / "keys").iterdir()
    key.chmod(0o444)
    assert "open to other users (mode 0444)" in await refusal(sqlite_url(tmp_path), tmp_path)


async def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    async with opened(test_settings(sqlite_url(tmp_path), tmp_path)):
        pass
    (tmp_path / "data" / "tls" / "authority.key").unlink()
    assert "agents pin this authority" in await refusal(sqlite_url(tmp_path), tmp_path)


async def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "cannot be made" in await refusal(sqlite_url(tmp_path), tmp_path)


async def test_a_database_that_does_not_answer_is_refused_without_its_password(tmp_path: Path) -> None:
    said = await refusal("postgresql://towline:hunter2@127.0.0.1:1/towline", tmp_path)
    assert "cannot be used" in said and "hunter2" not in said


@pytest.mark.parametrize("url", ["mysql://h/d", "nonsense", "postgresql://u:hunter2@[::1"])
async def test_another_kind_of_database_is_refused(tmp_path: Path, url: str) -> None:
    said = await refusal(url, tmp_path)
    assert "database_url" in said and "hunter2" not in said


@pytest.mark.parametrize("target", ["x", "c/h", "c/h:0", "c/h:70000", "/h:80", "c/:80"])
async def test_a_published_service_without_its_place_is_refused(tmp_path: Path, target: str) -> None:
    assert "CLUSTER/ADDRESS:PORT" in await refusal(sqlite_url(tmp_path), tmp_path, published={"app.example": target})


def _users() -> type:
    from towline.control.access.models import User

    return User

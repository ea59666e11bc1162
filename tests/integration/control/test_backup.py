"""A backup of a running server, restored elsewhere: rows, secrets and what agents trust are all there."""

from pathlib import Path

import pytest
from tests.support.control_app import PASSWORD, ControlApp, running_control, test_settings

from towline.control.access.models import User
from towline.control.access.permissions import Role
from towline.control.audit.service import verify
from towline.control.backup import service as backups
from towline.control.backup.container import BadBackup
from towline.control.errors import StartupError

PASSPHRASE = "a passphrase for tests"
PLACE = ("org_default", "sec_1", 1, "test")


async def fill(app: ControlApp) -> tuple[str, bytes]:
    """Some rows and a secret; returns a token and the sealed secret."""
    admin = await app.user("ada", Role.OWNER)
    answer = await admin.post("/api/v1/users", json={"username": "bob", "password": PASSWORD, "role": "viewer"})
    assert answer.status_code == 201
    return admin.headers["authorization"].split()[1], app.control.sealer.seal(*PLACE, b"hunter2")


async def test_a_backup_of_a_running_server_comes_back_elsewhere(database_url: str, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with running_control(database_url, tmp_path / "one") as app:
        token, sealed = await fill(app)
        summary = await backups.backup(app.settings, target, PASSPHRASE)
        fingerprint = app.control.fingerprint
    assert summary.rows["user_account"] == 2 and len(summary.files) == 5
    assert target.stat().st_mode & 0o077 == 0
    elsewhere = f"sqlite:///{tmp_path / 'two.sqlite'}"
    settings = test_settings(elsewhere, tmp_path / "two")
    restored = await backups.restore(settings, target, PASSPHRASE)
    assert restored.rows == summary.rows
    async with running_control(elsewhere, tmp_path / "two") as app:
        assert app.control.fingerprint == fingerprint
        assert app.control.sealer.open(*PLACE, sealed) == b"hunter2"
        assert (await app.client(token).get("/api/v1/whoami")).json()["user"]["username"] == "ada"
        login = await app.client().post("/api/v1/login", json={"username": "bob", "password": PASSWORD})
        assert login.status_code == 200
        assert (await verify(app.control.db)).ok


@pytest.mark.postgres
async def test_a_backup_of_sqlite_comes_back_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with running_control(f"sqlite:///{tmp_path / 'one.sqlite'}", tmp_path / "one") as app:
        token, sealed = await fill(app)
        summary = await backups.backup(app.settings, target, PASSPHRASE)
    restored = await backups.restore(test_settings(postgres_url, tmp_path / "two"), target, PASSPHRASE)
    assert restored.rows == summary.rows
    async with running_control(postgres_url, tmp_path / "two") as app:
        assert app.control.sealer.open(*PLACE, sealed) == b"hunter2"
        assert (await app.client(token).get("/api/v1/whoami")).status_code == 200
        assert (await verify(app.control.db)).ok
        await app.token("new")


async def test_nothing_of_a_backup_is_readable_without_its_passphrase(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with running_control(f"sqlite:///{tmp_path / 'x.sqlite'}", tmp_path) as app:
        token, _ = await fill(app)
        await backups.backup(app.settings, target, PASSPHRASE)
        key = next((app.settings.data_folder / "keys").iterdir()).read_bytes()
    content = target.read_bytes()
    assert not any(secret in content for secret in (b"ada", token.encode(), key, b"PRIVATE KEY", b"user_account"))


async def test_another_passphrase_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with running_control(f"sqlite:///{tmp_path / 'x.sqlite'}", tmp_path) as app:
        await backups.backup(app.settings, target, PASSPHRASE)
    settings = test_settings(f"sqlite:///{tmp_path / 'y.sqlite'}", tmp_path / "two")
    with pytest.raises(BadBackup, match="passphrase"):
        await backups.restore(settings, target, "another passphrase")
    assert not (tmp_path / "y.sqlite").exists()
    assert [path.name for path in settings.data_folder.iterdir()] == ["server.lock"]
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(BadBackup, match="cut short"):
        await backups.restore(settings, target, PASSPHRASE)
    assert not (tmp_path / "y.sqlite").exists()


async def test_a_backup_is_not_restored_over_what_is_there(database_url: str, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    async with running_control(database_url, tmp_path) as app:
        await fill(app)
        settings = app.settings
        await backups.backup(settings, target, PASSPHRASE)
        with pytest.raises(StartupError, match="another server"):
            await backups.restore(settings, target, PASSPHRASE)
    with pytest.raises(StartupError, match="not empty"):
        await backups.restore(settings, target, PASSPHRASE)
    with pytest.raises(StartupError, match="not empty"):
        await backups.restore(test_settings(database_url, tmp_path / "two"), target, PASSPHRASE)
    async with running_control(database_url, tmp_path) as app:
        assert len(await app.rows(User)) == 2


async def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "x"
    other.write_bytes(b"hello" * 100)
    settings = test_settings(f"sqlite:///{tmp_path / 'y.sqlite'}", tmp_path)
    with pytest.raises(BadBackup, match="no backup"):
        await backups.restore(settings, other, PASSPHRASE)
    with pytest.raises(StartupError, match="No such file"):
        await backups.restore(settings, tmp_path / "none", PASSPHRASE)


async def test_a_failed_backup_leaves_no_file(tmp_path: Path) -> None:
    async with running_control(f"sqlite:///{tmp_path / 'x.sqlite'}", tmp_path) as app:
        with pytest.raises(BadBackup, match="shorter"):
            await backups.backup(app.settings, tmp_path / "b", "short")
    assert not (tmp_path / "b").exists() and not (tmp_path / "b.partial").exists()

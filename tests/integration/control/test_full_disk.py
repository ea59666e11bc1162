"""A full disk: writes are refused with the reason, reads go on, nothing is lost, and it goes on when there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.control_app import ControlApp, running_control

from towline.control.access.permissions import Role


async def fill_until_refused(app: ControlApp) -> int:
    """Make tokens until the disk is full; returns how many were acknowledged."""
    ada = await app.user("ada", Role.OWNER)
    for number in range(5000):
        answer = await ada.post("/api/v1/tokens", json={"name": f"{number}-" + "x" * 90})
        if answer.status_code != 201:
            assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full"), answer.text
            return number
        await ada.delete(f"/api/v1/tokens/{answer.json()['id']}")
    raise AssertionError("the disk never filled")


async def test_a_full_database_refuses_writes_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with running_control(f"sqlite:///{tmp_path / 'x.sqlite'}", tmp_path) as app:
        async with app.control.db.begin() as tx:
            pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
            await tx.execute(text(f"PRAGMA max_page_count={pages + 12}"))
        acknowledged = await fill_until_refused(app)
        bob = await app.client().get("/healthz")
        assert bob.status_code == 200
        async with app.control.db.begin() as tx:
            await tx.execute(text("PRAGMA max_page_count=1000000"))
            kept = (await tx.execute(text("SELECT count(*) FROM api_token WHERE name LIKE '%-x%'"))).scalar()
        assert kept in (acknowledged, acknowledged + 1)
        assert (await (await app.user("oli", Role.OWNER)).get("/api/v1/audit/verify")).json()["ok"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
async def test_a_full_disk_is_told_by_readiness_and_loses_nothing(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'x.sqlite'}"
    ballast = small_disk / "ballast"
    async with running_control(url, small_disk) as app:
        ready = await app.client().get("/readyz")
        assert ready.status_code == 503 and "MiB free" in ready.text
        ballast.write_bytes(b"x" * 700_000)
        acknowledged = await fill_until_refused(app)
        assert (await app.client().get("/healthz")).status_code == 200
        ballast.unlink()
        oli = await app.user("oli", Role.OWNER)
        assert (await oli.get("/api/v1/audit/verify")).json()["ok"]
    async with running_control(url, small_disk) as app, app.control.db.read() as tx:
        kept = (await tx.execute(text("SELECT count(*) FROM api_token WHERE name LIKE '%-x%'"))).scalar()
        assert kept in (acknowledged, acknowledged + 1)

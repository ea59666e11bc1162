"""Importing an InstaDeploy database into a real server, by the real command line, and going on from there."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import instadeploy_database
from tests.support.instadeploy_stand import FILE, SECRET, Host, Stand, stand

from towline.control.access.permissions import Right, Role
from towline.control.clusters.models import Cluster

IMPORT = "/compat/instadeploy/import"


@pytest.fixture
async def bench(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path, prepared_sqlite) as found:
        yield found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return instadeploy_database.write(tmp_path / "app.db")


async def command_line(bench: Stand, folder: Path, *words: str) -> dict[str, Any]:
    """Run the import as an administrator does."""
    authority = folder / "authority.pem"
    authority.write_text(bench.control.tls.material.authority_pem)
    environment = os.environ | {
        "TOWLINE_URL": f"https://localhost:{bench.running.port}",
        "TOWLINE_TOKEN": bench.token,
        "TOWLINE_CA_FILE": str(authority),
    }
    run = [sys.executable, "-m", "towline.cli.main", "import", "instadeploy", *words, "--token-stdin", "-o", "json"]
    done = await asyncio.to_thread(
        subprocess.run, run, input=f"{SECRET}\n", env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def test_an_import_needs_an_admin_of_the_whole_organisation(bench: Stand) -> None:
    async with bench.client("twl_none") as nobody:
        assert (await nobody.post(IMPORT, json={"token": SECRET})).status_code == 401
    token = await bench.app.token("dora", Right(Role.DEPLOYER))
    async with bench.client(token) as deployer:
        assert (await deployer.post(IMPORT, json={"token": SECRET})).status_code == 403


async def test_everything_is_taken_over_agents_come_back_and_a_rollback_works(
    bench: Stand, database: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "projects" / "vm" / "Shop"
    folder.mkdir(parents=True)
    (folder / "docker-compose.yml").write_text(FILE)
    words = ("--database", str(database), "--projects", str(tmp_path / "projects"))

    tried = await command_line(bench, tmp_path, *words, "--dry-run")
    assert (tried["dry_run"], tried["agents_made"], tried["deployments_made"]) == (
        True,
        ["vm", "vm2"],
        ["vm/Shop", "vm2/blog"],
    )
    assert [row for row in await bench.app.rows(Cluster) if row.name in ("vm", "vm2")] == []

    report = await command_line(bench, tmp_path, *words)
    assert (report["agents_made"], report["jobs_made"], report["jobs_left_out"]) == (["vm", "vm2"], 3, 1)
    assert report["without_file"] == ["vm2/blog"]
    assert "deployment 13: its agent is gone" in report["notes"]

    again = await command_line(bench, tmp_path, *words)
    assert (again["agents_made"], again["deployments_made"], again["jobs_made"]) == ([], [], 0)
    assert (again["agents_known"], again["jobs_known"]) == (["vm", "vm2"], 3)

    history = (await bench.call("GET", "/jobs?cluster=vm"))["items"]
    assert {(job["kind"], job["state"]) for job in history} == {
        ("compose.deploy", "succeeded"),
        ("compose.stop", "expired"),
    }
    assert any("was not run here" in job["error"] for job in history)

    host = Host(files={"shop": FILE}, running={"shop": {"web": "shop/web:1"}})
    async with bench.agent("vm", host=host) as agent:
        found = await bench.online()
        assert found["agents"][0]["state"] == "active"
        await bench.until(state="healthy")
        assert agent.of("DEPLOY_COMPOSE") == []
        await bench.ended(await bench.deploy(FILE.replace(":1", ":2")))
        assert host.running["shop"] == {"web": "shop/web:2"}
        job = await bench.ended(await bench.operate("rollback"))

    assert job["state"] == "succeeded", job
    assert host.files["shop"] == FILE
    assert host.running["shop"] == {"web": "shop/web:1"}


async def test_a_project_without_a_file_gets_its_first_revision_by_its_first_deploy(
    bench: Stand, database: Path, tmp_path: Path
) -> None:
    await command_line(bench, tmp_path, "--database", str(database))
    assert (await bench.shown("blog", "vm2"))["latest_revision"] == 0
    async with bench.agent("vm2"):
        await bench.online("vm2")
        made = await bench.deploy(name="blog", cluster="vm2")
        assert (await bench.ended(made))["state"] == "succeeded"

    assert made["revision"]["number"] == 1


async def test_a_file_that_compose_would_refuse_is_not_taken_and_the_line_is_named(bench: Stand) -> None:
    agent = {"number": 1, "hostname": "vm"}
    deployment = {
        "number": 1, "project": "shop", "hostname": "vm", "status": "running", "created_at": "2025-03-01T10:00:00",
        "compose": "services:\n  web:\n    privileged: maybe\n",
    }  # fmt: skip
    report = await bench.call("POST", IMPORT, {"token": SECRET, "agents": [agent], "deployments": [deployment]})

    assert report["without_file"] == ["vm/shop"]
    assert "its file was not taken, line" in report["notes"][0]


async def test_a_token_that_was_revoked_is_not_taken_over(bench: Stand) -> None:
    made = await bench.shared_token()
    await bench.call("DELETE", f"/compat/tokens/{made['id']}", status=204)

    await bench.call("POST", IMPORT, {"token": SECRET}, status=409)

"""Reading InstaDeploy's database: what is there, what is wrong, and that nothing is ever written."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.support import instadeploy_database

from towline.cli import instadeploy_file
from towline.cli.errors import CliError
from towline.cli.instadeploy_file import Database


def _of(database: Database, kind: str, projects: Path | None = None) -> list[Any]:
    return [entry for batch in database.batches(projects) for entry in batch.get(kind, [])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return instadeploy_database.write(tmp_path / "app.db")


def test_agents_deployments_and_jobs_are_read(path: Path) -> None:
    database = Database(path)

    assert {each["hostname"]: each["number"] for each in _of(database, "agents")} == {"vm": 3, "vm2": 7}
    assert [(each["project"], each["hostname"], each["status"]) for each in _of(database, "deployments")] == [
        ("Shop", "vm", "running"),
        ("blog", "vm2", "stopped"),
    ]
    assert sorted((each["command"], each["status"]) for each in _of(database, "jobs"))[:2] == [
        ("DEPLOY_COMPOSE", "completed"),
        ("DEPLOY_COMPOSE", "failed"),
    ]
    assert {each["id"] for each in _of(database, "jobs")} >= {"0f8fad5b-d9cb-469f-a165-70867728950e"}


def test_what_belongs_to_nothing_is_said(path: Path) -> None:
    assert Database(path).left_out() == ["deployment 13: its agent is gone"]


def test_files_are_found_by_host_and_project(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "vm" / "Shop"
    folder.mkdir(parents=True)
    (folder / "docker-compose.yml").write_text("services: {}\n")
    (folder / ".env").write_text("A=1\n")

    found = {each["project"]: each for each in _of(Database(path), "deployments", tmp_path / "projects")}

    assert (found["Shop"]["compose"], found["Shop"]["env"]) == ("services: {}\n", "A=1\n")
    assert found["blog"]["compose"] is None


def test_the_file_is_never_written(path: Path) -> None:
    before = hashlib.sha256(path.read_bytes()).digest()
    path.chmod(0o444)

    list(Database(path).batches(None))

    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_each_request_brings_the_agents_of_what_it_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instadeploy_file, "BATCH_BYTES", 1)

    for batch in Database(path).batches(None):
        names = {each["hostname"] for each in batch["agents"]}
        assert names >= {each["hostname"] for key in ("deployments", "jobs") for each in batch.get(key, [])}


def test_another_schema_is_refused_and_what_is_missing_is_named(tmp_path: Path) -> None:
    schema = "CREATE TABLE agent (id INTEGER, hostname TEXT, version TEXT); CREATE TABLE deployment (id INTEGER);"
    other = instadeploy_database.write(tmp_path / "other.db", schema=schema, rows="")

    with pytest.raises(CliError) as caught:
        Database(other)

    assert "is no InstaDeploy database" in caught.value.message
    assert "there is no table job" in caught.value.problems
    assert any("deployment has no agent_id, created_at" in each for each in caught.value.problems)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(CliError, match="not a database"):
        Database(tmp_path / "x.db")
    with pytest.raises(CliError, match="no such file"):
        Database(tmp_path / "none.db")

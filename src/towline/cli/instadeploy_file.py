"""Reading an InstaDeploy database: its SQLite file, read-only, and the Compose files copied from its hosts.

Not here: what becomes of it; that is the server's `POST /api/v1/compat/instadeploy/import`.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from towline.cli.errors import CliError

TABLES: Mapping[str, frozenset[str]] = {
    "agent": frozenset({"id", "hostname", "version"}),
    "deployment": frozenset({"id", "project_name", "agent_id", "status", "created_at"}),
    "job": frozenset(
        {"id", "deployment_id", "agent_id", "command_type", "status", "logs", "error", "created_at", "updated_at"}
    ),
}
"""What is read of each table; others may have come with a newer release."""

LOG_CHARACTERS = 4_000
"""Of a job's logs that are taken: their end, as the server keeps it."""

BATCH_BYTES = 400_000
"""Of one request: with room for JSON's escapes it stays below the server's limit of a body."""

COMPOSE_NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yaml", "compose.yml")
DEPLOYMENT_STATES = {"pending", "running", "stopped", "failed"}
JOB_STATES = {"queued", "in_progress", "completed", "failed"}


class Database:
    """What one file holds, as the server's import takes it."""

    def __init__(self, path: Path) -> None:
        """Raises: CliError: no such file, not SQLite, or not InstaDeploy's tables."""
        if not path.is_file():
            raise CliError(f"{path}: no such file")
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                _check(connection, path)
                self._agents = {row["id"]: dict(row) for row in connection.execute("SELECT * FROM agent ORDER BY id")}
                self._deployments = [dict(row) for row in connection.execute("SELECT * FROM deployment ORDER BY id")]
                self._jobs = [dict(row) for row in connection.execute("SELECT * FROM job ORDER BY created_at, id")]
        except sqlite3.Error as error:
            hint = "copy the file together with those beside it that end in -wal and -shm, while the server is stopped"
            raise CliError(f"{path}: {error}", hint=hint) from error

    def batches(self, projects: Path | None) -> Iterator[dict[str, Any]]:
        """Yield requests, each below BATCH_BYTES unless one file alone is larger; agents come with what is theirs."""
        yield from self._batched("agents", list(self._agents), [self._agent(key) for key in self._agents])
        deployments = [each for each in self._deployments if each["agent_id"] in self._agents]
        shown = [self._deployment(each, projects) for each in deployments]
        yield from self._batched("deployments", [each["agent_id"] for each in deployments], shown)
        by_id = {each["id"]: each for each in deployments}
        jobs = [each for each in self._jobs if each["deployment_id"] in by_id]
        owners = [by_id[each["deployment_id"]]["agent_id"] for each in jobs]
        yield from self._batched("jobs", owners, [self._job(each, by_id[each["deployment_id"]]) for each in jobs])

    def left_out(self) -> list[str]:
        """Say which rows belong to nothing that is there."""
        known = {each["id"] for each in self._deployments if each["agent_id"] in self._agents}
        lost = [f"deployment {each['id']}: its agent is gone" for each in self._deployments if each["id"] not in known]
        jobs = sum(each["deployment_id"] not in known for each in self._jobs)
        return lost + ([f"{jobs} jobs belong to no deployment"] if jobs else [])

    def _batched(self, kind: str, owners: list[Any], entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        agents: dict[Any, dict[str, Any]] = {}
        size = 0
        for owner, entry in zip(owners, entries, strict=True):
            weight = sum(len(str(value)) for value in entry.values()) + 200
            if batch and size + weight > BATCH_BYTES:
                yield {kind: batch, "agents": batch if kind == "agents" else list(agents.values())}
                batch, agents, size = [], {}, 0
            batch.append(entry)
            agents[owner] = self._agent(owner)
            size += weight
        if batch:
            yield {kind: batch, "agents": batch if kind == "agents" else list(agents.values())}

    def _agent(self, key: Any) -> dict[str, Any]:
        row = self._agents[key]
        return {"number": key, "hostname": row["hostname"], "version": row["version"] or ""}

    def _deployment(self, row: dict[str, Any], projects: Path | None) -> dict[str, Any]:
        hostname, name = self._agents[row["agent_id"]]["hostname"], row["project_name"]
        compose, env = _files(projects, hostname, name)
        return {
            "number": row["id"],
            "project": name,
            "hostname": hostname,
            "status": _word(row["status"], DEPLOYMENT_STATES, "pending"),
            "created_at": row["created_at"],
            "compose": compose,
            "env": env,
        }

    def _job(self, row: dict[str, Any], deployment: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": str(uuid.UUID(str(row["id"]))),
            "project": deployment["project_name"],
            "hostname": self._agents[deployment["agent_id"]]["hostname"],
            "command": str(row["command_type"])[:64],
            "status": _word(row["status"], JOB_STATES, "failed"),
            "logs": (row["logs"] or "")[-LOG_CHARACTERS:],
            "error": (row["error"] or "")[-LOG_CHARACTERS:],
            "created_at": row["created_at"],
            "updated_at": row["updated_at"],
        }


def _check(connection: sqlite3.Connection, path: Path) -> None:
    wrong = []
    for table, wanted in TABLES.items():
        found = {row["name"] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        if not found:
            wrong.append(f"there is no table {table}")
        elif wanted - found:
            wrong.append(f"the table {table} has no {', '.join(sorted(wanted - found))}")
    if wrong:
        hint = "name InstaDeploy's own file; its setting DATABASE_URL says where it is"
        raise CliError(f"{path} is no InstaDeploy database", problems=tuple(wrong), hint=hint)


def _files(projects: Path | None, hostname: str, name: str) -> tuple[str | None, str | None]:
    """Read a project's file, and the env file beside it: `HOST/PROJECT`, or `PROJECT` when there is one host."""
    for folder in (projects / hostname / name, projects / name) if projects is not None else ():
        for each in COMPOSE_NAMES:
            if (folder / each).is_file():
                env = folder / ".env"
                return _text(folder / each), _text(env) if env.is_file() else None
    return None, None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"{path} is not UTF-8") from error


def _word(value: Any, known: set[str], otherwise: str) -> str:
    """Read a state: its library writes names in capitals or values in small letters."""
    word = str(value).rpartition(".")[2].lower()
    return word if word in known else otherwise

"""What the agent promised to do and has done, on disk before it acts: jobs, their progress, their results.

SQLite with synchronous=FULL: once a call here returns, a power cut does not undo it. Payloads hold secrets only in
sealed form. One connection, used from the event loop's thread alone: a commit costs one flush of the disk.
Not here: doing the work (`jobs/`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from towline.agent.errors import StorageError
from towline.wire import link

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS job (
    job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, project TEXT NOT NULL, fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL, timeout REAL NOT NULL, payload BLOB NOT NULL, accepted_at REAL NOT NULL,
    begun_at REAL, plan BLOB, cancelled INTEGER NOT NULL DEFAULT 0, result BLOB, finished_at REAL,
    stored_at REAL, last_seq INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    job_id TEXT NOT NULL REFERENCES job ON DELETE CASCADE, seq INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A job in the journal."""

    job_id: str
    kind: str
    project: str
    fence: int
    attempt: int
    timeout: float
    payload: bytes
    accepted_at: float
    begun_at: float | None
    plan: bytes | None
    """Where the work stands, as its executor wrote it."""
    cancelled: bool
    result: link.JobResult | None
    stored: bool
    last_seq: int

    def __repr__(self) -> str:
        return f"<Entry {self.job_id} {self.kind} {self.project} {self.state}>"

    @property
    def state(self) -> str:
        if self.result is not None:
            return "stored" if self.stored else "finished"
        return "running" if self.begun_at is not None else "accepted"


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A job as somebody sees it who asks what goes on here: no plan, and a payload of commands alone."""

    job_id: str
    kind: str
    project: str
    attempt: int
    accepted_at: float
    begun_at: float | None
    finished_at: float | None
    cancelled: bool
    result: link.JobResult | None
    last: link.JobEvent | None
    """What was said last."""
    command: bytes = b""
    """The order of a command, for as long as it is kept."""


_COLUMNS = (
    "job_id, kind, project, fence, attempt, timeout, payload, accepted_at, begun_at, plan, cancelled, result, "
    "stored_at, last_seq"
)


class Journal:
    """The journal of one agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            for line in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=2000"):
                self._db.execute(f"PRAGMA {line}")
            self._db.executescript(_TABLES)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"journal {path}: {error}") from error

    def __repr__(self) -> str:
        return f"<Journal {self._path}>"

    def close(self) -> None:
        self._db.close()

    def accept(self, job: link.Job, project: str, now: float) -> bool:
        """Promise to do a job. Returns: False when it was promised before; its fence is then the newer one."""
        row = (job.job_id, job.kind, project, job.fence, job.attempt, job.timeout, bytes(job.payload), now)
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO job (job_id, kind, project, fence, attempt, timeout, payload, accepted_at) "
                "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                row,
            )
            if cursor.rowcount == 0:
                self._db.execute(
                    "UPDATE job SET fence=max(fence, ?), attempt=max(attempt, ?) WHERE job_id=?",
                    (job.fence, job.attempt, job.job_id),
                )
            return cursor.rowcount == 1

    def begin(self, job_id: str, now: float) -> None:
        """Note that work starts; the first time counts."""
        self._write("UPDATE job SET begun_at=coalesce(begun_at, ?) WHERE job_id=?", now, job_id)

    def keep_plan(self, job_id: str, plan: bytes) -> None:
        """Note where the work stands, before acting on it."""
        self._write("UPDATE job SET plan=? WHERE job_id=?", plan, job_id)

    def cancel(self, job_id: str) -> bool:
        """Note that somebody cancelled it. Returns: whether it is there and not finished."""
        return self._write("UPDATE job SET cancelled=1 WHERE job_id=? AND result IS NULL", job_id) == 1

    def finish(self, result: link.JobResult) -> None:
        """Note how it ended; the first result counts, and the payload is not needed any more."""
        self._write(
            "UPDATE job SET result=?, finished_at=?, payload=x'', plan=NULL WHERE job_id=? AND result IS NULL",
            msgspec.json.encode(result),
            result.finished_at,
            result.job_id,
        )

    def mark_stored(self, job_id: str, now: float) -> None:
        """Note that the control plane has the result."""
        self._write(
            "UPDATE job SET stored_at=coalesce(stored_at, ?) WHERE job_id=? AND result IS NOT NULL", now, job_id
        )

    def add_events(self, job_id: str, drafts: Sequence[link.JobEvent]) -> tuple[link.JobEvent, ...]:
        """Number events without a gap and keep them. Their own `seq` is not looked at."""
        with self._transaction():
            (last,) = self._db.execute("SELECT last_seq FROM job WHERE job_id=?", (job_id,)).fetchone()
            events = tuple(
                msgspec.structs.replace(draft, seq=last + number) for number, draft in enumerate(drafts, start=1)
            )
            self._db.executemany(
                "INSERT INTO event VALUES (?,?,?)",
                [(job_id, event.seq, msgspec.json.encode(event)) for event in events],
            )
            self._db.execute("UPDATE job SET last_seq=? WHERE job_id=?", (last + len(events), job_id))
        return events

    def events(self, job_id: str, after: int = 0, limit: int = 500) -> tuple[link.JobEvent, ...]:
        """Return events with a larger seq, in order."""
        rows = self._read("SELECT body FROM event WHERE job_id=? AND seq>? ORDER BY seq LIMIT ?", job_id, after, limit)
        return tuple(msgspec.json.decode(row[0], type=link.JobEvent) for row in rows)

    def entry(self, job_id: str) -> Entry | None:
        """Return a job."""
        rows = self._read(f"SELECT {_COLUMNS} FROM job WHERE job_id=?", job_id)  # noqa: S608 - constants
        return _entry(rows[0]) if rows else None

    def unfinished(self) -> tuple[Entry, ...]:
        """Return the jobs to be done or being done, oldest first."""
        return self._entries("result IS NULL")

    def unstored(self) -> tuple[Entry, ...]:
        """Return the finished jobs whose result the control plane has not confirmed, oldest first."""
        return self._entries("result IS NOT NULL AND stored_at IS NULL")

    @property
    def changes(self) -> int:
        """A number that is another one after each change, for who wants to know whether there was one."""
        with _translated():
            return self._db.total_changes

    def recent(self, most: int) -> tuple[Glance, ...]:
        """Return jobs at a glance: those to be done first, then those that ended last; `most` in all."""
        rows = self._read(
            "SELECT job.job_id, kind, project, attempt, accepted_at, begun_at, finished_at, cancelled, result, body, "
            "CASE kind WHEN 'command.run' THEN payload END "
            "FROM job LEFT JOIN event ON event.job_id = job.job_id AND event.seq = job.last_seq "
            "ORDER BY result IS NOT NULL, coalesce(finished_at, accepted_at) DESC, job.rowid DESC LIMIT ?",
            most,
        )
        return tuple(_glance(row) for row in rows)

    def forget_before(self, moment: float) -> tuple[str, ...]:
        """Remove jobs that were stored before a moment; returns their ids."""
        rows = self._read("SELECT job_id FROM job WHERE stored_at < ?", moment)
        self._write("DELETE FROM job WHERE stored_at < ?", moment)
        return tuple(row[0] for row in rows)

    def _entries(self, condition: str) -> tuple[Entry, ...]:
        rows = self._read(f"SELECT {_COLUMNS} FROM job WHERE {condition} ORDER BY rowid")  # noqa: S608
        return tuple(_entry(row) for row in rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _write(self, statement: str, *values: Any) -> int:
        with _translated():
            return self._db.execute(statement, values).rowcount

    def _read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with _translated():
            return self._db.execute(statement, values).fetchall()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"the journal cannot be used: {error}") from error


def _entry(row: Iterable[Any]) -> Entry:
    job_id, kind, project, fence, attempt, timeout, payload, accepted, begun, plan, cancelled, result, stored, seq = row
    return Entry(
        job_id=job_id,
        kind=kind,
        project=project,
        fence=fence,
        attempt=attempt,
        timeout=timeout,
        payload=payload,
        accepted_at=accepted,
        begun_at=begun,
        plan=plan,
        cancelled=bool(cancelled),
        result=msgspec.json.decode(result, type=link.JobResult) if result is not None else None,
        stored=stored is not None,
        last_seq=seq,
    )


def _glance(row: Iterable[Any]) -> Glance:
    job_id, kind, project, attempt, accepted, begun, finished, cancelled, result, body, command = row
    return Glance(
        job_id=job_id,
        kind=kind,
        project=project,
        attempt=attempt,
        accepted_at=accepted,
        begun_at=begun,
        finished_at=finished,
        cancelled=bool(cancelled),
        result=msgspec.json.decode(result, type=link.JobResult) if result is not None else None,
        last=msgspec.json.decode(body, type=link.JobEvent) if body is not None else None,
        command=command or b"",
    )

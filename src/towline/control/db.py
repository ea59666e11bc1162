"""The database of the control plane: one metadata for all tables, transactions, and what differs by dialect.

Queries live in each feature's `repository.py`. SQLite has one writer at a time: a transaction of `begin()` takes the
write lock at once (BEGIN IMMEDIATE), so that nothing it read can change before it writes.
Source: https://sqlite.org/lang_transaction.html, "DEFERRED, IMMEDIATE, and EXCLUSIVE transactions".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import JSON, Connection, DateTime, Executable, Float, MetaData, Table, event, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from towline.aio.tasks import TaskOwner
from towline.aio.together import Answer, Together
from towline.control.bus import Bus
from towline.control.errors import ApiError, ErrorCode, StartupError

_Q = TypeVar("_Q")
_A = TypeVar("_A")

SQLITE_READERS = 4
"""Connections, each a thread, that read beside the one writer: WAL lets them, and two cores feed no more."""

POSTGRES_CONNECTIONS = 10
POSTGRES_OVERFLOW = 10
"""Connections kept, and made on demand beyond: together below the server's usual limit of 100 for four replicas."""

POOL_WAIT = 5.0
"""Seconds that a request waits for a connection before it is told that the database is busy."""

BUSY_WAIT_MS = 5000
"""Milliseconds that SQLite waits for another process's lock: a backup or a shell, never another server."""

STATEMENT_TIMEOUT_MS = 30_000
"""Milliseconds after which PostgreSQL gives a statement up: none of ours takes a second."""

SQLITE_FULL_WORDS = ("database or disk is full",)
SQLITE_BUSY_WORDS = ("database is locked", "disk i/o error", "readonly database", "unable to open")
POSTGRES_FULL = frozenset({"53100"})
"""SQLSTATE disk_full."""
POSTGRES_BAD_TEXT = frozenset({"22021", "22P05"})
"""SQLSTATE character_not_in_repertoire and untranslatable_character: a NUL in text."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC. Refuses naive ones, whose zone nobody knows."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
"""A JSON document."""


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy once
        datetime: UtcDateTime,
        dict[str, Any]: Json,
        dict[str, str]: Json,
        list[str]: Json,
        list[Any]: Json,
    }


metadata = Base.metadata


class now(FunctionElement[datetime]):  # noqa: N801 - reads like the SQL function that it is
    """The database's clock, plus some seconds. The only clock that leases and expiry are measured by.

    The seconds are a bound parameter, so that a statement with it is compiled once.
    """

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(float(seconds), Float()))


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds})) || '000')"


@compiles(now, "postgresql")
def _postgres_now(element: now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


BeforeCommit = Callable[["Transaction"], Awaitable[None]]


class Transaction(AsyncSession):
    """One transaction. Committed when the block of `Database.begin` ends, rolled back when it raises."""

    bus: Bus | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_steps: list[BeforeCommit] = []
        self.after_commit: list[Callable[[], object]] = []

    def before_commit(self, step: BeforeCommit) -> None:
        """Run a step as the last thing in this transaction: what takes a lock that everybody needs."""
        self.last_steps.append(step)

    def publish(self, topic: str, **ids: str) -> None:
        """Hint at a change once it is committed; nothing is said when it is rolled back."""
        if self.bus is not None:
            bus = self.bus
            self.after_commit.append(lambda: bus.publish(topic, **ids))

    async def now(self) -> datetime:
        """Read the database's clock."""
        moment: datetime | None = await self.scalar(select(now()))
        assert moment is not None
        return moment


class Database:
    """The engine of one database, and its transactions."""

    def __init__(self, url: str, *, bus: Bus | None = None) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.bus = bus
        self._writer = _sqlite_engine(self.url, readers=0) if self.is_sqlite else _postgres_engine(self.url)
        self._reader = _sqlite_engine(self.url, readers=SQLITE_READERS) if self.is_sqlite else self._writer
        self._closed = False
        for engine in {self._writer, self._reader}:
            event.listen(engine.sync_engine, "checkin", self._returned)

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<Database {self.url.get_backend_name()} {self.url.database}{state}>"

    @property
    def engine(self) -> AsyncEngine:
        """The engine that writes, for migrations."""
        return self._writer

    @property
    def reader(self) -> AsyncEngine:
        """The engine that only reads, for backups."""
        return self._reader

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a transaction that may write.

        Raises: ApiError: storage_full or unavailable, when the database cannot do it now or is closed. IntegrityError:
            a constraint; the caller knows which conflict that is.
        """
        self._check_open()
        with _translated():
            async with Transaction(self._writer, expire_on_commit=False) as tx:
                tx.bus = self.bus
                yield tx
                while tx.last_steps:
                    await tx.last_steps.pop(0)(tx)
                await tx.commit()
        for step in tx.after_commit:
            step()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Open a transaction that sees one state and writes nothing. Raises: ApiError: unavailable."""
        self._check_open()
        with _translated():
            async with Transaction(self._reader, expire_on_commit=False) as tx:
                if not self.is_sqlite:
                    await tx.connection(execution_options={"postgresql_readonly": True})
                yield tx

    async def close(self) -> None:
        """Close every connection, for good: those that a transaction still holds when it ends. Safe to call twice."""
        self._closed = True
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise ApiError(ErrorCode.UNAVAILABLE, "the database is closed", hint="this server is stopping")

    def _returned(self, _: object, entry: ConnectionPoolEntry) -> None:
        """Close what comes back late: `dispose` forgets connections in use, and their old pool would keep them open."""
        if self._closed:
            entry.invalidate()


async def upsert(
    tx: AsyncSession,
    table: Table | type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Insert rows; where `key` exists, overwrite the columns that the rows name.

    Args: defaults: further columns of new rows; existing ones keep what they have.
    """
    if not rows:
        return
    target = table if isinstance(table, Table) else table.__table__
    assert isinstance(target, Table)
    dialect = tx.get_bind().dialect.name
    insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(target)
    changed = {name: insert.excluded[name] for name in rows[0] if name not in key}
    if changed:
        statement = insert.on_conflict_do_update(index_elements=list(key), set_=changed)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=list(key))
    await tx.execute(statement, [{**(defaults or {}), **row} for row in rows])


def table_of(entity: type[Base]) -> Table:
    """Return the table of an entity, for statements that the ORM has no part in."""
    table = entity.__table__
    assert isinstance(table, Table)
    return table


async def execute_many(tx: AsyncSession, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run a statement of a table once for each row, in one call to the driver."""
    if rows:
        await (await tx.connection()).execute(statement, [dict(row) for row in rows])


def parse_url(text: str) -> URL:
    """Return the URL with the driver that we use. Raises: StartupError: neither SQLite nor PostgreSQL."""
    try:
        url = make_url(text)
    except Exception as error:
        raise StartupError("database_url is no URL; write sqlite:////path or postgresql://user@host/name") from error
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    name = url.drivername.partition("+")[0]
    if name not in drivers:
        raise StartupError(f"database_url names {name!r}; only sqlite and postgresql work")
    return url.set(drivername=drivers[name])


def _postgres_engine(url: URL) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=POSTGRES_OVERFLOW,
        pool_timeout=POOL_WAIT,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": POOL_WAIT,
            "server_settings": {
                "application_name": "towline",
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
                "timezone": "UTC",
            },
        },
    )


def sqlite_migration_engine(url: URL) -> AsyncEngine:
    """Return an engine without foreign keys: rebuilding a table would delete what refers to it."""
    return _sqlite_engine(url, readers=0, foreign_keys=False)


def _sqlite_engine(url: URL, *, readers: int, foreign_keys: bool = True) -> AsyncEngine:
    engine = create_async_engine(
        url, pool_size=readers or 1, max_overflow=0, pool_timeout=POOL_WAIT, hide_parameters=True
    )
    begin = "BEGIN" if readers else "BEGIN IMMEDIATE"

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own transactions begin too late
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_WAIT_MS}")
        if not readers:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.execute(f"PRAGMA query_only={'ON' if readers else 'OFF'}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Turn what a database cannot do now into an ApiError; constraints pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IntegrityError) or error is None:
            return
        if isinstance(error, DBAPIError | PoolTimeout | OSError):
            translated = translate(error)
            if translated is not None:
                raise translated from error


def ask_together(owner: TaskOwner, name: str, answer: Answer[_Q, _A], *, most: int, waiting: int) -> Together[_Q, _A]:
    """Gather what is asked of a database. Asking raises ApiError `unavailable` too where no room is left."""

    def unavailable() -> ApiError:
        return ApiError(ErrorCode.UNAVAILABLE, "too many wait for the database", hint="try again in a moment")

    return Together(owner, name, answer, most=most, waiting=waiting, unavailable=unavailable, is_outage=_is_outage)


def _is_outage(error: Exception) -> bool:
    """Tell a database that can do nothing now from one that does not take this."""
    return isinstance(error, ApiError) and error.code in (ErrorCode.UNAVAILABLE, ErrorCode.STORAGE_FULL)


def translate(error: BaseException) -> ApiError | None:
    """Return what the caller is told when the database refuses, or None when it is our own mistake."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", "") or "")
    text = str(getattr(error, "orig", error)).lower()
    if state in POSTGRES_FULL or any(words in text for words in SQLITE_FULL_WORDS):
        return ApiError(
            ErrorCode.STORAGE_FULL, "the disk of the database is full; nothing was changed", hint="free some space"
        )
    if state in POSTGRES_BAD_TEXT:
        return ApiError(ErrorCode.INVALID, "text may not hold a NUL character")
    busy = any(words in text for words in SQLITE_BUSY_WORDS) or state[:2] in {"08", "53", "57"}
    if busy or isinstance(error, PoolTimeout | OSError) or getattr(error, "connection_invalidated", False):
        return ApiError(ErrorCode.UNAVAILABLE, "the database does not answer", hint="try again in a moment")
    return None

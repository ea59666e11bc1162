"""A PostgreSQL server of the test bed's own, on a free loopback port, and fresh databases in it."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import paths, processes
from tests.testbed.requirement import Missing

PART = "postgres"
INSTALLATIONS = Path("/usr/lib/postgresql")
START_TIMEOUT = 60
# Two replicas with their pools, in tests that a developer runs twice at once, stay under it.
MAX_CONNECTIONS = 300
# A run makes more than a thousand databases of six hundred files each, five times faster in memory than on a disk. It
# holds few of them at a time, and the log of what was written, which PostgreSQL keeps below a gigabyte.
MEMORY = Path("/dev/shm")
MEMORY_ROOM = 3 * 1024**3
# A test cluster may lose everything in a crash, and is three times faster for it.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": str(MAX_CONNECTIONS),
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
}
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach the running server as its superuser."""

    port: int
    password: str

    def __repr__(self) -> str:
        return f"Server(port={self.port})"

    def url(self, database: str = "postgres") -> str:
        """A URL for drivers and for Towline's settings."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"


def programs() -> Path:
    """Folder of the newest installed server's programs, which Debian keeps off the search path."""
    found = sorted(INSTALLATIONS.glob("*/bin/pg_ctl"), key=lambda program: int(program.parent.parent.name))
    if found:
        return found[-1].parent
    if elsewhere := shutil.which("pg_ctl"):
        return Path(elsewhere).parent
    raise Missing(PART, "there is no PostgreSQL server", "apt-get install postgresql")


def run(*argv: str | Path, stdin: str | None = None, password: str = "") -> str:
    """Run one of PostgreSQL's programs, as its own user when we are root, which it refuses to serve."""
    user = owner()
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        capture_output=True,
        text=True,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
        env={**os.environ, "PGPASSWORD": password},
    )
    if done.returncode:
        raise RuntimeError(f"{Path(argv[0]).name} failed: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def owner() -> str | None:
    """The user that the server runs as, None for ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def ensure() -> Server:
    """The running server, started first when it is not there. Raises: Missing."""
    tools = programs()
    server = running()
    if server is None:
        try:
            server = _start(tools)
        except (RuntimeError, OSError) as error:
            raise Missing(PART, str(error), f"look at {_folder_file()}") from error
    return server


def running() -> Server | None:
    """The server that an earlier run started, if it still answers."""
    note = paths.state(PART) / "server"
    if not note.exists():
        return None
    port, password = note.read_text().split()
    server = Server(int(port), password)
    return server if _answers(server) else None


def _answers(server: Server) -> bool:
    try:
        return execute(server, "SELECT 1;") == "1"
    except RuntimeError:
        return False


def _folder_file() -> Path:
    return paths.state(PART) / "folder"


def _start(tools: Path) -> Server:
    _remove()
    server = Server(processes.free_port(), secrets.token_urlsafe(24))
    # Not under the home folder: the server's user may not be able to enter that.
    folder = Path(tempfile.mkdtemp(prefix="towline-postgres-", dir=_place()))
    _folder_file().write_text(str(folder))
    if user := owner():
        shutil.chown(folder, user, user)
    data = folder / "data"
    _initialise(tools, folder, data, server)
    run(tools / "pg_ctl", "start", "--wait", "--timeout", str(START_TIMEOUT), "-D", data, "-l", folder / "log")
    note = paths.state(PART) / "server"
    note.touch(mode=0o600)
    note.write_text(f"{server.port} {server.password}\n")
    return server


def _place() -> Path | None:
    """The folder in memory when there is room in it; None: where other temporary files are."""
    with contextlib.suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_ROOM:
            return MEMORY
    return None


def _initialise(tools: Path, folder: Path, data: Path, server: Server) -> None:
    password_file = folder / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(server.password)
    if user := owner():
        shutil.chown(password_file, user, user)
    run(
        tools / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--username=postgres",
        "--auth=scram-sha-256", f"--pwfile={password_file}", "-D", data,
    )  # fmt: skip
    password_file.unlink()
    settings = {**SETTINGS, "port": str(server.port), "unix_socket_directories": str(folder)}
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


def execute(server: Server, statement: str, database: str = "postgres") -> str:
    """Run SQL through psql. Returns: rows without decoration, one a line."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", database]
    options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"]
    return run(programs() / "psql", *where, *options, stdin=statement, password=server.password).strip()


def create_database(server: Server, name: str, *, template: str = "template0") -> str:
    """Make an empty database, or a copy of `template`, which nobody may be using. Returns: its URL."""
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"not a database name: {name!r}")
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy;")
    return server.url(name)


def drop_database(server: Server, name: str) -> None:
    """Drop a database and throw out whoever is still connected to it."""
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"not a database name: {name!r}")
    execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE);")


@contextlib.contextmanager
def passing_database(server: Server, *, template: str = "template0") -> Iterator[str]:
    """A database for as long as the block lasts, empty or a copy as in `create_database`. Gives: its name."""
    name = f"towline_{secrets.token_hex(8)}"
    create_database(server, name, template=template)
    try:
        yield name
    finally:
        drop_database(server, name)


def dump(server: Server, name: str) -> str:
    """Everything in a database as SQL text, for tests that look for what must not be there."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", name]
    return run(programs() / "pg_dump", *where, "--inserts", password=server.password)


def status() -> str:
    """One line for people."""
    server = running()
    return f"answers on 127.0.0.1:{server.port}" if server else "does not run"


def down() -> None:
    """Stop the server and delete its data."""
    note = _folder_file()
    if note.exists() and (data := Path(note.read_text()) / "data").exists():
        try:
            run(programs() / "pg_ctl", "stop", "--mode=immediate", "-D", data)
        except RuntimeError as error:
            if "PID file" not in str(error):  # it had ended before
                raise
    _remove()


def _remove() -> None:
    note = _folder_file()
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
    note.unlink(missing_ok=True)
    (paths.state(PART) / "server").unlink(missing_ok=True)

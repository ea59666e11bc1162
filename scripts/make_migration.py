"""Write a migration from the difference between the tables of the code and those that the migrations make.

    python -m scripts.make_migration "add the owner of a cluster"
    python -m scripts.make_migration --initial      (only before the first release: writes 0001 anew)

Read what it wrote before you commit it: renames look like a loss to it.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from alembic.command import revision
from sqlalchemy import Connection

from towline.control import schema
from towline.control.audit.models import POSTGRES_TRIGGERS, SQLITE_TRIGGERS
from towline.control.db import Database

VERSIONS = schema.FOLDER / "versions"
INITIAL = "0001"
TRIGGERS = f"""
    statements = {{
        "sqlite": {SQLITE_TRIGGERS!r},
        "postgresql": {POSTGRES_TRIGGERS!r},
    }}
    for statement in statements[op.get_bind().dialect.name]:
        op.execute(sa.text(statement.replace(":", "\\\\:")))
"""


def main() -> None:
    """Write the file and print its path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("message", nargs="?", default="Tables of the first release")
    parser.add_argument("--initial", action="store_true")
    given = parser.parse_args()
    if given.initial:
        for old in VERSIONS.glob("*.py"):
            old.unlink()
    number = f"{len(list(VERSIONS.glob('0*.py'))) + 1:04}"
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write(Path(folder), given.message, number))
    (written,) = VERSIONS.glob(f"{number}_*.py")
    if number == INITIAL:
        written.write_text(written.read_text().rstrip("\n") + "\n" + TRIGGERS)
    print(written)


async def write(folder: Path, message: str, number: str) -> None:
    """Compare with an empty database that every migration so far was run on."""
    db = Database(f"sqlite:///{folder / 'compare.sqlite'}")
    try:
        await schema.prepare(db, folder / "backups", 1)
        async with db.engine.connect() as connection:
            await connection.run_sync(lambda sync: autogenerate(sync, message, number))
    finally:
        await db.close()


def autogenerate(connection: Connection, message: str, number: str) -> None:
    """Let Alembic write the file."""
    alembic = schema.config()
    alembic.attributes["connection"] = connection
    revision(alembic, message, autogenerate=True, rev_id=number)


if __name__ == "__main__":
    main()

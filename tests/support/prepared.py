"""Databases that hold today's schema and nothing else: migrated once a run, and copied for each test.

Tests of migrations, and of the first start, take an empty database instead: `database_url`.
"""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from towline.control import schema
from towline.control.bus import Bus
from towline.control.db import Database

FILE = "towline.sqlite"


def migrate(url: str, folder: Path) -> None:
    """Bring an empty database to today's schema. The loop is another thread's: a test may have its own here."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, _migrate(url, folder)).result()


async def _migrate(url: str, folder: Path) -> None:
    db = Database(url, bus=Bus())
    try:
        await schema.prepare(db, folder, 0)
    finally:
        await db.close()


def sqlite_copy(prepared: Path, folder: Path) -> str:
    """Copy a prepared file. Returns: the copy's URL."""
    copy = folder / FILE
    shutil.copyfile(prepared, copy)
    return f"sqlite:///{copy}"

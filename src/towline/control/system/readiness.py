"""Whether requests can be served: the database, its schema, the disk, and that the server is not stopping."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from towline.control import schema
from towline.control.errors import ApiError

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Free space below which the server calls itself not ready: room for the write-ahead log and a bundle or two."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    reason: str = ""


async def checks(control: ControlPlane) -> list[Check]:
    """Look at everything; each check says what is wrong by itself."""
    database = await _database(control)
    found = [database]
    found.append(
        await _migrations(control) if database.ok else Check("migrations", False, "the database does not answer")
    )
    found.append(disk(control))
    found.append(Check("draining", not control.draining, "the server is stopping" if control.draining else ""))
    return found


async def _database(control: ControlPlane) -> Check:
    try:
        async with control.db.read() as tx:
            await tx.execute(text("SELECT 1"))
    except ApiError as error:
        return Check("database", False, error.message)
    return Check("database", True)


async def _migrations(control: ControlPlane) -> Check:
    try:
        current = await schema.is_current(control.db)
    except ApiError as error:
        return Check("migrations", False, error.message)
    return Check("migrations", current, "" if current else "the schema is not that of this release; restart the server")


def disk(control: ControlPlane) -> Check:
    """Look at the free space below the data folder."""
    folder = control.settings.data_folder
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", False, f"{folder} cannot be looked at: {error.strerror}")
    if free < LEAST_FREE_BYTES:
        reason = (
            f"only {free // 1024**2} MiB free below {folder}; at least {LEAST_FREE_BYTES // 1024**2} MiB are needed"
        )
        return Check("disk", False, reason)
    return Check("disk", True)

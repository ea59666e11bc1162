"""Opens a control plane from its settings: folder, lock, database, keys, first user. The inverse closes it.

The order matters: nothing is made anew before what exists was read, so that a missing key is never replaced.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control import listing, schema
from towline.control.access import setup
from towline.control.app import ControlPlane
from towline.control.bus import Bus
from towline.control.db import Database
from towline.control.errors import StartupError
from towline.control.lock import ProcessLock
from towline.control.sealing import canary
from towline.control.sealing.service import Sealer
from towline.control.settings import Settings

KEYS = "keys"
BACKUPS = "backups"


@asynccontextmanager
async def opened(
    settings: Settings, *, clock: Clock = REAL_CLOCK, exclusive: bool = True
) -> AsyncIterator[ControlPlane]:
    """Hold a control plane whose database is ready; its loops are not started.

    Args: exclusive: False for a short command beside a running server.
    Raises: StartupError.
    """
    make_folder(settings.data_folder)
    lock = ProcessLock(settings.data_folder)
    if exclusive:
        lock.acquire()
    try:
        bus = Bus()
        db = Database(settings.resolved_database_url(), bus=bus)
        try:
            await schema.prepare(db, settings.data_folder / BACKUPS, settings.backups_kept)
            ring = await canary.open_ring(db, settings.data_folder / KEYS, settings.sealing_key_files)
            listing.use_key(ring.derive("list cursors"))
            control = ControlPlane(settings, db, bus, Sealer(ring), clock=clock)
            control.setup_token = await setup.prepare(control)
            try:
                yield control
            finally:
                await control.stop()
        finally:
            await db.close()
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Make the data folder; it belongs to the server's user alone. Raises: StartupError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StartupError(f"the data folder {folder} cannot be written by this user")
    except OSError as error:
        raise StartupError(f"the data folder {folder} cannot be made: {error.strerror}") from error

"""What agents are told to trust, numbered: addresses, authorities and release keys may change while agents are away.

A version grows with each change, and is never below the seconds since 1970 at that change, so that it also grows when
the database was restored from an old backup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.agents import keys
from towline.control.agents.identity import IdentitySource
from towline.control.agents.models import TrustState
from towline.control.db import Database
from towline.control.logging import get_logger
from towline.wire import link

_log = get_logger("agents")

KEYS_PATTERN = "update-*.pub"
MOST_KEYS = 4
"""Release keys at once: the present one, the next one, and room for a mistake."""


class TrustKeeper:
    """Knows the trust that agents get, and notices when it has changed."""

    def __init__(self, db: Database, identity: IdentitySource, *, clock: Clock = REAL_CLOCK) -> None:
        self._db = db
        self._identity = identity
        self._clock = clock
        self._current = link.Trust(fingerprints=())
        self.on_change: Callable[[link.Trust], None] | None = None

    @property
    def current(self) -> link.Trust:
        """Return what agents get now."""
        return self._current

    async def refresh(self) -> bool:
        """Look again at what agents should trust; tells whether it has changed since the last look."""
        wanted = self._identity().trust(0)
        digest = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()
        async with self._db.begin() as tx:
            row = await tx.get(TrustState, 1)
            changed = row is None or row.digest != digest
            if changed:
                version = max(row.version + 1 if row else 1, int(self._clock.now().timestamp()))
                row = TrustState(id=1, digest=digest, version=version, changed_at=await tx.now())
                await tx.merge(row)
            assert row is not None
            version = row.version
        fresh = self._current.version != version or not self._current.fingerprints
        self._current = msgspec.structs.replace(wanted, version=version)
        if changed:
            _log.info("agents are told to trust anew", version=version, servers=list(wanted.server_urls))
            if self.on_change is not None:
                self.on_change(self._current)
        return fresh and changed


def signing_keys(folder: Path) -> tuple[str, ...]:
    """Return the release keys in a folder, `update-*.pub` with base64url each; what is no key is left out."""
    found = []
    for path in sorted(folder.glob(KEYS_PATTERN))[:MOST_KEYS]:
        try:
            found.append(keys.pack(keys.parse_identity_key(path.read_text().strip())))
        except (OSError, UnicodeDecodeError, keys.BadKey) as error:
            _log.error("release key left out", file=str(path), why=str(error))
    return tuple(found)

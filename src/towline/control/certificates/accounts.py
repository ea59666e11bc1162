"""Our account at the authority: one key for the whole installation, sealed, and the client that uses it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from towline.control.certificates import keys, repository
from towline.control.certificates.acme_client import AcmeClient
from towline.control.certificates.acme_objects import Binding
from towline.control.certificates.acme_port import Authority, ThreadedAuthority
from towline.control.certificates.errors import Blocked
from towline.control.certificates.models import AcmeAccount
from towline.control.db import Database, now
from towline.control.ids import DEFAULT_ORG
from towline.control.logging import get_logger

_log = get_logger("certificates")

PURPOSE = "acme-account-key"


class Sealer(Protocol):
    """What seals at rest."""

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes: ...

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """Which authority, and as whom."""

    directory: str
    email: str = ""
    ca_file: str = ""
    binding_key_id: str = ""
    binding_file: Path | None = None

    def binding(self) -> Binding | None:
        """Read the key of the external account. Raises: Blocked: the file cannot be read."""
        if not self.binding_key_id or self.binding_file is None:
            return None
        try:
            return Binding(self.binding_key_id, self.binding_file.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise Blocked("acme_eab_hmac_file cannot be read") from error


class Accounts:
    """Gives the authority, with an account. One per process; every replica uses the same key."""

    def __init__(self, db: Database, sealer: Sealer, settings: AuthoritySettings) -> None:
        self._db = db
        self._sealer = sealer
        self._settings = settings
        self._ready: ThreadedAuthority | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Accounts {self._settings.directory} {'ready' if self._ready else 'not asked yet'}>"

    @property
    def directory(self) -> str:
        return self._settings.directory

    async def authority(self) -> Authority:
        """Return the authority, registered first when it never was. Raises: CertificateError."""
        async with self._lock:
            if self._ready is None:
                self._ready = await self._open()
            return self._ready

    async def forget(self) -> None:
        """The authority does not know our account any more: register again at the next use, with the same key."""
        async with self._lock:
            await self._drop()
            async with self._db.begin() as tx:
                row = await repository.account(tx, self.directory)
                if row is not None:
                    row.url = ""

    async def close(self) -> None:
        """Let go of the connections."""
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        if self._ready is not None:
            self._ready.close()
            self._ready = None

    async def _open(self) -> ThreadedAuthority:
        row = await self._row()
        key = keys.elliptic(self._sealer.open(DEFAULT_ORG, self.directory, 1, PURPOSE, row.sealed_key))

        def make(account_url: str) -> AcmeClient:
            return AcmeClient(self.directory, key, ca_file=self._settings.ca_file, account_url=account_url)

        authority = ThreadedAuthority(make, row.url)
        if not row.url:
            try:
                await self._register(authority)
            except BaseException:
                authority.close()
                raise
        return authority

    async def _register(self, authority: ThreadedAuthority) -> None:
        binding = await asyncio.to_thread(self._settings.binding)
        directory = await authority.directory()
        if directory.needs_binding and binding is None:
            raise Blocked("the authority takes known customers alone: set acme_eab_key_id and acme_eab_hmac_file")
        url = await authority.register(self._settings.email, binding)
        async with self._db.begin() as tx:
            row = await repository.account(tx, self.directory)
            if row is not None:
                row.url, row.email = url, self._settings.email
        _log.info("account at the authority", directory=self.directory, account=url)

    async def _row(self) -> AcmeAccount:
        sealed = self._sealer.seal(DEFAULT_ORG, self.directory, 1, PURPOSE, keys.new_private_key())
        async with self._db.begin() as tx:
            row = await repository.account(tx, self.directory)
            if row is None:
                made = {"directory": self.directory, "sealed_key": sealed, "url": "", "email": "", "created_at": now()}
                await repository.add_account(tx, {**made, "created_at": await tx.now()})
                row = await repository.account(tx, self.directory)
            assert row is not None
            return row

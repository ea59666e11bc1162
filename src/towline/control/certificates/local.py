"""Certificates of published names from the server's own authority: for development, where no other one would sign.

They are made when a client first asks for a name, and live in memory alone: names that nobody visits cost nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from towline.aio.clock import Clock
from towline.control.authority import certificates
from towline.control.certificates import keys
from towline.control.logging import get_logger
from towline.gateway.certificates import MAX_CONTEXTS, Material, covers

_log = get_logger("certificates")

RENEW_AFTER = timedelta(days=60)
"""Of the 90 days that our own certificates live."""


class LocalSigner:
    """Signs with the authority in the data folder, and only for the names in `owners`.

    Args: folder: where `authority.pem` and `authority.key` are.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.owners: Mapping[str, str] = {}
        """The organisation of each name."""
        self._folder = folder
        self._clock = clock
        self._authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
        self._made: OrderedDict[str, tuple[Material, datetime]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LocalSigner {len(self.owners)} names, {len(self._made)} made>"

    def __call__(self, name: str) -> Material | None:
        """Return a certificate for a name that is published; None for any other."""
        if not covers(self.owners, name):
            return None
        held, now = self._made.get(name), self._clock.now()
        if held is not None and now < held[1]:
            return held[0]
        made = self._sign(name, now)
        if made is not None:
            self._made[name] = (made, now + RENEW_AFTER)
            if len(self._made) > MAX_CONTEXTS:
                self._made.popitem(last=False)
        return made

    def _sign(self, name: str, now: datetime) -> Material | None:
        try:
            authority, authority_key = self._loaded()
        except (OSError, ValueError) as error:
            _log.error("the server's own authority cannot be read", why=str(error))
            return None
        key = certificates.new_key()
        made = certificates.new_server(key, [name], authority, authority_key, now)
        chain = certificates.chain_pem(made, authority)
        return Material(f"local/{made.serial_number:x}", (name,), chain, certificates.key_pem(key))

    def _loaded(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if self._authority is None:
            certificate = x509.load_pem_x509_certificate((self._folder / "authority.pem").read_bytes())
            self._authority = certificate, keys.elliptic((self._folder / "authority.key").read_bytes())
        return self._authority

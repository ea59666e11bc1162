"""Certificates of published names from the server's own authority: for development, where no other one would sign."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from towline.aio.clock import Clock
from towline.control.authority import certificates
from towline.control.certificates import keys
from towline.control.certificates.errors import Blocked


class LocalAuthority:
    """Signs with the authority in the data folder. Args: folder: where `authority.pem` and `authority.key` are."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def __repr__(self) -> str:
        return f"<LocalAuthority {self._folder}>"

    def sign(self, name: str) -> tuple[str, bytes]:
        """Return chain and key, both PEM. Raises: Blocked: the authority cannot be read."""
        try:
            authority = x509.load_pem_x509_certificate((self._folder / "authority.pem").read_bytes())
            authority_key = keys.elliptic((self._folder / "authority.key").read_bytes())
        except (OSError, ValueError) as error:
            raise Blocked("the server's own authority cannot be read") from error
        key = certificates.new_key()
        made = certificates.new_server(key, [name], authority, authority_key, self._clock.now())
        return certificates.chain_pem(made, authority).decode(), certificates.key_pem(key)

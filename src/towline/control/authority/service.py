"""The server's TLS: from files that somebody else renews, or from an authority of our own made at first start.

`context()` is asked for every connection, so a renewed certificate is used at once. The server's own key stays the
same when its certificate is renewed, because install commands pin it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.control.access.setup import write_secret
from towline.control.authority import certificates
from towline.control.authority.names import server_names
from towline.control.errors import StartupError
from towline.control.logging import get_logger
from towline.control.settings import Settings
from towline.gateway.tls import server_context

_log = get_logger("tls")

FOLDER = "tls"
LOOK_INTERVAL = 10.0
"""Seconds between two looks at the files: a renewed certificate is served within that time."""
RENEW_INTERVAL = 3600.0


@dataclass(frozen=True, slots=True)
class Material:
    """One certificate in use, and what others pin of it."""

    context: ssl.SSLContext
    certificate: x509.Certificate
    fingerprint: str
    """Of the authority; empty when the certificate is to be checked against the system's trust."""
    spki_pin: str
    authority_pem: str


class ServerTls:
    """Holds the material in use and renews it. Raises StartupError from the constructor when there is none."""

    def __init__(self, settings: Settings, *, clock: Clock = REAL_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._tasks = TaskOwner("tls")
        self._seen: object = None
        self._material = self._load()

    def __repr__(self) -> str:
        return f"<ServerTls until {self._material.certificate.not_valid_after_utc:%Y-%m-%d} {self.fingerprint}>"

    @property
    def fingerprint(self) -> str:
        return self._material.fingerprint

    @property
    def material(self) -> Material:
        return self._material

    @property
    def names(self) -> tuple[str, ...]:
        """Host names of the certificate in use, wildcards included."""
        found = self._material.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))

    def context(self) -> ssl.SSLContext:
        """Return the context for one more connection."""
        return self._material.context

    async def start(self) -> None:
        """Begin looking for renewed files and at the age of our own certificate."""
        self._tasks.spawn("renew", self._renew())

    async def stop(self) -> None:
        """Stop looking."""
        await self._tasks.close()

    async def refresh(self) -> bool:
        """Load what changed; keeps serving the old certificate when the new one is unusable. Returns: changed."""
        if self._from_files and await asyncio.to_thread(self._stamp) == self._seen:
            return False
        before = self._material.certificate
        try:
            self._material = await asyncio.to_thread(self._load)
        except StartupError as error:
            _log.error("certificate not renewed, the old one stays", why=str(error))
            return False
        changed = self._material.certificate != before
        if changed:
            _log.info("certificate changed", until=f"{self._material.certificate.not_valid_after_utc:%Y-%m-%d}")
        return changed

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(LOOK_INTERVAL if self._from_files else RENEW_INTERVAL)
            await self.refresh()

    @property
    def _from_files(self) -> bool:
        return self._settings.tls_certificate_file is not None

    def _stamp(self) -> object:
        paths = (self._settings.tls_certificate_file, self._settings.tls_key_file)
        with suppress(OSError):
            return [
                (status.st_mtime_ns, status.st_size, status.st_ino)
                for path in paths
                if path and (status := path.stat())
            ]
        return None

    def _load(self) -> Material:
        certificate, key = self._settings.tls_certificate_file, self._settings.tls_key_file
        if certificate is not None and key is not None:
            self._seen = self._stamp()
            return load_files(certificate, key)
        return load_own(self._settings, self._clock)


def load_files(certificate_file: Path, key_file: Path) -> Material:
    """Load a certificate chain that somebody else made. Raises: StartupError."""
    try:
        chain = x509.load_pem_x509_certificates(certificate_file.read_bytes())
        context = server_context(certificate_file, key_file)
    except (OSError, ValueError, ssl.SSLError) as error:
        text = f"the certificate {certificate_file} and the key {key_file} cannot be used: {error}"
        raise StartupError(text) from error
    top = chain[-1]
    pinned = top.subject == top.issuer
    pem = certificates.chain_pem(top).decode() if pinned else ""
    fingerprint = certificates.fingerprint(top) if pinned else ""
    return Material(context, chain[0], fingerprint, certificates.spki_pin(chain[0]) if pinned else "", pem)


def load_own(settings: Settings, clock: Clock) -> Material:
    """Load the authority and its certificate for this server; make or renew what is missing or old."""
    folder = settings.data_folder / FOLDER
    names = server_names([*settings.hostnames, *_hosts(settings), settings.instadeploy_host])
    if settings.kubernetes_host:
        names.append(f"*.{settings.kubernetes_host}")
    now = clock.now()
    try:
        authority, authority_key = _authority(folder, clock)
        key = _server_key(folder)
        path = folder / "server.pem"
        current = x509.load_pem_x509_certificates(path.read_bytes())[0] if path.is_file() else None
        if current is None or certificates.needs_renewal(current, names, authority, now):
            current = certificates.new_server(key, names, authority, authority_key, now)
            write_secret(path, certificates.chain_pem(current, authority).decode())
        context = server_context(path, folder / "server.key")
    except (OSError, ValueError, ssl.SSLError) as error:
        raise StartupError(f"the server's own certificates in {folder} cannot be used: {error}") from error
    pem = certificates.chain_pem(authority).decode()
    return Material(context, current, certificates.fingerprint(authority), certificates.spki_pin(current), pem)


def _authority(folder: Path, clock: Clock) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key_path = folder / "authority.pem", folder / "authority.key"
    if not path.is_file() and not key_path.is_file():
        key = certificates.new_key()
        write_secret(key_path, certificates.key_pem(key).decode())
        write_secret(path, certificates.chain_pem(certificates.new_authority(key, clock.now())).decode())
    elif not path.is_file() or not key_path.is_file():
        raise StartupError(f"one of {path} and {key_path} is missing; put it back, agents pin this authority")
    return x509.load_pem_x509_certificate(path.read_bytes()), _private_key(key_path)


def _server_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / "server.key"
    if not path.is_file():
        write_secret(path, certificates.key_pem(certificates.new_key()).decode())
    return _private_key(path)


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if os.stat(path).st_mode & 0o077:  # noqa: PTH116 - same call, shorter
        raise StartupError(f"the private key {path} is open to other users; chmod 0600 it")
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartupError(f"the private key {path} is not of the kind that this server makes")
    return key


def _hosts(settings: Settings) -> list[str]:
    """The names in the addresses that agents and people dial."""
    found = [urlsplit(url).hostname or "" for url in (settings.public_url, *settings.agent_urls)]
    return [name for name in (*found, settings.listen_host) if name and name not in ("0.0.0.0", "::")]  # noqa: S104

"""Further files of deployments, as plain tars under their digest: received over the link, checked, bounded.

Not here: what a bundle may hold (`towline.compose.bundle`), writing it into a project's folder (`projects/staging.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Set
from pathlib import Path

from towline.agent import files
from towline.agent.errors import StorageError
from towline.compose import bundle

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class BundleStore:
    """Bundles on disk.

    Args: limit_bytes: room for all of them; those that no revision needs go first, oldest use first.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = files.private_folder(folder)
        self._limit = limit_bytes

    def __repr__(self) -> str:
        return f"<BundleStore {self._folder}>"

    def has(self, digest: str) -> bool:
        """Tell whether a bundle is here, and note that it is wanted."""
        path = self._path(digest)
        if not path.exists():
            return False
        os.utime(path)
        return True

    def begin(self, digest: str, size: int) -> Receiving:
        """Prepare to receive a bundle. Raises: StorageError: not a digest, or too large."""
        path = self._path(digest)
        if not 0 < size <= bundle.MAX_ARCHIVE_BYTES:
            raise StorageError(f"a bundle of {size} bytes; the limit is {bundle.MAX_ARCHIVE_BYTES}")
        return Receiving(path, digest, size)

    def read(self, digest: str) -> bundle.Bundle:
        """Read a bundle. Raises: StorageError: it is not here. BundleRefused: it may not be written to a host."""
        try:
            data = self._path(digest).read_bytes()
        except OSError as error:
            raise StorageError(f"the bundle {digest} is not on this host") from error
        if _sha256(data) != digest:
            self._path(digest).unlink(missing_ok=True)
            raise StorageError(f"the bundle {digest} was damaged on this host's disk; it has to be sent again")
        return bundle.read_tar(data)

    def prune(self, in_use: Set[str]) -> list[str]:
        """Remove unused bundles until the rest fits; returns what went."""
        entries = sorted(self._folder.glob("sha256-*.tar"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in entries)
        removed = []
        for path in entries:
            digest = path.stem.replace("-", ":", 1)
            if total <= self._limit:
                break
            if digest not in in_use:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)
                removed.append(digest)
        return removed

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StorageError("a bundle is named by sha256: and 64 hex digits")
        return self._folder / f"{digest.replace(':', '-')}.tar"


class Receiving:
    """A bundle on its way in: bytes go to a file beside, and nowhere else until the digest is right."""

    def __init__(self, path: Path, digest: str, size: int) -> None:
        self._path = path
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.{id(self)}")
        self._digest = digest
        self._left = size
        self._hash = hashlib.sha256()
        self._file = self._aside.open("xb")

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises: StorageError: more than announced, or the disk is full."""
        self._left -= len(data)
        if self._left < 0:
            raise StorageError("more bytes came than were announced")
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror or error}") from error

    def finish(self) -> None:
        """Put the bundle in its place. Raises: StorageError: bytes are missing, or it is not what was announced."""
        if self._left:
            raise StorageError(f"{self._left} bytes are missing")
        if "sha256:" + self._hash.hexdigest() != self._digest:
            raise StorageError("the bytes do not have the digest that was announced")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._aside.replace(self._path)
            files.sync_folder(self._path.parent)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Drop what is not finished. Safe to call twice."""
        self._file.close()
        self._aside.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()

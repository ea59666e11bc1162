"""Files that must survive a power cut: written aside, flushed, renamed. And folders that only the agent may enter."""

from __future__ import annotations

import os
from pathlib import Path

from towline.agent.errors import StorageError

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600


def private_folder(path: Path) -> Path:
    """Make a folder, and its parents, that only this user can enter.

    Raises: StorageError: not possible, e.g. the parent belongs to somebody else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    return path


def write_durably(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace a file so that either the old or the new content is there after a crash, and the new one after this.

    Raises: StorageError.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

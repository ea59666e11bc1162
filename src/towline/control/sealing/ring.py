"""The ring of keys that wrap the keys of secrets. Each is a file that only the server's user can read.

A key is never made anew while secrets exist: losing them silently would be worse than not starting.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from towline.control.errors import StartupError

KEY_BYTES = 32
FILE_PATTERN = "sealing-*.key"
READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyRing:
    """Keys by name. The newest wraps; all open."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise StartupError("there is no sealing key")
        self._keys = dict(keys)

    def __repr__(self) -> str:
        return f"<KeyRing {','.join(self._keys)}>"

    @property
    def newest(self) -> str:
        return next(reversed(self._keys))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def derive(self, purpose: str) -> bytes:
        """Return a key for something that is no secret at rest, the same in every process of this installation."""
        return hmac.digest(self._keys[next(iter(self._keys))], b"towline-derive|" + purpose.encode(), hashlib.sha256)

    def key(self, name: str) -> bytes:
        """Return a key. Raises: KeyError: it is not in the ring."""
        return self._keys[name]


def load(folder: Path, files: Sequence[str] = ()) -> KeyRing | None:
    """Read the ring from the named files, or from the folder; None when there is no key yet.

    Raises: StartupError: a file is missing, no key, or readable by others.
    """
    paths = [Path(name) for name in files] or sorted(folder.glob(FILE_PATTERN))
    keys = [_read(path) for path in paths]
    return KeyRing({_name(key): key for key in keys}) if keys else None


def create(folder: Path) -> KeyRing:
    """Make the first key. Only when the database holds no secret."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "sealing-001.key"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(file, "wb") as out:
        out.write(os.urandom(KEY_BYTES))
        out.flush()
        os.fsync(out.fileno())
    key = _read(path)
    return KeyRing({_name(key): key})


def _name(key: bytes) -> str:
    """Name a key by its content: files may be moved, and another key under the same file name is seen at once."""
    return "kek-" + hashlib.sha256(b"towline-kek-name" + key).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        content = path.read_bytes()
    except OSError as error:
        raise StartupError(f"sealing key {path} cannot be read: {error.strerror}") from error
    if status.st_mode & READABLE_BY_OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise StartupError(f"sealing key {path} is open to other users (mode {mode:04o}); chmod 0400 it")
    key = content if len(content) == KEY_BYTES else _decoded(content)
    if len(key) != KEY_BYTES:
        raise StartupError(f"sealing key {path} must hold {KEY_BYTES} bytes, raw or base64")
    return key


def _decoded(content: bytes) -> bytes:
    try:
        return base64.b64decode(content.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""

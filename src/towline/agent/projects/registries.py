"""Registry credentials for one pull: a Docker configuration folder of its own, gone when the pull ends.

Nothing is kept, nothing reaches an argument list. The host's own logins stay usable beside the given ones, but for
those in a credential helper, which Docker asks for everything or for nothing.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from towline.agent import files

_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"


class Credentials(msgspec.Struct, frozen=True):
    """A login at one registry."""

    host: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.host!r}, {self.username!r})"


@contextmanager
def docker_config(folder: Path, logins: Sequence[Credentials]) -> Iterator[Path | None]:
    """Make a configuration folder with these logins; None when there are none. Raises: StorageError."""
    if not logins:
        yield None
        return
    try:
        files.private_folder(folder)
        files.write_durably(folder / "config.json", msgspec.json.encode(_config(logins, _own_config())))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _config(logins: Sequence[Credentials], own: dict[str, Any]) -> dict[str, Any]:
    auths = dict(own.get("auths") or {})
    for login in logins:
        text = f"{login.username}:{login.password}".encode()
        auths[_HUB_KEY if login.host in _HUB_HOSTS else login.host] = {"auth": base64.b64encode(text).decode()}
    plugins = str(_own_folder() / "cli-plugins")
    return {"auths": auths, "cliPluginsExtraDirs": [plugins, *own.get("cliPluginsExtraDirs", [])]}


def _own_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _own_config() -> dict[str, Any]:
    try:
        value = msgspec.json.decode((_own_folder() / "config.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return value if isinstance(value, dict) else {}

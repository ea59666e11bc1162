"""The two local tokens: one reads, one operates. Made at the first start, in files that only the agent's user reads.

In a cluster they come from a Secret instead: as a mounted file that a setting names, or in the environment. A file
that changes is believed at the next request, so that a token is renewed by writing another one. Tokens are compared
in constant time, by their digests, and appear in no repr, log or answer.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from towline.agent import files
from towline.agent.errors import SettingsError
from towline.agent.settings import PREFIX, AgentSettings
from towline.agent.surface.endpoints import Right
from towline.wire import tokens

TOKEN_PREFIX = "twl"  # noqa: S105 - what tokens begin with, so that a log filter knows one
READ_FILE, OPERATE_FILE = "local-read.token", "local-operate.token"
READ_VARIABLE, OPERATE_VARIABLE = PREFIX + "LOCAL_READ_TOKEN", PREFIX + "LOCAL_OPERATE_TOKEN"

SHORTEST = 24
"""Characters of a token that somebody chose: what `openssl rand -base64 18` prints, 144 bits."""
LONGEST = 256
"""Characters that are looked at; longer text is no token."""

_log = structlog.get_logger("towline.agent")


class _Given:
    """A token that does not change while the process runs."""

    def __init__(self, token: str, source: str) -> None:
        self._digest = _checked(token, source)

    def digest(self) -> bytes:
        return self._digest


class _File:
    """A token in a file, read again when the file is another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] = (0, 0, 0)
        self._digest = b""
        self._read()

    def digest(self) -> bytes:
        """Return the digest; empty, which fits nothing, while the file cannot be used."""
        try:
            self._read()
        except SettingsError as error:
            if self._digest:
                _log.error("a local token cannot be read: nobody is let in with it", reason=str(error))
            self._stamp, self._digest = (0, 0, 0), b""
        return self._digest

    def _read(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._digest = _checked(self._path.read_text("ascii").strip(), str(self._path))
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the token file {self._path} cannot be read: {error}") from error


class LocalTokens:
    """Tells which right a token has."""

    def __init__(self, settings: AgentSettings, environment: Mapping[str, str] | None = None) -> None:
        """Find or make both tokens. Raises: SettingsError, StorageError."""
        environment = os.environ if environment is None else environment
        folder = settings.state_folder
        self._read = _source(settings.read_token_file, environment, READ_VARIABLE, folder / READ_FILE)
        self._operate = _source(settings.operate_token_file, environment, OPERATE_VARIABLE, folder / OPERATE_FILE)
        if hmac.compare_digest(self._read.digest(), self._operate.digest()):
            raise SettingsError("the local tokens to read and to operate are the same; make them differ")

    def __repr__(self) -> str:
        return "<LocalTokens>"

    def right_of(self, token: str) -> Right:
        """Return the right of a token; OPEN for one that is neither."""
        digest = _digest(token) if len(token) <= LONGEST else b"\0"
        # Both are always compared, so that the time tells nothing.
        reads = hmac.compare_digest(digest, self._read.digest())
        operates = hmac.compare_digest(digest, self._operate.digest())
        return Right.OPERATE if operates else Right.READ if reads else Right.OPEN

    def edition(self, right: Right) -> bytes:
        """Return what changes when the token of a right is renewed; no secret."""
        source = {Right.READ: self._read, Right.OPERATE: self._operate}.get(right)
        return source.digest() if source is not None else b""


def shown(settings: AgentSettings, *, operate: bool) -> str:
    """Return a token of this host for the person who may read its file. Raises: SettingsError: there is none here."""
    named = settings.operate_token_file if operate else settings.read_token_file
    path = named or settings.state_folder / (OPERATE_FILE if operate else READ_FILE)
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError as error:
        raise SettingsError(
            f"there is no {path}: it is made when the agent first runs with --listen or --standalone"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _source(named: Path | None, environment: Mapping[str, str], variable: str, own: Path) -> _Given | _File:
    if named is not None:
        return _File(named)
    if token := environment.get(variable, ""):
        return _Given(token.strip(), f"variable {variable}")
    if not own.exists():
        files.private_folder(own.parent)
        files.write_durably(own, tokens.mint(TOKEN_PREFIX).encode() + b"\n")
    elif own.stat().st_mode & 0o077:
        raise SettingsError(f"{own} may be read by other users; run `chmod 600 {own}`, or delete it for a new token")
    return _File(own)


def _checked(token: str, source: str) -> bytes:
    if not SHORTEST <= len(token) <= LONGEST or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"the local token of {source} must be {SHORTEST} to {LONGEST} printable characters")
    return _digest(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

"""Passwords: argon2id with the library's defaults, a few at a time, and rules that a person can follow.

One verification takes 64 MiB and some 180 ms of a core: without a limit, signing in would be a way to stop the server.
"""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from towline.control.errors import ApiError, ErrorCode

AT_ONCE = 4
"""Hashings at the same time: 256 MiB of memory at most."""
SHORTEST = 12
LONGEST_BYTES = 1024
"""More is no password; argon2 would read it all."""

hasher = PasswordHasher()
_nobody = hasher.hash("nobody has this password")
"""Verified against when there is no such user, so that the answer takes as long."""


class Passwords:
    """Hashes and verifies in threads."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return "<Passwords argon2id>"

    async def hash(self, password: str) -> str:
        """Return what is stored. Raises: ApiError: the password breaks a rule."""
        check_rules(password)
        async with self._slots:
            return await asyncio.to_thread(hasher.hash, normal(password))

    async def verify(self, stored: str, password: str) -> bool:
        """Compare, in the same time whether or not there is such a user (`stored` empty)."""
        if len(password.encode(errors="replace")) > LONGEST_BYTES:
            return False
        async with self._slots:
            matches = await asyncio.to_thread(_matches, stored or _nobody, normal(password))
        return matches and bool(stored)


def normal(password: str) -> str:
    """Return one form of a text that keyboards type in several. Source: RFC 8265, section 4.2."""
    return unicodedata.normalize("NFC", password)


def check_rules(password: str) -> None:
    """Raises: ApiError: invalid, with the rule."""
    if len(password) < SHORTEST:
        raise ApiError(ErrorCode.INVALID, f"the password is shorter than {SHORTEST} characters")
    if len(password.encode(errors="replace")) > LONGEST_BYTES:
        raise ApiError(ErrorCode.INVALID, f"the password is longer than {LONGEST_BYTES} bytes")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in password):
        raise ApiError(ErrorCode.INVALID, "the password holds a control character")


def _matches(stored: str, password: str) -> bool:
    try:
        return hasher.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False

"""Passwords: argon2id with the library's defaults, a few at a time, and rules that a person can follow.

One verification takes 64 MiB and some 180 ms of a core: without a limit, signing in would be a way to stop the server.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from towline.control.access.throttle import throttled
from towline.control.errors import ApiError, ErrorCode

T = TypeVar("T")
AT_ONCE = 4
"""Hashings at the same time: 256 MiB of memory at most."""
SHORTEST = 12
MOST_WAITING = 60
"""Hashings that may wait: some three seconds of work; whoever comes then is told to come back."""
LONGEST_BYTES = 1024
"""More is no password; argon2 would read it all."""

hasher = PasswordHasher()


@cache
def _nobody() -> str:
    """Return what is verified against when there is no such user, so that the answer takes as long."""
    return hasher.hash("nobody has this password")


class Passwords:
    """Hashes and verifies in threads."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def __repr__(self) -> str:
        return "<Passwords argon2id>"

    async def hash(self, password: str) -> str:
        """Return what is stored. Raises: ApiError: the password breaks a rule."""
        check_rules(password)
        return await self._run(hasher.hash, normal(password))

    async def verify(self, stored: str, password: str) -> bool:
        """Compare, in the same time whether or not there is such a user (`stored` empty)."""
        if len(password.encode(errors="replace")) > LONGEST_BYTES:
            return False
        matches = await self._run(_matches, stored or _nobody(), normal(password))
        return matches and bool(stored)

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= MOST_WAITING:
            raise throttled("attempts to sign in at once", 3)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments)
        finally:
            self._waiting -= 1


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

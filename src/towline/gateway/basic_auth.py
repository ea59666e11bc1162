"""Names and passwords in front of a route: slow hashes verified in threads, and remembered for a short time.

One argon2 hash takes 64 MiB and some 180 ms of a core. So a pair that was right is remembered under a keyed hash of
itself, wrong ones cost their sender a token, and only a few are verified at once.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from towline.gateway.rate_limit import RateLimiter

REMEMBERED_FOR = 300.0
"""Seconds that a right pair is not verified again. A change of the route's options forgets at once."""
MAX_REMEMBERED = 1_000
AT_ONCE = 2
MOST_WAITING = 32
"""Verifications that may wait, of all routes: some three seconds of work."""
TRIES_PER_SECOND = 0.5
TRY_BURST = 10
LONGEST_BYTES = 1024
"""Of name and password; argon2 would read it all."""

_hasher = PasswordHasher()


class Busy(Exception):
    """Too many passwords are being verified, or this client tried too often; `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many attempts")
        self.retry_after = retry_after


class Verifying:
    """The few threads that all routes of one edge share."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Verifying {self._waiting} waiting>"

    async def matches(self, stored: str, password: str) -> bool:
        """Compare in a thread. Raises: Busy."""
        if self._waiting >= MOST_WAITING:
            raise Busy(3.0)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(_matches, stored, password)
        finally:
            self._waiting -= 1


class BasicAuth:
    """The names of one route. Args: users: `NAME:HASH` each."""

    def __init__(self, users: Iterable[str], verifying: Verifying, now: Callable[[], float] = time.monotonic) -> None:
        pairs = (user.partition(":") for user in users)
        self._hashes = {name: stored for name, _, stored in pairs}
        self._verifying = verifying
        self._now = now
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._tries = RateLimiter(TRIES_PER_SECOND, TRY_BURST)

    def __repr__(self) -> str:
        return f"<BasicAuth {len(self._hashes)} names>"

    def remembered(self, value: bytes | None) -> str | None:
        """Return the name of a pair that was right lately; None when it has to be verified."""
        if value is None:
            return None
        mark = self._mark(value)
        name, until = self._right.get(mark, ("", 0.0))
        if until <= self._now():
            self._right.pop(mark, None)
            return None
        return name

    async def verify(self, value: bytes | None, address: str) -> str | None:
        """Return the name, or None for a pair that is wrong or none. Raises: Busy."""
        pair = parse_basic(value)
        if pair is None or value is None:
            return None
        wait = self._tries.wait(address, self._now())
        if wait:
            raise Busy(wait)
        name, password = pair
        stored = self._hashes.get(name)
        matches = await self._verifying.matches(stored or next(iter(self._hashes.values())), password)
        if not matches or stored is None:
            return None
        self._right[self._mark(value)] = (name, self._now() + REMEMBERED_FOR)
        if len(self._right) > MAX_REMEMBERED:
            self._right.popitem(last=False)
        return name

    def _mark(self, value: bytes) -> bytes:
        return hmac.digest(self._key, value, hashlib.sha256)


def parse_basic(value: bytes | None) -> tuple[str, str] | None:
    """Return name and password of an Authorization field. Source: RFC 7617 section 2."""
    if value is None or len(value) > 2 * LONGEST_BYTES or value[:6].lower() != b"basic ":
        return None
    with suppress(binascii.Error, UnicodeDecodeError, ValueError):
        name, colon, password = base64.b64decode(value[6:].strip(), validate=True).decode().partition(":")
        if colon and len(name) + len(password) <= LONGEST_BYTES:
            return name, password
    return None


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False

"""Nonces of the enrolment: random, good for five minutes, recognised without keeping any of them. Pure."""

import hashlib
import hmac
import secrets
import struct

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.agents import keys

LIFETIME = 300.0
"""Seconds between a challenge and the enrolment that answers it: a slow host, not a slow person."""
_STAMP = struct.Struct(">d")
_RANDOM_BYTES = 8
_MAC_BYTES = 16


class Challenges:
    """Makes nonces that only this key's holder recognises. A replay is harmless: the join token is used up."""

    def __init__(self, key: bytes = b"", *, clock: Clock = REAL_CLOCK) -> None:
        self._key = key or secrets.token_bytes(32)
        self._clock = clock

    def issue(self) -> str:
        """Return a nonce of 32 bytes in base64url."""
        body = _STAMP.pack(self._clock.now().timestamp()) + secrets.token_bytes(_RANDOM_BYTES)
        return keys.pack(body + self._mac(body))

    def is_valid(self, nonce: str) -> bool:
        """Tell whether the nonce is ours and young enough."""
        try:
            raw = keys.unpack(nonce, _STAMP.size + _RANDOM_BYTES + _MAC_BYTES, "nonce")
        except keys.BadKey:
            return False
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        age = self._clock.now().timestamp() - float(_STAMP.unpack_from(body)[0])
        return hmac.compare_digest(mac, self._mac(body)) and age + 1 >= 0 and age <= LIFETIME

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, b"towline-enrol-nonce" + body, hashlib.sha256).digest()[:_MAC_BYTES]

"""Secrets at rest: a data key per secret, wrapped by the newest key of the ring. What is bound to what is the AAD.

An envelope moved to another organisation, record, version or purpose does not open. Keys: `ring.py`.
"""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from towline.control.sealing.ring import KeyRing

FORMAT = 1
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16
_HEAD = struct.Struct(">BB")
"""Format, length of the key's name."""


class CannotOpen(Exception):
    """The envelope was made under another key, or for another record, or was changed."""


class Sealer:
    """Seals and opens secrets with the keys of one installation."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def __repr__(self) -> str:
        return f"<Sealer {self.ring!r}>"

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes:
        """Return the envelope: head ‖ key name ‖ wrapped data key ‖ sealed text.

        Nonces are random: safe, since each data key seals once, and a key of the ring far less than 2³² times.
        """
        name = self.ring.newest
        data_key = AESGCM.generate_key(256)
        bound = _bound(org_id, record_id, version, purpose)
        wrapped = _encrypt(self.ring.key(name), data_key, bound + b"\x00" + name.encode())
        return _HEAD.pack(FORMAT, len(name)) + name.encode() + wrapped + _encrypt(data_key, plaintext, bound)

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes:
        """Return the secret. Raises: CannotOpen."""
        name, wrapped, text = _split(sealed)
        bound = _bound(org_id, record_id, version, purpose)
        try:
            data_key = _decrypt(self.ring.key(name), wrapped, bound + b"\x00" + name.encode())
            return _decrypt(data_key, text, bound)
        except (InvalidTag, KeyError) as error:
            raise CannotOpen(f"a secret for {purpose} cannot be opened with the keys at hand") from error


def key_name(sealed: bytes) -> str:
    """Return which key of the ring wrapped an envelope. Raises: CannotOpen."""
    return _split(sealed)[0]


def _split(sealed: bytes) -> tuple[str, bytes, bytes]:
    if len(sealed) < _HEAD.size or sealed[0] != FORMAT:
        raise CannotOpen("this is no envelope of ours")
    at = _HEAD.size + sealed[1]
    end = at + NONCE_BYTES + KEY_BYTES + TAG_BYTES
    if len(sealed) < end + NONCE_BYTES + TAG_BYTES:
        raise CannotOpen("the envelope is cut short")
    return sealed[_HEAD.size : at].decode("ascii", "replace"), sealed[at:end], sealed[end:]


def _bound(org_id: str, record_id: str, version: int, purpose: str) -> bytes:
    fields = (org_id, record_id, str(version), purpose)
    return b"".join(struct.pack(">I", len(field.encode())) + field.encode() for field in fields)


def _encrypt(key: bytes, text: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)

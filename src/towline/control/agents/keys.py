"""Public keys and signatures of agents: strict parsing and verification. No database, no messages.

OpenSSL accepts points of low order, for which one signature may fit every text; they are refused here.
"""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_TEXT = 128
"""Characters of a key or signature in base64url: 86 at most, with room for padding."""

_P = 2**255 - 19
_ED25519_LOW_ORDER = frozenset(
    int(text, 16)
    for text in (
        "00",
        "01",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
        "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
        "7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7",
    )
)
"""y coordinates of the points whose order divides 8 (RFC 8032 curve; sign bit taken off)."""
_X25519_LOW_ORDER = frozenset(
    int(text, 16)
    for text in (
        "00",
        "01",
        "00b8495f16056286fdb1329ceb8d09da6ac49ff1fae35616aeb8413b7c7aebe0",
        "57119fd0dd4e22d8868e1c58c45c44045bef839c55b1d0b1248c50a3bc959c5f",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
    )
)
"""u coordinates for which an X25519 exchange yields zero (RFC 7748 section 6.1)."""


class BadKey(Exception):
    """Not a public key, or a signature, that may be used."""


def parse_identity_key(text: str) -> bytes:
    """Return the 32 bytes of an Ed25519 public key. Raises: BadKey: shape, not canonical, or of low order."""
    raw = unpack(text, KEY_BYTES, "identity key")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in _ED25519_LOW_ORDER:
        raise BadKey("the identity key is not a usable Ed25519 key")
    return raw


def parse_sealing_key(text: str) -> bytes:
    """Return the 32 bytes of an X25519 public key. Raises: BadKey: shape, not canonical, or of low order."""
    raw = unpack(text, KEY_BYTES, "sealing key")
    u = int.from_bytes(raw, "little")
    if u >= _P or u in _X25519_LOW_ORDER:
        raise BadKey("the sealing key is not a usable X25519 key")
    return raw


def verify(public_key: bytes, signature: str, text: bytes) -> bool:
    """Tell whether an Ed25519 signature (base64url) fits; anything malformed does not."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(unpack(signature, SIGNATURE_BYTES, "signature"), text)
    except (BadKey, InvalidSignature, ValueError):
        return False
    return True


def keys_sha256(identity_key: bytes, sealing_key: bytes) -> str:
    """Return what the enrolment signature says about both keys."""
    return hashlib.sha256(identity_key + sealing_key).hexdigest()


def pack(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unpack(text: str, length: int, what: str) -> bytes:
    """Return `length` bytes from base64url, with or without padding. Raises: BadKey: anything else."""
    if len(text) > MAX_TEXT:
        raise BadKey(f"the {what} is too long")
    try:
        raw = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadKey(f"the {what} is not base64url") from error
    if len(raw) != length:
        raise BadKey(f"the {what} has {len(raw)} bytes instead of {length}")
    return raw

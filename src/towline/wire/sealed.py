"""Secrets on their way to one agent: HPKE in base mode to its X25519 key. The pure pair for both ends.

What is sealed for one context opens in no other: the info is `ORG|DEPLOYMENT|AGENT`.
Source: RFC 9180, suite DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; docs/wire-protocol.md, "Sealed secrets".
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
KEY_BYTES = 32
OVERHEAD_BYTES = 32 + 16
"""Encapsulated key and tag, added to the plaintext."""


class CannotOpen(Exception):
    """Sealed for another agent or another context, or changed on the way."""


def context(org_id: str, deployment_id: str, agent_id: str) -> bytes:
    """Return the HPKE info that both ends compute for themselves; ids hold no `|`."""
    return f"{org_id}|{deployment_id}|{agent_id}".encode()


def seal(public_key: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Return encapsulated key ‖ ciphertext ‖ tag. Raises: ValueError: not a key, or one of low order."""
    return SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)


def open_sealed(private_key: bytes, info: bytes, sealed: bytes) -> bytes:
    """Return the plaintext. Args: private_key: 32 raw bytes. Raises: CannotOpen."""
    try:
        return SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private_key), info)
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("the sealed text is not for this agent and this context") from error

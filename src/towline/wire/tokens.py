"""The text form of a secret token: `PREFIX_` ‖ 36 base62 characters ‖ 6 base62 characters of CRC-32.

Both ends need it: an agent refuses a mangled join token before it dials, the control plane before it asks the
database, and a log filter knows one when it sees one. What a token allows lives where it is stored. No I/O here.
"""

import hashlib
import re
import secrets
import zlib

JOIN = "twj"
"""Prefix of a join token."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_LENGTH = 36
"""Characters of randomness: 214 bits."""
CHECK_LENGTH = 6
"""Base62 characters that hold a CRC-32."""
MAX_TOKEN_LENGTH = 64
"""Longer text is no token, and is not looked at."""

_SHAPE = re.compile(rf"(tw[a-z])_([0-9A-Za-z]{{{BODY_LENGTH}}})([0-9A-Za-z]{{{CHECK_LENGTH}}})")


def mint(prefix: str) -> str:
    """Make a new token."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(BODY_LENGTH))
    return f"{prefix}_{body}{_check(prefix, body)}"


def is_well_formed(token: str, prefix: str) -> bool:
    """Tell whether the text has the shape, the prefix and the check characters of a token."""
    if len(token) > MAX_TOKEN_LENGTH:
        return False
    match = _SHAPE.fullmatch(token)
    return match is not None and match[1] == prefix and match[3] == _check(prefix, match[2])


def digest(token: str) -> str:
    """Return what is stored instead of the token: hex SHA-256. A slow hash buys nothing for 214 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def public_id(token: str) -> str:
    """Return the part that may be shown and signed: 12 hex characters that tell nothing about the secret."""
    return hashlib.sha256(b"towline-token-id\n" + token.encode()).hexdigest()[:12]


def _check(prefix: str, body: str) -> str:
    number = zlib.crc32(f"{prefix}_{body}".encode())
    letters = []
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))

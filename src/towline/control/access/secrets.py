"""The shape of our own tokens: a prefix, 36 random base-62 digits (214 bits), and six check digits.

Check digits let a log filter and secret scanners recognise a token offline, and let us refuse a mistyped one without
asking the database. At rest a token is its SHA-256: a slow hash buys nothing for random secrets.
"""

import hashlib
import hmac
import secrets
from typing import Literal

from towline.control.logging import BASE62, checksum

Prefix = Literal["twl", "tws", "twj", "tww", "twx", "twt", "twk"]
"""User, service, join, webhook, setup, ticket and Kubernetes."""

BODY_CHARACTERS = 36
CHECK_CHARACTERS = 6


def mint(prefix: Prefix) -> str:
    """Return a new token, to be shown once."""
    body = "".join(secrets.choice(BASE62) for _ in range(BODY_CHARACTERS))
    head = f"{prefix}_{body}"
    return head + checksum(head)


def is_well_formed(token: str, prefixes: tuple[Prefix, ...]) -> bool:
    """Check prefix, length, alphabet and check digits, without any database."""
    if len(token) != 4 + BODY_CHARACTERS + CHECK_CHARACTERS or not token.isascii():
        return False
    prefix, _, rest = token.partition("_")
    return (
        prefix in prefixes
        and rest.isalnum()
        and hmac.compare_digest(checksum(token[:-CHECK_CHARACTERS]), rest[-CHECK_CHARACTERS:])
    )


def hashed(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def session_secret() -> str:
    """Return the 256-bit id of a browser session."""
    return secrets.token_urlsafe(32)


def form_token(session_secret: str) -> str:
    """Return the token that forms of one session carry; it gives the session's secret away to nobody."""
    return hmac.new(session_secret.encode(), b"towline-form-v1", hashlib.sha256).hexdigest()

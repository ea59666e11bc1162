"""Ids of rows: a prefix that names the kind, and a ULID in lower-case Crockford base 32. Sortable by time of birth.

Random ids are a convenience, never a protection: every query names the organisation too.
"""

import secrets
import time
from typing import Literal, NewType

Kind = Literal[
    "org", "usr", "ses", "tok", "grt", "tck", "aud",
    "clu", "agt", "jtk", "key", "dep", "rev", "job", "reg", "bun", "sec", "req", "evt", "rec",
    "rte", "dom", "crt", "ord", "alr", "chn", "msg", "sil", "cmd", "run", "ctk",
]  # fmt: skip

OrgId = NewType("OrgId", str)
DEFAULT_ORG = OrgId("org_default")
"""The organisation that every installation has."""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ULID_CHARACTERS = 26
_RANDOM_BITS = 80


def new_id(kind: Kind) -> str:
    """Return `KIND_` and 26 characters: 48 bits of milliseconds, 80 random bits."""
    value = (int(time.time() * 1000) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    return f"{kind}_{encode(value, ULID_CHARACTERS)}"


def encode(value: int, characters: int) -> str:
    """Return a number in Crockford base 32, most significant digit first."""
    return "".join(ALPHABET[(value >> (5 * place)) & 31] for place in reversed(range(characters)))


def is_id(text: str, kind: Kind) -> bool:
    """Tell an id from a name: wherever a path names a thing, both work."""
    prefix, _, rest = text.partition("_")
    return prefix == kind and len(rest) == ULID_CHARACTERS and all(letter in ALPHABET for letter in rest)

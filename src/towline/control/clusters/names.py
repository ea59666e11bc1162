"""Names of clusters: the pattern, and a name made from a host's. Pure."""

import re
from collections.abc import Collection

from towline.control.errors import ApiError, ErrorCode

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
LONGEST = 63
FALLBACK = "host"


def check_name(name: str) -> None:
    """Raises: ApiError: invalid."""
    if not NAME.fullmatch(name):
        raise ApiError(
            ErrorCode.INVALID,
            "a name has lower-case letters, digits, '-' and '_', begins with a letter or digit, "
            f"and has {LONGEST} characters at most",
        )


def name_from_host(hostname: str) -> str:
    """Return a valid name for a host that calls itself anything."""
    short = re.sub(r"[^a-z0-9_-]+", "-", hostname.lower().partition(".")[0]).strip("-_")
    return short[:LONGEST] or FALLBACK


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return the name, or with the first number behind it that is free."""
    if wanted not in taken:
        return wanted
    number = 2
    while (name := f"{wanted[: LONGEST - 1 - len(str(number))]}-{number}") in taken:
        number += 1
    return name

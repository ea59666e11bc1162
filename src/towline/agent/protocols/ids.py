"""Ids that an older control plane chose, as ids of jobs in the journal and back: they name folders there."""

from __future__ import annotations

import base64
import re

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
MAX_ID_BYTES = 128
"""Of a foreign id in UTF-8: spelt out it is 205 characters long, and a file's name holds 255."""


class BadId(Exception):
    """The id cannot be kept."""


def job_id(prefix: str, foreign: str) -> str:
    """Return the id of a job: the foreign one itself when it is a harmless name, else spelt in base 32.

    Raises: BadId: it is empty or too long.
    """
    if not 0 < len(foreign.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES:
        raise BadId(f"a command's id has 1 to {MAX_ID_BYTES} bytes")
    if _PLAIN.fullmatch(foreign):
        return f"{prefix}_{foreign}"
    spelt = base64.b32encode(foreign.encode("utf-8", "surrogatepass")).decode().rstrip("=").lower()
    return f"{prefix}-x_{spelt}"


def foreign_id(prefix: str, job_id: str) -> str:
    """Return the id as the control plane wrote it."""
    if job_id.startswith(f"{prefix}-x_"):
        spelt = job_id.removeprefix(f"{prefix}-x_").upper()
        return base64.b32decode(spelt + "=" * (-len(spelt) % 8)).decode("utf-8", "surrogatepass")
    return job_id.removeprefix(f"{prefix}_")

"""Names of containers as they come from outside: checked before they become a part of an address of the engine."""

from __future__ import annotations

import re

from towline.agent.streams.refusal import Refused

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)


def container_name(text: str) -> str:
    """Return an id or name as it is. Raises: Refused: it is none."""
    if not _NAME.fullmatch(text):
        raise Refused("bad_request", f"{text[:60]!r} is not a container's id or name")
    return text

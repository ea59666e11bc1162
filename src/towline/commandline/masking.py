"""Argument lists as the audit log keeps them: the values that look like secrets masked, all else in full.

For commands that were refused as well: what somebody typed behind `--token` must not be kept because it was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"
LONGEST = 400
"""Characters of one argument that the audit keeps."""

_SECRET_FLAGS = frozenset({"token", "password", "username", "client-key", "from-literal"})
"""Flags whose value is masked whatever it is."""
_SECRET_NAME = re.compile(r"(?i)(pass(word|wd|phrase)?|token|secret|api[-_.]?key|credential|private[-_.]?key|bearer)")
_LOGIN = re.compile(r"(?P<begin>[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
_PAIR = re.compile(r"(?P<name>[\w.-]{1,100})(?P<sign>=|:\s*)(?P<value>.+)", re.DOTALL)
_OBJECT = re.compile(r"\{\s*\"")
"""Begin of a JSON object: what is in it is not taken apart."""
_BEARER = re.compile(r"(?i)(bearer\s+)\S+")


def mask(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments with secrets masked and each cut to LONGEST."""
    found: list[str] = []
    hides_next = False
    for argument in arguments:
        if hides_next and not argument.startswith("--"):
            found.append(MASK)
            hides_next = False
            continue
        found.append(_masked(argument)[:LONGEST])
        hides_next = argument.startswith("--") and "=" not in argument and _is_secret(argument[2:])
    return tuple(found)


def _masked(argument: str) -> str:
    text = _BEARER.sub(rf"\g<1>{MASK}", _LOGIN.sub(rf"\g<begin>{MASK}@", argument))
    begin = _OBJECT.search(text)
    if begin is not None and _SECRET_NAME.search(text, begin.end()):
        return f"{text[: begin.start()]}{MASK}"
    dashes = text[: len(text) - len(text.lstrip("-"))]
    pair = _PAIR.fullmatch(text[len(dashes) :])
    if pair is not None and (_SECRET_NAME.search(pair["name"]) or (dashes and _is_secret(pair["name"]))):
        return f"{dashes}{pair['name']}{pair['sign']}{MASK}"
    return text


def _is_secret(name: str) -> bool:
    return name in _SECRET_FLAGS or _SECRET_NAME.search(name) is not None

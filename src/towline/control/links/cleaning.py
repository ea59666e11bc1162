"""Text from hosts, made fit for databases, pages and terminals: no NUL, no escape sequences. Pure."""

from typing import Any

_KEPT = frozenset("\n\t")
DEEPEST = 32
"""Levels of a JSON document that are kept; ours have five."""
LARGEST_INTEGER = 2**53
"""Beyond it JSON readers lose digits, and no count of ours is that large."""


def clean(text: str) -> str:
    """Take out control characters but line ends and tabs."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter in _KEPT or letter.isprintable())


def clean_json(value: Any, depth: int = 0) -> Any:
    """Return a JSON document with clean text; what is deeper than any of ours is dropped."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return max(-LARGEST_INTEGER, min(LARGEST_INTEGER, value))
    if depth >= DEEPEST:
        return None
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(inner, depth + 1) for key, inner in value.items()}
    return [clean_json(inner, depth + 1) for inner in value]

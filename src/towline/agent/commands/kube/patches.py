"""What changes of objects have in common: media types of patches, who owns the fields, dry runs."""

from __future__ import annotations

from towline.commandline.flags import Parsed

STRATEGIC, MERGE, JSON_PATCH, APPLY = (
    "application/strategic-merge-patch+json",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)
MANAGER = {"fieldManager": "towline"}
"""Who owns what is changed here, in managedFields."""


def is_dry(parsed: Parsed) -> bool:
    return parsed.text("dry-run", "none") == "server"


def changing(parsed: Parsed) -> dict[str, str | int | bool]:
    """Return the query of a change."""
    return {**MANAGER, **({"dryRun": "All"} if is_dry(parsed) else {})}


def done(word: str, parsed: Parsed) -> str:
    """Return what is said of an object that was changed."""
    return f"{word} (server dry run)" if is_dry(parsed) else word

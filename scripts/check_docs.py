"""Hold the reference pages against the code: every setting, error code and message type must be named there.

Run by `make check`. It says what is missing; `make docs` writes most of the pages anew.
"""

import dataclasses
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("reference/*.md", "wire-protocol.md")
# A name counts only as code, so that the word "error" in a sentence documents nothing.
CODE = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"[A-Za-z0-9_.-]+")


def module(name: str) -> ModuleType | None:
    """Import a module, None when this release has none of that name; any other failure is an error."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return importlib.import_module(name) if found else None


def field_names(settings: Any) -> list[str]:
    """Names of the fields of a Pydantic model, a msgspec struct or a dataclass."""
    if hasattr(settings, "model_fields"):
        return list(settings.model_fields)
    if hasattr(settings, "__struct_fields__"):
        return list(settings.__struct_fields__)
    return [field.name for field in dataclasses.fields(settings)]


def variables(prefix: str, settings: str) -> Callable[[ModuleType], list[str]]:
    """The environment variables that the settings of a module read."""
    return lambda source: [f"{prefix}{name.upper()}" for name in field_names(getattr(source, settings))]


SOURCES: dict[str, tuple[str, Callable[[ModuleType], Iterable[str]]]] = {
    "setting of the server": ("towline.control.settings", variables("TOWLINE_SERVER_", "Settings")),
    "setting of the agent": ("towline.agent.settings", variables("TOWLINE_AGENT_", "AgentSettings")),
    "error code": ("towline.control.errors", lambda source: [str(code) for code in source.ErrorCode]),
    "message type of the link": ("towline.wire.link", lambda source: list(source.TYPES)),
}


def documented(pages: Iterable[str]) -> set[str]:
    """Every word that stands in code marks somewhere on the pages."""
    return {word for page in pages for code in CODE.findall(page) for word in WORD.findall(code)}


def undocumented(names: Iterable[str], known: set[str]) -> list[str]:
    """Names that no page mentions, in their order."""
    return [name for name in names if name not in known]


def complaints(known: set[str]) -> Iterator[str]:
    """One line for everything that the code has and the pages lack."""
    for kind, (name, names_of) in SOURCES.items():
        source = module(name)
        if source is not None:
            yield from (f"{kind} is not in docs: {name}" for name in undocumented(names_of(source), known))


def main() -> int:
    """Print what is missing. Returns: 1 when something is."""
    pages = [page.read_text() for pattern in PAGES for page in sorted(DOCS.glob(pattern))]
    lines = list(complaints(documented(pages)))
    for line in lines:
        print(line)
    print(f"docs: {len(lines)} names are missing" if lines else "docs: every setting, code and message is named")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

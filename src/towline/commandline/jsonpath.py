"""The part of kubectl's JSONPath that people use in commands: fields, indexes, `[*]`, and templates around them.

`{.items[*].metadata.name}`, `{range .items[*]}{.metadata.name}{"\\n"}{end}`. Filters and recursive descent are not
served. Source: Kubernetes, "JSONPath Support".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from towline.commandline.errors import BadCommand
from towline.commandline.flags import shown

MOST_STEPS = 40
"""Steps of one path: objects of Kubernetes nest some fifteen deep."""

_STEP = re.compile(
    r"\.(?P<field>(?:[\w/-]|\\.)+)"
    r"|\[(?P<index>-?[0-9]{1,6})\]|\[(?P<all>\*)\]|\.(?P<star>\*)|\[(?P<quote>['\"])(?P<quoted>[^'\"]{1,253})(?P=quote)\]"
)
_PART = re.compile(r"\{((?:[^{}\"']|\"(?:[^\"\\]|\\.)*\"|'[^']*')*)\}")

Step = str | int | None
"""A field, an index, or None for all."""


@dataclass(frozen=True, slots=True)
class Text:
    words: str


@dataclass(frozen=True, slots=True)
class Path:
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Range:
    path: Path
    body: tuple[Text | Path | Range, ...]


Node = Text | Path | Range


def path(text: str) -> Path:
    """Read `.metadata.name`, with or without braces and the first dot. Raises: BadCommand."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    text = text.removeprefix("$")
    if text in ("", "."):
        return Path(())
    if text[0] not in ".[":
        text = f".{text}"
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or len(steps) >= MOST_STEPS:
            raise BadCommand(f"{shown(text)} is no path that Towline reads: fields, [0], [*] and ['key'] are")
        steps.append(_step(match))
        at = match.end()
    return Path(tuple(steps))


def template(text: str) -> tuple[Node, ...]:
    """Read a template. Raises: BadCommand."""
    stack: list[tuple[Path | None, list[Node]]] = [(None, [])]
    at = 0
    for match in _PART.finditer(text):
        if match.start() > at:
            stack[-1][1].append(Text(text[at : match.start()]))
        at = match.end()
        _take(match[1].strip(), stack)
    if len(stack) > 1:
        raise BadCommand("the template has a {range} without its {end}")
    rest = text[at:]
    if "{" in rest:
        raise BadCommand("the template has a { without its }")
    return (*stack[0][1], *((Text(rest),) if rest else ()))


def find(value: Any, wanted: Path) -> list[Any]:
    """Return all values that a path leads to."""
    found = [value]
    for step in wanted.steps:
        found = [inner for each in found for inner in _go(each, step)]
    return found


def fill(nodes: tuple[Node, ...], value: Any) -> str:
    """Return a template with its paths filled; several values of one path are apart by a blank."""
    return "".join(_filled(nodes, value))


def as_text(value: Any) -> str:
    """Return a value as templates print it: texts plain, objects as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _filled(nodes: tuple[Node, ...], value: Any) -> Iterator[str]:
    for node in nodes:
        match node:
            case Text():
                yield node.words
            case Path():
                yield " ".join(as_text(each) for each in find(value, node))
            case Range():
                for each in find(value, node.path):
                    yield from _filled(node.body, each)


def _take(word: str, stack: list[tuple[Path | None, list[Node]]]) -> None:
    if word.startswith("range "):
        if len(stack) > MOST_STEPS:
            raise BadCommand("the template nests too deep")
        stack.append((path(word[6:]), []))
    elif word == "end":
        over, body = stack.pop()
        if over is None:
            raise BadCommand("the template has an {end} without its {range}")
        stack[-1][1].append(Range(over, tuple(body)))
    elif word[:1] == '"':
        try:
            stack[-1][1].append(Text(str(json.loads(word))))
        except ValueError as error:
            raise BadCommand(f"{shown(word)} is no text") from error
    elif word[:1] == "'":
        stack[-1][1].append(Text(word[1:-1]))
    else:
        stack[-1][1].append(path(word.removeprefix("@") or "."))


def _step(match: re.Match[str]) -> Step:
    if match["all"] or match["star"]:
        return None
    if match["index"] is not None:
        return int(match["index"])
    return match["quoted"] if match["quoted"] is not None else re.sub(r"\\(.)", r"\1", match["field"])


def _go(value: Any, step: Step) -> list[Any]:
    if step is None:
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if isinstance(step, int):
        return [value[step]] if isinstance(value, list) and -len(value) <= step < len(value) else []
    return [value[step]] if isinstance(value, dict) and step in value else []

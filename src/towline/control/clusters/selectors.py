"""Label selectors: `env=prod,region!=eu,tier in (web, api),!legacy`. Parsing and matching; pure.

The SQL for them is in `repository.py`. Grammar: Kubernetes' label selectors, kubernetes.io "Labels and Selectors".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from towline.control.errors import ApiError, ErrorCode

MAX_SELECTOR = 1024
"""Characters; a longer selector is a mistake or an attack."""
MAX_REQUIREMENTS = 16
"""Each one costs a sub-query."""
MAX_LABELS = 64
"""Per cluster."""

_KEY = r"[a-z0-9A-Z](?:[a-z0-9A-Z._/-]{0,61}[a-z0-9A-Z])?"
_VALUE = r"[a-z0-9A-Z](?:[a-z0-9A-Z._-]{0,61}[a-z0-9A-Z])?|"
_KEY_RE = re.compile(_KEY)
_VALUE_RE = re.compile(_VALUE)
_SET_RE = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL_RE = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTS_RE = re.compile(rf"(!?)\s*({_KEY})")

Operator = Literal["in", "notin", "exists", "absent"]


class BadSelector(ValueError):
    """Not a label selector; the message says which part."""


class BadLabel(ValueError):
    """Not a label."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case "in":
                return value in self.values
        return value not in self.values


def parse(text: str) -> tuple[Requirement, ...]:
    """Parse a selector; all its requirements must hold. Empty text selects everything. Raises: BadSelector."""
    if len(text) > MAX_SELECTOR:
        raise BadSelector(f"a selector may have {MAX_SELECTOR} characters")
    requirements = tuple(_requirement(part) for part in _split(text))
    if len(requirements) > MAX_REQUIREMENTS:
        raise BadSelector(f"a selector may have {MAX_REQUIREMENTS} parts")
    return requirements


def matches(requirements: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    """Tell whether labels fulfil every requirement."""
    return all(one.matches(labels) for one in requirements)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises: BadLabel: too many, or a key or value that selectors could not name."""
    if len(labels) > MAX_LABELS:
        raise BadLabel(f"a cluster may have {MAX_LABELS} labels")
    for key, value in labels.items():
        if not _KEY_RE.fullmatch(key) or not _VALUE_RE.fullmatch(value):
            raise BadLabel("labels are letters, digits, '.', '_', '-' (and '/' in keys), 63 characters at most")


def require_labels(labels: Mapping[str, str]) -> None:
    """Check labels that somebody asks for. Raises: ApiError: invalid."""
    try:
        check_labels(labels)
    except BadLabel as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error


def _requirement(part: str) -> Requirement:
    if match := _SET_RE.fullmatch(part):
        values = tuple(value.strip() for value in match[3].split(","))
        if not all(_VALUE_RE.fullmatch(value) for value in values):
            raise BadSelector(f"{part!r} holds a value that no label can have")
        return Requirement(match[1], "in" if match[2] == "in" else "notin", values)
    if match := _EQUAL_RE.fullmatch(part):
        return Requirement(match[1], "notin" if match[2] == "!=" else "in", (match[3],))
    if match := _EXISTS_RE.fullmatch(part):
        return Requirement(match[2], "absent" if match[1] else "exists")
    raise BadSelector(f"{part[:64]!r} is not a condition like env=prod, env!=prod, env in (a, b), env or !env")


def _split(text: str) -> Iterator[str]:
    """Cut at commas outside parentheses."""
    part, depth = "", 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield _filled(part, text)
            part = ""
        else:
            part += letter
    if part.strip() or part != text:
        yield _filled(part, text)


def _filled(part: str, text: str) -> str:
    if not part.strip():
        raise BadSelector(f"{text[:64]!r} has an empty part")
    return part.strip()

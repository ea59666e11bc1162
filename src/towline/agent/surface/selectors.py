"""Label selectors as kubectl takes them: read once, held against the labels of many objects. Pure.

Source: Kubernetes, "Labels and Selectors", and apimachinery `labels/selector.go`; numeric comparisons are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_SELECTOR_CHARACTERS = 4096
"""A selector with a hundred values is far below; a longer one is no selector."""

_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_TERM = re.compile(r"(?:[^,()]|\([^()]*\))+")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_AMONG = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_ONE_VALUE = re.compile(_VALUE)


class BadSelector(ValueError):
    """Not a label selector. The text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: the value of a label is, or is not, one of some. `values` None: any value at all."""

    key: str
    values: frozenset[str] | None
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        found = value is not None and (self.values is None or value in self.values)
        return found is self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms have to match; no terms match everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(each.matches(labels) for each in self.requirements)


EVERYTHING = Selector()


def parse(text: str) -> Selector:
    """Read a selector. Raises: BadSelector."""
    if len(text) > MAX_SELECTOR_CHARACTERS:
        raise BadSelector(f"a label selector has {MAX_SELECTOR_CHARACTERS} characters at most")
    if not text.strip():
        return EVERYTHING
    terms = _TERM.findall(text)
    if ",".join(terms) != text:
        raise BadSelector(f"{text[:60]!r} is not a label selector")
    return Selector(tuple(_requirement(term.strip()) for term in terms))


def _requirement(term: str) -> Requirement:
    if (match := _EQUAL.fullmatch(term)) is not None:
        return Requirement(match[1], frozenset((match[3],)), match[2] != "!=")
    if (match := _AMONG.fullmatch(term)) is not None:
        values = frozenset(value.strip() for value in match[3].split(","))
        if all(_ONE_VALUE.fullmatch(value) for value in values):
            return Requirement(match[1], values, match[2] == "in")
    if (match := _EXISTS.fullmatch(term)) is not None:
        return Requirement(match[2], None, not match[1])
    raise BadSelector(f"{term[:60]!r} is not a term of a label selector")

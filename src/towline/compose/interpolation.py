"""Compose's variables: which a file uses, which are missing, and the file with their values put in.

Here: `$NAME`, `${NAME}`, the six operators (`:-` `-` `:?` `?` `:+` `+`, which nest), `$$` for a dollar sign. Never a
shell: `$(id)` stays the five characters it is. Not here: env files (`environment`).
Source: docs.docker.com, Compose file reference, "Interpolation".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from towline.compose.document import Document, KeyPath
from towline.compose.problems import Problem, Severity
from towline.compose.text import clean, shown

# Compose nests defaults in defaults; people nest two. Bounds recursion.
MAX_NESTING = 10
# A value may be repeated by a small file many times over; the result must stay a file that can be sent.
MAX_RESULT_BYTES = 4 * 1024 * 1024
# A reason that the file's author wrote behind `:?`.
MAX_REASON = 200

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPERATOR = re.compile(r":?[-?+]")
# Compose interpolates values, not keys, and leaves these parts alone.
_NOT_INTERPOLATED = frozenset({"version"})


@dataclass(frozen=True, slots=True)
class Variable:
    """One use of a variable in a text.

    Attributes: operator: "" or one of the six. argument: what follows the operator, not yet interpolated.
    """

    name: str
    operator: str = ""
    argument: str = ""

    @property
    def is_required(self) -> bool:
        return self.operator in (":?", "?")

    @property
    def has_default(self) -> bool:
        return self.operator in (":-", "-", ":+", "+")


@dataclass(frozen=True, slots=True)
class Use:
    """A variable and where the file uses it."""

    variable: Variable
    path: KeyPath


class TemplateError(Exception):
    """A template that Compose would refuse."""


class MissingVariable(TemplateError):
    """A required variable has no value."""


def uses(document: Document) -> tuple[Use, ...]:
    """Every variable that the file uses, those nested in defaults too, in file order."""
    found: list[Use] = []
    for path, text in texts(document.data):
        try:
            found.extend(Use(variable, path) for variable in _variables(text, 0))
        except TemplateError:
            continue  # reported by `interpolate`, with its line
    return tuple(found)


def variables(text: str) -> tuple[Variable, ...]:
    """Every variable that a text uses, those nested in defaults too. Raises: TemplateError."""
    return tuple(_variables(text, 0))


def texts(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text value that Compose interpolates, with its path."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            if path or key not in _NOT_INTERPOLATED:
                yield from texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*path, index))


def interpolate(document: Document, values: Mapping[str, str]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Put the values in.

    Returns: new data (where a text is not valid it stays as written), and problems: an invalid template and a
    required variable without value are errors, an unset variable is a warning, as with Compose.
    Values never appear in a problem.
    """
    state = _Interpolation(document, values)
    data = state.walk(document.data, ())
    assert isinstance(data, dict)
    return data, tuple(state.problems)


class _Interpolation:
    def __init__(self, document: Document, values: Mapping[str, str]) -> None:
        self._document = document
        self._values = values
        self._size = 0
        self._unset: set[str] = set()
        self.problems: list[Problem] = []

    def walk(self, data: Any, path: KeyPath) -> Any:
        if isinstance(data, dict):
            return {key: self._value(item, (*path, key)) for key, item in data.items()}
        if isinstance(data, list):
            return [self._value(item, (*path, index)) for index, item in enumerate(data)]
        return data

    def _value(self, data: Any, path: KeyPath) -> Any:
        if not isinstance(data, str):
            return self.walk(data, path)
        if "$" not in data or path[0] in _NOT_INTERPOLATED:
            return data
        try:
            result = substitute(data, self._values)
        except MissingVariable as missing:
            self._report(path, str(missing), "give the variable a value")
            return data
        except TemplateError:
            self._report(path, f"{shown(data)} is not valid interpolation", "write '$$' for a plain dollar sign")
            return data
        self._note_unset(data, path)
        self._size += len(result)
        if self._size > MAX_RESULT_BYTES:
            self._report(path, f"the values make the file larger than {MAX_RESULT_BYTES} bytes", "use shorter values")
            return data
        return result

    def _note_unset(self, text: str, path: KeyPath) -> None:
        for variable in _variables(text, 0):
            if variable.operator or variable.name in self._values or variable.name in self._unset:
                continue
            self._unset.add(variable.name)
            message = f"the variable {variable.name} is not set, Compose puts nothing in its place"
            self._report(path, message, f"set it, or write ${{{variable.name}:-default}}", Severity.WARNING)

    def _report(self, path: KeyPath, message: str, fix: str, severity: Severity = Severity.ERROR) -> None:
        self.problems.append(Problem(path, self._document.mark(path), message, fix, severity))


def substitute(text: str, values: Mapping[str, str], nesting: int = 0) -> str:
    """Replace the variables of one text."""
    return "".join(part if isinstance(part, str) else _valued(part, values, nesting) for part in _parts(text, nesting))


def settle(text: str, values: Mapping[str, str], nesting: int = 0) -> str:
    """Put the known values in for good and leave every other variable to whoever reads the file next.

    Returns: a text that Compose reads once more: dollar signs of values and literals are doubled.
    Raises: TemplateError: not valid interpolation, or a value with a brace would have to stand inside a default.
    MissingVariable: a required variable is known to be empty.
    """
    return "".join(
        part.replace("$", "$$") if isinstance(part, str) else _settled(part, values, nesting)
        for part in _parts(text, nesting)
    )


def _settled(variable: Variable, values: Mapping[str, str], nesting: int) -> str:
    if variable.name in values:
        if not _falls_back(variable, values[variable.name]):
            return _valued(replace(variable, argument=""), values, nesting).replace("$", "$$")
        if variable.is_required:
            raise MissingVariable(f"the variable {variable.name} is required")
        return settle(variable.argument, values, nesting + 1)
    argument = settle(variable.argument, values, nesting + 1)
    braced = f"{{{variable.name}{variable.operator}{argument}}}"
    if _closing(braced, 0) != len(braced) - 1:
        raise TemplateError
    return f"${braced}"


def _falls_back(variable: Variable, value: str) -> bool:
    """Tell whether the argument stands in for a variable that has a value."""
    present = bool(value) if variable.operator.startswith(":") else True
    return present if variable.operator.endswith("+") else bool(variable.operator) and not present


def _valued(variable: Variable, values: Mapping[str, str], nesting: int) -> str:
    # Compose looks at the argument before it looks at the variable, so a mistake in an unused default counts.
    argument = substitute(variable.argument, values, nesting + 1) if variable.operator else ""
    value = values.get(variable.name)
    present = bool(value) if variable.operator.startswith(":") else value is not None
    match variable.operator[-1:]:
        case "-":
            return (value or "") if present else argument
        case "+":
            return argument if present else value or ""
        case "?" if not present:
            reason = clean(variable.argument, MAX_REASON)
            raise MissingVariable(f"the variable {variable.name} is required" + (f": {reason}" if reason else ""))
    return value or ""


def _variables(text: str, nesting: int) -> Iterator[Variable]:
    for part in _parts(text, nesting):
        if isinstance(part, Variable):
            yield part
            if part.argument:
                yield from _variables(part.argument, nesting + 1)


def _parts(text: str, nesting: int) -> Iterator[str | Variable]:
    """Split a text into literal pieces and variables. Raises: TemplateError."""
    if nesting > MAX_NESTING:
        raise TemplateError
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        yield text[at:dollar]
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            yield "$"
            at = dollar + 2
        elif following == "{":
            end = _closing(text, dollar + 1)
            yield _braced(text[dollar + 2 : end])
            at = end + 1
        elif (name := _NAME.match(text, dollar + 1)) is not None:
            yield Variable(name.group())
            at = name.end()
        else:
            yield "$"
            at = dollar + 1
    yield text[at:]


def _braced(inner: str) -> Variable:
    name = _NAME.match(inner)
    if name is None:
        raise TemplateError
    if name.end() == len(inner):
        return Variable(inner)
    operator = _OPERATOR.match(inner, name.end())
    if operator is None:
        raise TemplateError
    return Variable(name.group(), operator.group(), inner[operator.end() :])


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise TemplateError

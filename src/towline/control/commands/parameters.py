"""Parameters of saved commands: `{{name}}` as a whole argument or a part of one. Pure.

A value goes where its name stands and is never split, quoted or looked at again: what looks like a shell, an option
or another parameter inside of it is text. A value that stands for a whole argument cannot begin an option.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

MOST_PARAMETERS = 20
LONGEST_VALUE = 1000
NAME = r"[a-z][a-z0-9_]{0,31}"
_PLACE = re.compile(r"\{\{\s*(" + NAME + r")\s*\}\}")
_STRAY = re.compile(r"\{\{.*?\}\}")


class BadParameter(ValueError):
    """A parameter is missing, unknown, or has a value that none can have; the message says which."""


def names(arguments: Iterable[str]) -> list[str]:
    """Return the parameters of an argument list, in the order of their first use. Raises: BadParameter."""
    found: dict[str, None] = {}
    for argument in arguments:
        for text in _STRAY.findall(argument):
            match = _PLACE.fullmatch(text)
            if match is None:
                raise BadParameter(f"{text[:64]} is no parameter: write {{{{name}}}} with letters, digits and '_'")
            found[match[1]] = None
    if len(found) > MOST_PARAMETERS:
        raise BadParameter(f"a command may have {MOST_PARAMETERS} parameters")
    return list(found)


def filled(arguments: Sequence[str], values: Mapping[str, str], defaults: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments with values in their places. Raises: BadParameter."""
    wanted = names(arguments)
    if unknown := [name for name in values if name not in wanted]:
        raise BadParameter(f"there is no parameter {unknown[0][:64]!r}; there are: {', '.join(wanted) or 'none'}")
    given = {**defaults, **values}
    if missing := [name for name in wanted if name not in given]:
        raise BadParameter(f"{', '.join(missing)} must be given")
    for name in wanted:
        _check(name, given[name])
    return tuple(_filled(argument, given) for argument in arguments)


def _filled(argument: str, given: Mapping[str, str]) -> str:
    whole = _PLACE.match(argument)
    if whole is not None and given[whole[1]].startswith("-"):
        raise BadParameter(f"{whole[1]} begins with '-': it would be read as an option")
    return _PLACE.sub(lambda match: given[match[1]], argument)


def _check(name: str, value: str) -> None:
    if not value:
        raise BadParameter(f"{name} is empty")
    if len(value) > LONGEST_VALUE or "\x00" in value:
        raise BadParameter(f"{name} may have {LONGEST_VALUE} characters, and no NUL")

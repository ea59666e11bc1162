"""Reading argument lists the way kubectl and docker do (spf13/pflag): flags anywhere, values attached or apart.

`--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`, several short switches together, `--` ends the flags.
Unknown flags are errors. No shell is near: `;`, `$(…)` and newlines are characters like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from towline.commandline.errors import BadCommand

MOST_SHOWN = 60
"""Characters of an argument that an error repeats."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class Takes(Enum):
    """What stands behind a flag."""

    NOTHING = "nothing"
    TEXT = "text"
    NUMBER = "number"
    DURATION = "duration"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a verb."""

    name: str
    short: str = ""
    takes: Takes = Takes.NOTHING
    words: str = ""
    """What it does, for the reference."""
    choices: tuple[str, ...] = ()
    bare: str = ""
    """Value when the flag stands alone though it takes one, e.g. `--dry-run`."""
    many: bool = False
    """May be given several times."""

    @property
    def shown(self) -> str:
        """How the reference writes it."""
        names = f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"
        if self.takes is Takes.NOTHING:
            return names
        value = "|".join(self.choices) if self.choices else self.takes.value.upper()
        return f"{names} {value}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """Arguments that have been read."""

    words: tuple[str, ...]
    """What is no flag, in order."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Flag name to its values, as typed; switches hold `true` or `false`."""

    def has(self, name: str) -> bool:
        """Tell whether a switch is on."""
        return bool(self.values.get(name)) and self.values[name][-1] == "true"

    def is_given(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """Return the last value of a flag."""
        return self.values[name][-1] if name in self.values else default

    def number(self, name: str, default: int) -> int:
        return int(self.values[name][-1]) if name in self.values else default

    def seconds(self, name: str, default: float) -> float:
        """Return a duration in seconds."""
        return duration(self.values[name][-1]) if name in self.values else default


def duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `5m`, `1h30m`. Raises: ValueError."""
    if text.isascii() and text.isdigit():
        return float(text)
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise ValueError("a duration is written like 30s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600.0 + minutes * 60 + seconds


def parse(arguments: Sequence[str], known: Sequence[Flag], refused: Mapping[str, str], *, of: str) -> Parsed:
    """Read arguments.

    Args: refused: name of a flag, long or short, to why it is not taken. of: the command, for errors.
    Raises: BadCommand.
    """
    return _Reader(arguments, known, refused, of).read()


def shown(text: str) -> str:
    """Quote an argument for an error, on one line."""
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…")


class _Reader:
    def __init__(self, arguments: Sequence[str], known: Sequence[Flag], refused: Mapping[str, str], of: str) -> None:
        self._left = list(arguments)
        self._long = {flag.name: flag for flag in known}
        self._short = {flag.short: flag for flag in known if flag.short}
        self._refused = refused
        self._of = of
        self._words: list[str] = []
        self._values: dict[str, list[str]] = {}

    def read(self) -> Parsed:
        while self._left:
            argument = self._left.pop(0)
            if argument == "--":
                self._words += self._left
                break
            if argument.startswith("--"):
                self._take_long(argument[2:])
            elif argument.startswith("-") and len(argument) > 1:
                self._take_short(argument[1:])
            else:
                self._words.append(argument)
        return Parsed(tuple(self._words), {name: tuple(values) for name, values in self._values.items()})

    def _take_long(self, text: str) -> None:
        name, equals, value = text.partition("=")
        flag = self._long.get(name)
        if flag is None:
            raise self._unknown(f"--{name}", name)
        if equals:
            self._keep(flag, value)
        elif flag.takes is Takes.NOTHING or flag.bare:
            self._keep(flag, flag.bare or "true")
        else:
            self._keep(flag, self._next(f"--{name}"))

    def _take_short(self, text: str) -> None:
        while text:
            letter, text = text[0], text[1:]
            flag = self._short.get(letter)
            if flag is None:
                raise self._unknown(f"-{letter}", letter)
            if flag.takes is Takes.NOTHING:
                if text.startswith("="):
                    self._keep(flag, text[1:])
                    return
                self._keep(flag, "true")
                continue
            self._keep(flag, text.removeprefix("=") if text else self._next(f"-{letter}"))
            return

    def _next(self, shown_name: str) -> str:
        if not self._left:
            raise BadCommand(f"{shown_name} of {self._of} needs a value")
        return self._left.pop(0)

    def _keep(self, flag: Flag, value: str) -> None:
        values = self._values.setdefault(flag.name, [])
        if values and not flag.many and flag.takes is not Takes.NOTHING:
            raise BadCommand(f"--{flag.name} is given twice")
        values.append(_checked(flag, value))

    def _unknown(self, typed: str, name: str) -> BadCommand:
        if name in self._refused:
            return BadCommand(f"{typed[:MOST_SHOWN]} is not taken: {self._refused[name]}")
        known = ", ".join(sorted(f"--{name}" for name in self._long))
        return BadCommand(f"{self._of} does not take {shown(typed)}; it takes {known or 'no flags'}")


def _checked(flag: Flag, value: str) -> str:
    """Return a value in its plain form. Raises: BadCommand."""
    match flag.takes:
        case Takes.NOTHING:
            if value.lower() not in _TRUTH:
                raise BadCommand(f"--{flag.name} is true or false, not {shown(value)}")
            return "true" if _TRUTH[value.lower()] else "false"
        case Takes.NUMBER:
            if not value.isascii() or not value.removeprefix("-").isdigit() or len(value) > 12:
                raise BadCommand(f"--{flag.name} is a whole number, not {shown(value)}")
        case Takes.DURATION:
            try:
                duration(value)
            except ValueError as error:
                raise BadCommand(f"--{flag.name}: {error}, not {shown(value)}") from error
        case Takes.CHOICE:
            if value not in flag.choices:
                raise BadCommand(f"--{flag.name} is one of {', '.join(flag.choices)}, not {shown(value)}")
        case Takes.TEXT:
            pass
    return value

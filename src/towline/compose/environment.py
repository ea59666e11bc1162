"""Env files: reading them as Compose does, and writing values so that Compose reads them back unchanged.

Not here: which variables a project needs (`interpolation`). Values never appear in an error.
Source: docs.docker.com, "Set environment variables", ".env file syntax"; checked against Compose 2.40.
"""

import re
from collections.abc import Iterable, Mapping

from towline.compose import interpolation
from towline.compose.errors import EnvironmentRefused
from towline.compose.text import shown

# As large as the Compose file itself may be; an env file is a page of settings.
MAX_BYTES = 512 * 1024
MAX_VARIABLES = 2_000

_EXPORT = re.compile(r"export\s+")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=\-]+", re.ASCII)
_ESCAPE = re.compile(r"\\(?:[abcfnrtv$\"\\]|0[0-7]{0,3})")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}


def parse(text: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read an env file.

    Args: known: variables that values in the file may refer to, besides those above them.
    Raises: EnvironmentRefused, with the line.
    """
    if len(text) > MAX_BYTES:
        raise EnvironmentRefused(f"the file is larger than {MAX_BYTES} bytes", 1)
    if "\0" in text:
        raise EnvironmentRefused("a NUL character", text.count("\n", 0, text.index("\0")) + 1)
    return _Reader(text.replace("\r\n", "\n"), dict(known or {})).read()


class _Reader:
    def __init__(self, text: str, known: dict[str, str]) -> None:
        self._text = text
        self._at = 0
        self._known = known
        self._found: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        while self._skip_blank():
            self._statement()
            if len(self._found) > MAX_VARIABLES:
                raise self._refused(f"more than {MAX_VARIABLES} variables")
        return self._found

    def _skip_blank(self) -> bool:
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "#":
                self._at = self._line_end()
            elif character.isspace():
                self._at += 1
            else:
                return True
        return False

    def _statement(self) -> None:
        if (export := _EXPORT.match(self._text, self._at)) is not None:
            self._at = export.end()
        key = _KEY.match(self._text, self._at)
        if key is None:
            raise self._refused("expected NAME=value")
        end = self._line_end()
        separator = self._text[key.end() : end].lstrip(" \t")
        name = key.group()
        if not separator:  # a bare name takes its value from outside
            if name in self._known:
                self._found[name] = self._known[name]
            self._at = end
            return
        if separator[0] not in "=:":
            raise self._refused(f"expected '=' after {shown(name)}")
        start = end - len(separator) + 1
        while start < end and self._text[start] in " \t":
            start += 1
        self._at = start
        self._found[name] = self._known[name] = self._value(end)

    def _value(self, end: int) -> str:
        quote = self._text[self._at : self._at + 1]
        if quote and quote in "\"'":
            return self._quoted(quote)
        raw = self._text[self._at : end].split(" #", 1)[0].rstrip()
        value = self._expanded(raw)
        self._at = end
        return value

    def _quoted(self, quote: str) -> str:
        position = self._at + 1
        chars: list[str] = []
        while (character := self._text[position : position + 1]) != quote:
            if not character:
                raise self._refused("the quote is never closed")
            following = self._text[position + 1 : position + 2]
            if character == "\\" and following:
                chars.append(following if following == quote else character + following)
                position += 2
            else:
                chars.append(character)
                position += 1
        raw = "".join(chars)
        value = self._expanded(_ESCAPE.sub(_unescape, raw)) if quote == '"' else raw
        self._at = position + 1
        return value

    def _expanded(self, raw: str) -> str:
        try:
            return interpolation.substitute(raw, self._known)
        except interpolation.TemplateError:
            raise self._refused("not valid interpolation; write single quotes around a literal value") from None

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _refused(self, message: str) -> EnvironmentRefused:
        return EnvironmentRefused(message, self._text.count("\n", 0, self._at) + 1)


def _unescape(match: re.Match[str]) -> str:
    escape = match.group()[1:]
    if escape == "$":
        return "$$"
    if escape[0] == "0":
        return chr(int(escape, 8) & 0xFF)
    return _ESCAPED.get(escape, match.group())


def render(values: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Write variables, one a line, so that Compose reads exactly these values back.

    Raises: EnvironmentRefused, for a name or value that an env file cannot hold.
    """
    pairs = values.items() if isinstance(values, Mapping) else values
    return "".join(f"{_checked(name, value)}={_quote(value)}\n" for name, value in pairs)


def _checked(name: str, value: str) -> str:
    if _KEY.fullmatch(name) is None:
        raise EnvironmentRefused(f"the name {shown(name)} is not allowed", 1)
    if "\0" in value:
        raise EnvironmentRefused(f"the value of {shown(name)} has a NUL character", 1)
    return name


def _quote(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if not any(mark in value for mark in "'\\\n"):
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'

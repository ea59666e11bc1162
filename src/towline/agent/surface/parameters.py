"""Parameters as an endpoint declares them, out of the query and the path: anything else is refused, not ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from towline.agent.surface.endpoints import MOST_TEXT, Kind, Parameter
from towline.agent.surface.errors import SurfaceError, bad_parameter

TICKET = "ticket"
TOKEN_NAMES = frozenset({"token", "access_token", "auth", "authorization", "bearer", "api_key", "key"})
"""Names under which people put tokens into addresses."""

_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}


def refuse_tokens(query: Iterable[str]) -> None:
    """Raises: SurfaceError: the query holds what looks like a token; what it is appears nowhere."""
    if any(name.lower() in TOKEN_NAMES for name in query):
        raise SurfaceError(
            "unauthenticated",
            "a token in an address ends up in histories and logs, and is refused there; it should be renewed now",
            hint="send it as `Authorization: Bearer`, or ask for a ticket with POST /api/tickets and send ?ticket=",
        )


def read(declared: tuple[Parameter, ...], query: Iterable[tuple[str, str]], path: Mapping[str, str]) -> dict[str, Any]:
    """Return every declared parameter, converted, or its default. Raises: SurfaceError."""
    known = {parameter.name: parameter for parameter in declared}
    texts = dict(path)
    for name, text in query:
        if name not in known or name in path:
            named = ", ".join(sorted(known.keys() - path.keys())) or "none"
            raise SurfaceError("bad_request", f"unknown parameter {name[:60]!r}; known are: {named}")
        if name in texts:
            raise bad_parameter(name, "is given twice")
        texts[name] = text
    values: dict[str, Any] = {name: parameter.default for name, parameter in known.items()}
    values.update({name: _converted(known.get(name), name, text) for name, text in texts.items()})
    return values


def _converted(parameter: Parameter | None, name: str, text: str) -> Any:
    if parameter is None:
        return _text(Parameter(name, ""), text)
    if parameter.kind is Kind.FLAG:
        if text not in _FLAGS:
            raise bad_parameter(name, "must be true or false")
        return _FLAGS[text]
    return _text(parameter, text) if parameter.kind is Kind.TEXT else _number(parameter, text)


def _text(parameter: Parameter, text: str) -> str:
    if parameter.choices and text not in parameter.choices:
        raise bad_parameter(parameter.name, f"must be one of {', '.join(parameter.choices)}")
    most = min(MOST_TEXT, int(parameter.most))
    if len(text) > most:
        raise bad_parameter(parameter.name, f"is longer than {most} characters")
    if not text.isprintable():
        raise bad_parameter(parameter.name, "holds characters that cannot be printed")
    return text


def _number(parameter: Parameter, text: str) -> float:
    whole = parameter.kind is Kind.WHOLE
    try:
        # int() and float() take underscores, spaces, digits of other scripts and "nan"
        if not text.isascii() or not text.removeprefix("-").replace(".", "", 0 if whole else 1).isdigit():
            raise ValueError
        number = int(text) if whole else float(text)
    except ValueError as error:
        raise bad_parameter(parameter.name, f"must be a {'whole ' if whole else ''}number") from error
    if not parameter.least <= number <= parameter.most:
        raise bad_parameter(parameter.name, f"must be between {parameter.least:g} and {parameter.most:g}")
    return number

"""How a module of the surface declares what it serves: one `Endpoint` each, with right, parameters and an example.

The guard checks by these declarations, and the OpenAPI document is written from them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_TEXT = 1000
"""Characters of a text parameter unless it says otherwise: a label selector of many terms fits."""


class Right(IntEnum):
    """What a caller must bring. Who may operate may read."""

    OPEN = 0
    READ = 1
    OPERATE = 2


class Kind(Enum):
    """Of a parameter; the value is its type in OpenAPI."""

    TEXT = "string"
    WHOLE = "integer"
    NUMBER = "number"
    FLAG = "boolean"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query, or of the path when the path names it.

    A flag is `true` or `false`, also `1` and `0`, and alone (`?follow`) it is true.
    """

    name: str
    about: str
    kind: Kind = Kind.TEXT
    default: Any = None
    """What a handler gets when the caller leaves it out."""
    least: float = 0
    most: float = 2**31 - 1
    """Of numbers both ends, included; of texts `most` characters when it is smaller than MOST_TEXT."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    """As aiohttp writes it, `/api/k8s/logs/{namespace}/{pod}`; path parameters take no slash."""
    handler: Handler
    right: Right
    summary: str
    """One sentence, for the document."""
    curl: str
    """What to write behind `curl`, with `$URL` for the surface's address and `$TOKEN` for a token. A test runs it."""
    parameters: tuple[Parameter, ...] = ()
    takes_ticket: bool = False
    """Whether a ticket in the query stands for the token: for WebSockets and event streams."""
    body: dict[str, Any] | None = None
    """JSON Schema of the body; None when there is none."""
    answer: str = "application/json"
    """Media type of a good answer."""
    answers: dict[str, Any] | None = None
    """JSON Schema of a good answer, when it is JSON."""
    fields: tuple[str, ...] = ()
    """Keys that every good JSON answer has."""

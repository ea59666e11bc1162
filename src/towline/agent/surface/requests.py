"""What an endpoint asks about its request: who calls, with which parameters, and what is in the body.

def one(request):
    parts = parts_of(request)
    lines = given(request, "tailLines")   # checked and converted by the guard, after the endpoint's declaration
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.parts import Parts
from towline.agent.surface.statistics import Statistics

BODY_TIMEOUT = 30.0
"""Seconds for a whole body: it is small, and comes from the same host or through a port-forward."""

T = TypeVar("T")

PARTS: web.AppKey[Parts] = web.AppKey("parts", Parts)
STATISTICS: web.AppKey[Statistics] = web.AppKey("statistics", Statistics)
ENDPOINTS_SERVED: web.AppKey[Sequence[Endpoint]] = web.AppKey("endpoints", Sequence)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the surface knows: which right the token or ticket had."""

    right: Right
    edition: bytes = field(default=b"", repr=False)
    """Of the token behind it: a renewed one ends what was begun with it."""


CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
VALUES: web.RequestKey[Mapping[str, Any]] = web.RequestKey("values", Mapping)


def parts_of(request: web.Request) -> Parts:
    """Return what the agent has."""
    return request.app[PARTS]


def statistics_of(request: web.Request) -> Statistics:
    """Return the surface's counts; a long answer counts itself by `holding`."""
    return request.app[STATISTICS]


def caller_of(request: web.Request) -> Caller:
    """Return who calls."""
    return request[CALLER]


def given(request: web.Request, name: str) -> Any:
    """Return a declared parameter, converted, or its default."""
    return request[VALUES][name]


async def read_json(request: web.Request, kind: type[T]) -> T:
    """Read a JSON body into a msgspec struct. Raises: SurfaceError."""
    if request.content_type != "application/json":
        raise SurfaceError("bad_request", "the body must be JSON, with Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            data = await request.read()
        return msgspec.json.decode(data, type=kind)
    except TimeoutError as error:
        raise SurfaceError("bad_request", f"the body did not come within {BODY_TIMEOUT:g} seconds") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SurfaceError("bad_request", f"the body cannot be used: {error}") from error

"""What an endpoint asks about its request: who calls, with which parameters, and what is in the body.

def one(request):
    parts = parts_of(request)
    lines = given(request, "tailLines")   # checked and converted by the guard, after the endpoint's declaration
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.parts import Parts

BODY_TIMEOUT = 30.0
"""Seconds for a whole body: it is small, and comes from the same host or through a port-forward."""

T = TypeVar("T")

PARTS: web.AppKey[Parts] = web.AppKey("parts", Parts)
CALLER = "towline.caller"
VALUES = "towline.values"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the surface knows: which right the token or ticket had."""

    right: Right


def parts_of(request: web.Request) -> Parts:
    """Return what the agent has."""
    return request.app[PARTS]


def caller_of(request: web.Request) -> Caller:
    """Return who calls."""
    caller: Caller = request[CALLER]
    return caller


def given(request: web.Request, name: str) -> Any:
    """Return a declared parameter, converted, or its default."""
    values: Mapping[str, Any] = request[VALUES]
    return values[name]


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

"""Answers of the surface: JSON, and errors in one shape. Nothing may be cached, and nothing guessed about its type."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from towline.agent.surface.errors import SurfaceError

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def answer(value: Any, status: int = 200) -> web.Response:
    """Answer with JSON; takes structs, dataclasses and times."""
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", headers=HEADERS)


def refusal(error: SurfaceError, request_id: str) -> web.Response:
    """Answer with an error. `request_id` finds it in the agent's log."""
    response = answer(error.body(request_id), error.status)
    response.headers["X-Request-Id"] = request_id
    response.headers.update(error.headers)
    return response

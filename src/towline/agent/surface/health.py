"""Health of the agent for probes: open to everybody who can connect, and so without a word about this host."""

from __future__ import annotations

from aiohttp import web

from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right


async def health(request: web.Request) -> web.StreamResponse:
    """Say that the event loop turns: that this is answered at all is the proof."""
    return answer({"status": "healthy"})


ENDPOINTS = (
    Endpoint(
        "GET", "/health", health, Right.OPEN, "Whether the agent's loop turns.", "$URL/health", fields=("status",)
    ),
)

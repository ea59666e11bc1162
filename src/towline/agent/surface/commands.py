"""`GET /api/commands`: commands that the surface's own callers run here, and those that they ran.

What the control plane has run here are jobs: `jobs.py`.
"""

from __future__ import annotations

from aiohttp import web

from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.live import live_of
from towline.agent.surface.requests import caller_of


async def listed(request: web.Request) -> web.StreamResponse:
    """List those that the caller may see."""
    return answer({"commands": live_of(request).commands.listed(caller_of(request).right)})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/api/commands",
        listed,
        Right.READ,
        "Commands that run or ran here for callers of this surface, the newest first; those of others are jobs.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/commands',
        fields=("commands",),
    ),
)

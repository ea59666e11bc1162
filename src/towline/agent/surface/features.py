"""`GET /api/status/features`: what this agent can do here and now, what it could, and what its host's owner allows."""

from __future__ import annotations

from typing import Any, get_args

from aiohttp import web

from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.parts import Parts
from towline.agent.surface.requests import ENDPOINTS_SERVED, parts_of
from towline.wire import link, orders, streams


async def tell(request: web.Request) -> web.StreamResponse:
    """Tell all of it."""
    parts = parts_of(request)
    served = request.app[ENDPOINTS_SERVED]
    value = {
        "features": switches(parts),
        "capabilities": [_capability(each) for each in parts.capabilities.current],
        "operations": {
            "jobs": list(orders.ORDERS),
            "streams": sorted(kind.__name__.lower() for kind in get_args(streams.Target)),
            "local": [f"{endpoint.method} {endpoint.path}" for endpoint in served],
        },
        "protocol": link.PROTOCOL,
        "policy": parts.policy().shown(),
    }
    return answer(value)


def switches(parts: Parts) -> dict[str, bool]:
    """Return feature by feature whether it works at this moment."""
    policy = parts.policy()
    ready = {each.name: each.ready for each in parts.capabilities.current}
    kubernetes, forward = ready.get("kubernetes", False), ready.get("forward", False)
    return {
        "compose": ready.get("compose", False),
        "kubernetes": kubernetes,
        "kubernetes_writes": kubernetes and not policy.kubernetes.read_only,
        "kubernetes_exec": kubernetes and policy.kubernetes.exec,
        "forward": forward,
        "gateway": forward and policy.gateway.enabled,
        "commands": policy.commands.enabled,
        "exec": "exec" in policy.capabilities,
        "logs": "logs" in policy.capabilities,
        "local_surface": True,
        "control_plane": parts.session() is not None,
        "standalone": parts.settings.standalone,
    }


def _capability(each: link.Capability) -> dict[str, Any]:
    return {"name": each.name, "ready": each.ready, "version": each.version, "reason": each.reason}


ENDPOINTS = (
    Endpoint(
        "GET", "/api/status/features", tell, Right.READ,
        "What works here now, which operations there are, the protocol, and the local policy.",
        '-H "Authorization: Bearer $TOKEN" $URL/api/status/features',
        fields=("features", "capabilities", "operations", "protocol", "policy"),
    ),
)  # fmt: skip

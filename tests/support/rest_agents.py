"""PipeOps REST agents for tests: what they send, as they send it, to an app or to a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.support.control_app import ControlApp

from towline.control.access.permissions import Role
from towline.control.protocols.pipeops.rest_agents import RestAgents

SECRET = "a-token-of-the-older-system"


@dataclass
class RestAgent:
    """One agent: its id, and a client that presents its token."""

    client: httpx.AsyncClient
    id: str = "agent-1"
    register_with: dict[str, Any] = field(default_factory=dict)

    async def register(self, **changes: Any) -> httpx.Response:
        body = {
            "id": self.id, "name": "old-agent", "cluster_name": "office", "version": "1.0.0", "status": "registering",
            "labels": {"hostname": "vm"}, "last_seen": "2026-11-21T06:29:51.971595382Z", "control_plane_url": "",
        }  # fmt: skip
        return await self.client.post("/api/v1/agents/register", json=body | self.register_with | changes)

    async def beat(self, **changes: Any) -> httpx.Response:
        body = {
            "agent_id": self.id, "cluster_name": "office", "status": "connected", "proxy_status": "direct",
            "timestamp": "2026-11-21T06:30:21.99983665Z", "metadata": {"version": "1.0.0"},
        }  # fmt: skip
        return await self.client.post(f"/api/v1/agents/{self.id}/heartbeat", json=body | changes)

    async def status(self, **body: Any) -> httpx.Response:
        return await self.client.post(f"/api/v1/agents/{self.id}/status", json=body)

    async def fetch(self) -> list[dict[str, Any]]:
        answer = await self.client.get(f"/api/v1/agents/{self.id}/commands")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["commands"]
        return found

    async def result(self, command: str, **body: Any) -> httpx.Response:
        return await self.client.post(
            f"/api/v1/agents/{self.id}/commands/{command}/result", json={"success": True} | body
        )


def agents_of(app: ControlApp) -> RestAgents:
    return app.control.protocols.rest_agents


async def token(app: ControlApp, *, secret: str = SECRET, **wanted: Any) -> str:
    """A token for PipeOps agents, made by an administrator."""
    if not hasattr(app, "compat_admin"):
        app.compat_admin = await app.user("compat-admin", Role.ADMIN)  # type: ignore[attr-defined]
    body = {"protocol": "pipeops", "secret": secret} | wanted
    answer = await app.compat_admin.post("/api/v1/compat/tokens", json=body)  # type: ignore[attr-defined]
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["token"]
    return made


async def rest_agent(app: ControlApp, *, name: str = "agent-1", secret: str = SECRET, **wanted: Any) -> RestAgent:
    """An agent with a token of its own that has registered."""
    agent = RestAgent(app.client(await token(app, secret=secret, **wanted)), name)
    answer = await agent.register()
    assert answer.status_code == 200, answer.text
    return agent

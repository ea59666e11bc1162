"""A real server for tests of InstaDeploy: its edge on loopback, a shared token, and somebody who deploys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.support import prepared
from tests.support.control_app import ControlApp
from tests.support.instadeploy_agent import GoAgent, Host, go_agent
from tests.support.served import served, trusting

from towline.control.access.permissions import Right, Role
from towline.control.server import Running

SECRET = "shared-by-all-agents"
FILE = "services:\n  web:\n    image: shop/web:1\n    restart: always\n"


class Stand:
    """The server, and ways to use it."""

    def __init__(self, running: Running, app: ControlApp, token: str) -> None:
        self.running, self.app, self.token = running, app, token
        self.control = running.control

    def agent(self, hostname: str = "vm", path: str = "/ws", **more: Any) -> AbstractAsyncContextManager[GoAgent]:
        url = f"wss://localhost:{self.running.port}{path}"
        return go_agent(url, more.pop("token", SECRET), tls=trusting(self.running), hostname=hostname, **more)

    def client(self, token: str = "", **more: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token or self.token}"}
        base = f"https://localhost:{self.running.port}/api/v1"
        return httpx.AsyncClient(base_url=base, verify=trusting(self.running), headers=headers, timeout=30, **more)

    async def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        async with self.client() as client:
            answer = await client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def shared_token(self, **more: Any) -> dict[str, Any]:
        body = {"protocol": "instadeploy", "shared": True, "secret": SECRET, "open_for": 3600, **more}
        made: dict[str, Any] = await self.call("POST", "/compat/tokens", body, status=201)
        return made

    async def online(self, cluster: str = "vm") -> dict[str, Any]:
        """Wait until an agent's session is up and may get jobs."""
        async with asyncio.timeout(20), self.control.bus.subscribe("cluster", "agent", "inventory") as events:
            while not any(one.admitted.cluster_name == cluster and one.jobs_known for one in self.control.fleet.links):
                await _next(events)
        await self.control.fleet.reports.flush()
        found: dict[str, Any] = await self.call("GET", f"/clusters/{cluster}")
        return found

    async def deploy(
        self, compose: str = FILE, *, name: str = "shop", cluster: str = "vm", settle: float = 0.0, **more: Any
    ) -> dict[str, Any]:
        options = {"settle_seconds": settle, **more.pop("options", {})}
        body = {"compose": compose, "options": options, **more}
        made: dict[str, Any] = await self.call(
            "POST", f"/clusters/{cluster}/deployments/{name}/revisions", body, status=202
        )
        return made

    async def refused(self, compose: str, *, name: str = "shop", cluster: str = "vm") -> dict[str, Any]:
        """Try to deploy what no revision is made of."""
        path = f"/clusters/{cluster}/deployments/{name}/revisions"
        found: dict[str, Any] = await self.call("POST", path, {"compose": compose}, status=422)
        return found

    async def operate(self, verb: str, body: Any = None, *, name: str = "shop", cluster: str = "vm") -> dict[str, Any]:
        path = f"/clusters/{cluster}/deployments/{name}/{verb}"
        made: dict[str, Any] = await self.call("POST", path, body or {}, status=202)
        return made

    async def ended(self, made: dict[str, Any]) -> dict[str, Any]:
        """Wait for the end of the job of an answer."""
        return await self.job(made["job"]["id"], {"succeeded", "failed", "cancelled", "expired", "superseded"})

    async def job(self, job_id: str, states: set[str]) -> dict[str, Any]:
        async with asyncio.timeout(30), self.control.bus.subscribe("job") as events:
            while (job := await self.call("GET", f"/jobs/{job_id}"))["state"] not in states:
                await _next(events)
        shown: dict[str, Any] = job
        return shown

    async def shown(self, name: str = "shop", cluster: str = "vm") -> dict[str, Any]:
        found: dict[str, Any] = await self.call("GET", f"/clusters/{cluster}/deployments/{name}")
        return found

    async def until(self, name: str = "shop", cluster: str = "vm", **wanted: Any) -> dict[str, Any]:
        """Wait until a deployment shows some values."""
        async with asyncio.timeout(20), self.control.bus.subscribe("deployment", "job", "inventory") as events:
            while not wanted.items() <= (shown := await self.shown(name, cluster)).items():
                await _next(events)
        return shown


async def _next(events: Any) -> None:
    """Wait for a hint, and not longer than a lost one would cost."""
    try:
        async with asyncio.timeout(0.3):
            await anext(events)
    except TimeoutError:
        return


@asynccontextmanager
async def stand(folder: Path, sqlite: Path | str, *, name: str = "olga", **changes: Any) -> AsyncIterator[Stand]:
    """A running server with an owner's token. `sqlite` may be the URL of a database that was used before."""
    url = sqlite if isinstance(sqlite, str) else prepared.sqlite_copy(sqlite, folder)
    async with served(url, folder, **changes) as running:
        app = ControlApp(running.control, None, running.control.settings)
        yield Stand(running, app, await app.token(name, Right(Role.OWNER)))


__all__ = ["FILE", "SECRET", "GoAgent", "Host", "Stand", "stand"]

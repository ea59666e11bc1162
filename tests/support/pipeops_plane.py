"""A served control plane with a token for PipeOps agents, and what tests of those look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from tests.support.pipeops_agent import REGISTER, PlayedAgent, agent
from tests.support.served import https, served, trusting

from towline.control.access.actor import Access, system_access
from towline.control.clusters.models import Cluster
from towline.control.links.registry import Link
from towline.control.protocols.pipeops.session import PipeOpsSession
from towline.control.protocols.standins import MakesStandIns
from towline.control.protocols.tokens import Wanted
from towline.control.server import Running

WAIT = 10.0


@dataclass
class Plane:
    """The server, and one token."""

    running: Running
    token: str
    token_id: str

    def connect(self, **more: str) -> Any:
        return agent(self.running.port, self.token, trusting(self.running), **more)

    @property
    def access(self) -> Access:
        return system_access("test", self.running.control.default_org)

    @property
    def links(self) -> list[Link]:
        return list(self.running.control.fleet.links)

    @property
    def session(self) -> PipeOpsSession:
        (one,) = self.links
        assert isinstance(one.session, PipeOpsSession)
        return one.session

    async def rows(self, table: Any) -> list[Any]:
        async with self.running.control.db.read() as tx:
            return list((await tx.scalars(select(table))).all())

    async def cluster_with(self, column: str) -> Cluster:
        """The one cluster, once something of it has been written."""

        async def written() -> Any:
            await self.running.control.fleet.reports.flush()
            (cluster,) = await self.rows(Cluster)
            return getattr(cluster, column) and cluster

        found: Cluster = await eventually(written)
        return found

    async def make_token(self, **wanted: Any) -> Plane:
        made = await self.running.control.protocols.tokens.create(self.access, Wanted(protocol="pipeops", **wanted))
        return Plane(self.running, made.secret, made.row.id)

    async def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        """A REST call as the agent makes it."""
        given = self.token if token is None else token
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        content = body if isinstance(body, bytes | None) else None
        async with https(self.running, headers=headers) as client:
            if content is not None:
                return await client.request(method, path, content=content)
            return await client.request(method, path, json=body)


@asynccontextmanager
async def pipeops_plane(url: str, folder: Path, stand_ins: MakesStandIns | None = None) -> AsyncIterator[Plane]:
    """A served control plane with a token of one agent, whose cluster is called shop."""
    async with served(url, folder) as running:
        running.control.protocols.stand_ins = stand_ins
        yield await Plane(running, "", "").make_token(cluster="shop")


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds that the next turns of the loop bring about."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    """Look until there is something."""
    async with asyncio.timeout(WAIT):
        while not (found := await look()):
            await asyncio.sleep(0.01)
    return found


async def registered(played: PlayedAgent, **changes: Any) -> dict[str, Any]:
    """Register; returns the answer's payload."""
    await played.say("register", {**REGISTER, **changes}, request_id="req_1")
    answer = await played.next("register_success")
    assert answer["request_id"] == "req_1"
    payload: dict[str, Any] = answer["payload"]
    return payload


async def multiplexed(plane: Plane, played: PlayedAgent) -> None:
    """Register and agree to yamux, until streams can be opened."""
    await registered(played)
    await with_yamux(played)
    await until(lambda: plane.session.connection.mux)


async def with_yamux(played: PlayedAgent) -> None:
    """Agree to yamux."""
    await played.next("gateway_hello")
    await played.speak_yamux()

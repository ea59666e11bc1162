"""The agent's own surface for tests: listening on loopback, with the parts that a test gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from towline.agent.docker.engine import Engine
from towline.agent.errors import KubernetesAbsent
from towline.agent.host.capabilities import Capabilities
from towline.agent.host.inventory import Inventory
from towline.agent.identity import Store
from towline.agent.journal import Journal
from towline.agent.kubernetes import probe
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import Credentials
from towline.agent.kubernetes.inventory import KubernetesInventory
from towline.agent.kubernetes.material import Material
from towline.agent.policy import LocalPolicy
from towline.agent.projects.records import Records
from towline.agent.settings import AgentSettings
from towline.agent.surface import catalogue, parts, tokens
from towline.agent.surface.addresses import Address
from towline.agent.surface.endpoints import Endpoint
from towline.agent.surface.linkstate import LinkState, Standing
from towline.agent.surface.server import Surface
from towline.agent.uplink.reports import Counts
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.tunnel.dial import Route
from towline.tunnel.reconnect import LinkStatus

NOWHERE = "unix:///nowhere/docker.sock"


def no_cluster() -> Material:
    raise KubernetesAbsent("no kubeconfig in this test")


def make_parts(
    folder: Path,
    *,
    docker_host: str = NOWHERE,
    cluster: Any = no_cluster,
    policy: LocalPolicy | None = None,
    clock: Clock = REAL_CLOCK,
    **settings: Any,
) -> parts.Parts:
    """Everything that an agent has, without a link. `cluster` reads the material of an API server."""
    folder.mkdir(parents=True, exist_ok=True)
    own = msgspec.structs.replace(AgentSettings(state_folder=folder, standalone=True), **settings)
    engine, allowed = Engine(docker_host), policy or LocalPolicy()
    credentials = Credentials(cluster, clock=clock)
    records = Records(folder / "revisions", own.projects)

    async def no_compose() -> None:
        return None

    return parts.Parts(
        settings=own,
        policy=lambda: allowed,
        owner=TaskOwner("parts"),
        capabilities=Capabilities(
            engine, no_compose, lambda: allowed, find_kubernetes=lambda: probe.find_version(credentials), clock=clock
        ),
        link=LinkState(Standing.STANDALONE, clock=clock),
        counts=Counts(lambda: 0, lambda: 0, lambda: 0.0, LinkStatus),
        started_at=clock.now(),
        store=Store(folder),
        route=Route,
        kubernetes=parts.Kubernetes(
            credentials, Api(credentials), KubernetesInventory(credentials, lambda: allowed, clock=clock)
        ),
        docker=parts.Docker(
            engine, Inventory(engine, records, told=lambda _: None, docker_changed=lambda: None), records
        ),
        journal=Journal(folder / "journal.sqlite"),
        clock=clock,
    )


@dataclass
class Served:
    """A surface that listens, and a client that shows the token that reads unless told otherwise."""

    surface: Surface
    parts: parts.Parts
    client: aiohttp.ClientSession
    url: str
    read: str
    operate: str

    @property
    def reader(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.read}"}

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.operate}"}

    async def get(self, path: str, **more: Any) -> tuple[int, Any]:
        """Ask as the one who reads. Returns status and JSON."""
        more.setdefault("headers", self.reader)
        async with self.client.get(self.url + path, **more) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def served(
    made: parts.Parts,
    *,
    endpoints: Sequence[Endpoint] = catalogue.ENDPOINTS,
    listen: str = "127.0.0.1",
) -> AsyncIterator[Served]:
    """Listen on a free port."""
    surface = Surface(made, endpoints=endpoints)
    await surface.start(Address(listen, 0))
    assert surface.address is not None
    shown = {right: tokens.shown(made.settings, operate=right) for right in (False, True)}
    try:
        async with aiohttp.ClientSession() as client:
            yield Served(surface, made, client, f"http://127.0.0.1:{surface.address.port}", shown[False], shown[True])
    finally:
        await surface.stop()

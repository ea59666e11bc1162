"""A standalone agent beside the real cluster: every path of its own works, and a cluster that goes away is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.conftest import need
from tests.support.kube_agent import Admin, write_kubeconfig
from tests.support.scripted_agent import until
from tests.support.standalone import standalone
from tests.testbed.kubernetes.cluster import Cluster

from towline.agent.agent import Agent
from towline.agent.identity import Store
from towline.agent.settings import AgentSettings
from towline.agent.surface import (
    commands,
    connectivity,
    dashboard,
    dependencies,
    features,
    figures,
    health,
    jobs,
    probes,
    runtime,
    signing_in,
)
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.agents.join_tokens import Wanted
from towline.control.server import serving
from towline.control.settings import Settings

pytestmark = pytest.mark.kubernetes

OWN = [
    endpoint
    for module in (dashboard, health, features, runtime, connectivity, figures, signing_in, jobs, commands)
    for endpoint in module.ENDPOINTS
]
NO_DOCKER = "unix:///nowhere/docker.sock"
WAIT = 60.0


@pytest.fixture(scope="module")
def kubernetes(request: pytest.FixtureRequest) -> Cluster:
    cluster: Cluster = need(request.config, "kubernetes")
    return cluster


def administrator_token(cluster: Cluster) -> str:
    return Admin(cluster)._token


async def test_every_path_answers_beside_the_real_cluster(kubernetes: Cluster, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "kubeconfig", kubernetes, administrator_token(kubernetes))
    async with standalone(tmp_path / "agent", kubeconfig=str(config), docker_host=NO_DOCKER) as agent:
        token = await asyncio.to_thread(agent.token)
        await agent.until("/ready", token, lambda status, _: status == 200)

        for endpoint in OWN:
            status, kind, body = await agent.curl(endpoint.curl, token)
            assert status in (200, 201), (endpoint.path, body)
            assert kind.startswith(endpoint.answer)
            if endpoint.answer == "application/json":
                assert set(endpoint.fields) <= json.loads(body).keys()

        found = {each["name"]: each for each in (await agent.get("/ready", token))[1]["checks"]}
        assert {name: each["state"] for name, each in found.items()} == {
            "control_plane": "absent", "kubernetes": "up", "docker": "absent", "disk": "up",
        }  # fmt: skip
        _, tried = await agent.get("/api/status/connectivity", token)
        cluster = tried["connectivity"]["kubernetes"]
        assert (cluster["reachable"], cluster["latency_ms"]["tries"]) == (True, probes.TRIES)
        assert cluster["tls"]["days_left"] > 0
        assert cluster["tls"]["version"].startswith("TLS")
        _, told = await agent.get("/api/status/features", token)
        assert told["features"]["kubernetes"]
        text = (await agent.curl('-H "Authorization: Bearer $TOKEN" $URL/metrics', token))[2]
        assert 'towline_agent_dependency_up{dependency="kubernetes"} 1.0' in text
        assert re.search(r'towline_agent_watches\{kind="pods",state="\w+"\} 1\.0', text)


async def test_agent_that_stands_alone_joins_later_without_a_restart(kubernetes: Cluster, tmp_path: Path) -> None:
    config = write_kubeconfig(tmp_path / "kubeconfig", kubernetes, administrator_token(kubernetes))
    own = {"kubeconfig": str(config), "docker_host": NO_DOCKER}
    async with (
        serving(Settings(data_folder=tmp_path / "server", listen="127.0.0.1:0")) as server,
        standalone(tmp_path / "agent", **own) as agent,
    ):
        token = await asyncio.to_thread(agent.token)
        await agent.until("/ready", token, lambda status, found: (status, found["mode"]) == (200, "standalone"))
        assert (await agent.get("/api/k8s/pods", token))[0] == 200
        fleet, access = server.control.fleet, system_access("test")
        made = await fleet.join_tokens.create(access, Wanted(cluster_name="edge"))

        said = await agent.towline(
            "join", "--server", f"https://127.0.0.1:{server.port}", "--fingerprint", server.control.fingerprint,
            "--token-file", "-", stdin=made.token, **own,
        )  # fmt: skip

        found = await agent.until("/health", token, lambda _, found: found["connected"])
        assert (found["registered"], found["connection_state"]) == (True, "connected"), said
        detail = await agent.until(
            "/api/health/detailed", token, lambda _, found: found["connection_health"]["last_heartbeat"] is not None
        )
        assert detail["connectivity"] == {"control_plane": "up", "kubernetes": "up", "docker": "absent", "disk": "up"}
        assert (await agent.get("/ready", token))[1]["mode"] == "managed"
        assert fleet.links.is_connected(Store(agent.folder).current.cluster_id)
        for endpoint in OWN:
            assert (await agent.curl(endpoint.curl, token))[0] in (200, 201), endpoint.path
        assert agent.runs, "the process that stood alone is the one that joined"


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Pass connections on to a port of loopback until the event is set. Gives its own port and the event."""
    down, owner = asyncio.Event(), TaskOwner("relay")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = {owner.spawn("there", pump(reader, other_writer)), owner.spawn("back", pump(other_reader, writer))}
        ways.add(owner.spawn("down", _wait(down)))
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, other_writer):
            one.transport.abort()
        for way in ways:
            way.cancel()

    server = await asyncio.start_server(
        lambda reader, writer: owner.spawn("connection", serve(reader, writer)), "127.0.0.1", 0
    )
    closing = owner.spawn("closing", _close_when(down, server))
    try:
        yield server.sockets[0].getsockname()[1], down
    finally:
        down.set()
        await closing
        await owner.close()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _close_when(down: asyncio.Event, server: asyncio.Server) -> None:
    await down.wait()
    server.close()


async def test_cluster_that_goes_away_is_told(kubernetes: Cluster, tmp_path: Path) -> None:
    async with relay(kubernetes.api_port) as (port, down), TaskOwner("test") as owner:
        config = write_kubeconfig(tmp_path / "kubeconfig", kubernetes, administrator_token(kubernetes), port=port)
        agent = Agent(
            AgentSettings(
                state_folder=tmp_path / "agent",
                standalone=True,
                listen="127.0.0.1:0",
                kubeconfig=config,
                docker_host=NO_DOCKER,
            )
        )

        def state() -> dependencies.Dependency:
            return next(each for each in dependencies.all_of(agent.parts) if each.name == "kubernetes")

        owner.spawn("agent", agent.run())
        await until(lambda: state().state is dependencies.State.UP, WAIT)
        up_since = state().since

        down.set()
        agent.reports.look_soon()  # which it does by itself every 20 seconds

        await until(lambda: state().state is dependencies.State.DOWN, WAIT)
        found = state()
        assert not found.is_ready
        assert "cannot be reached" in found.reason
        assert found.last_error == found.reason
        assert found.since > up_since
        assert agent.surface is not None
        assert not (await probes_of(agent))["kubernetes"]["reachable"]


async def probes_of(agent: Agent) -> dict[str, dict[str, object]]:
    result: dict[str, dict[str, object]] = (await connectivity.Trials(agent.parts).result())["connectivity"]
    return result

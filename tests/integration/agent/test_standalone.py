"""An agent without a control plane: the surface works at once, and a later join needs no restart."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.support.agent_host import PATIENCE, make_identity

from towline.agent import arriving, status
from towline.agent.agent import Agent
from towline.agent.arriving import Reread
from towline.agent.errors import StorageError
from towline.agent.identity import Store
from towline.agent.join import Server, join
from towline.agent.settings import AgentSettings, load
from towline.agent.surface import tokens
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.agents.join_tokens import Wanted
from towline.control.server import Running, serving
from towline.control.settings import Settings


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(Settings(data_folder=tmp_path / "server", listen="127.0.0.1:0")) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> AgentSettings:
    return AgentSettings(state_folder=tmp_path / "agent", standalone=True, listen="127.0.0.1:0")


@contextlib.asynccontextmanager
async def running(settings: AgentSettings, reread: Reread | None = None) -> AsyncIterator[Agent]:
    agent = Agent(settings, reread=reread)
    async with TaskOwner("test") as owner:
        owner.spawn("agent", agent.run())
        yield agent


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.01)


async def ask(agent: Agent, path: str) -> tuple[int, Any]:
    """Ask the surface as the one who reads."""
    await until(lambda: agent.surface is not None and agent.capabilities.looked_at > 0)
    assert agent.surface is not None
    headers = {"Authorization": f"Bearer {tokens.shown(agent.settings, operate=False)}"}
    url = f"http://{agent.surface.address}{path}"
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


async def join_line(server: Running) -> tuple[Server, str]:
    wanted = Wanted(cluster_name=f"edge-{secrets.token_hex(4)}")
    made = await server.control.fleet.join_tokens.create(system_access("test"), wanted)
    return Server(f"https://127.0.0.1:{server.port}", (server.control.fingerprint,)), made.token


async def test_surface_works_without_a_control_plane(settings: AgentSettings) -> None:
    async with running(settings) as agent:
        code, found = await ask(agent, "/ready")
        checks = {each["name"]: each for each in found["checks"]}
        assert found["mode"] == "standalone"
        assert (checks["control_plane"]["ok"], checks["control_plane"]["required"]) == (True, False)
        assert code == (200 if all(each["ok"] for each in checks.values()) else 503)

        code, detail = await ask(agent, "/api/health/detailed")
        assert code == 200
        assert detail["tunnel"]["state"] == "standalone"
        assert detail["agent"]["agent_id"] == ""

        code, tried = await ask(agent, "/api/status/connectivity")
        assert code == 200
        assert tried["connectivity"]["control_plane"]["status"] == "not configured"
        left = status.read(settings.state_folder)
        assert left is not None
        assert left.standalone


async def test_later_join_needs_no_restart(server: Running, settings: AgentSettings) -> None:
    async with running(settings) as agent:
        assert (await ask(agent, "/health"))[1]["connection_state"] == "standalone"
        states = []
        agent.link.listen(lambda view: states.append(view.standing.value))

        made = await join(settings, *await join_line(server))

        await until(lambda: server.control.fleet.links.is_connected(made.identity.cluster_id))
        await until(lambda: agent.link.view.standing.value == "connected")
        assert states[-1] == "connected"
        code, found = await ask(agent, "/health")
        assert (code, found["connected"], found["registered"]) == (200, True, True)

        code, detail = await ask(agent, "/api/health/detailed")
        assert detail["agent"]["agent_id"] == made.identity.agent_id
        assert detail["connection_health"]["last_heartbeat"] is not None

        code, tried = await ask(agent, "/api/status/connectivity")
        plane = tried["connectivity"]["control_plane"]
        assert plane["reachable"]
        assert plane["latency_ms"]["tries"] == 5
        assert plane["latency_ms"]["min"] <= plane["latency_ms"]["median"] <= plane["latency_ms"]["max"]
        assert plane["tls"]["days_left"] > 0
        assert plane["dns"]["addresses"] == ["127.0.0.1"]
        assert {each["name"] for each in tried["checks"]} >= {"identity", "tcp", "tls", "upgrade", "protocol"}


async def test_removed_agent_goes_on_alone_and_may_join_again(server: Running, settings: AgentSettings) -> None:
    made = await join(settings, *await join_line(server))
    links = server.control.fleet.links
    async with running(settings) as agent:
        await until(lambda: links.is_connected(made.identity.cluster_id))

        await server.control.fleet.agents.revoke(
            system_access("test"), made.identity.cluster_id, made.identity.agent_id
        )

        await until(lambda: agent.link.view.standing.value == "standalone")
        assert (await ask(agent, "/api/health/detailed"))[1]["tunnel"]["last_error"]
        again = await join(settings, *await join_line(server), replace=True)
        await until(lambda: links.is_connected(again.identity.cluster_id))


async def test_server_that_is_set_later_in_the_settings_file_is_joined_without_a_restart(
    server: Running, settings: AgentSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "SETTINGS_INTERVAL", 0.1)  # not five seconds of a test
    file, token_file = tmp_path / "agent.toml", tmp_path / "join.token"
    file.write_text("")
    overrides = {"state_folder": settings.state_folder, "standalone": True, "listen": settings.listen}
    async with running(settings, lambda: load(file, {}, **overrides)) as agent:
        assert (await ask(agent, "/health"))[1]["connection_state"] == "standalone"
        wanted, token = await join_line(server)
        token_file.write_text(token)
        file.write_text(
            f'server = "{wanted.url}"\nfingerprints = "{wanted.fingerprints[0]}"\njoin_token_file = "{token_file}"\n'
        )

        await until(lambda: agent.link.view.standing.value == "connected")
        await until(lambda: server.control.fleet.links.is_connected(agent.store.current.cluster_id))


async def test_refused_registration_is_told_apart_by_its_reason(
    server: Running, settings: AgentSettings, tmp_path: Path
) -> None:
    wanted, token = await join_line(server)
    await join(msgspec.structs.replace(settings, state_folder=tmp_path / "first"), wanted, token)
    (tmp_path / "join.token").write_text(token)
    late = msgspec.structs.replace(
        settings, server=wanted.url, fingerprints=wanted.fingerprints[0], join_token_file=tmp_path / "join.token"
    )
    async with running(late) as agent:
        await until(lambda: agent.link.view.code != "")

        view = agent.link.view
        assert (view.standing.value, view.code, view.last_error) == (
            "joining",
            "used",
            "the join token was used already",
        )
        assert view.hint == "make a new join token"
        code, detail = await ask(agent, "/api/health/detailed")
        assert (code, detail["tunnel"]["last_error_code"]) == (200, "used")


async def test_control_plane_that_is_away_is_told(settings: AgentSettings) -> None:
    managed = msgspec.structs.replace(settings, standalone=False)
    Store(managed.state_folder).save(make_identity())  # joined at a server where nothing listens
    async with running(managed) as agent:
        await until(lambda: bool(agent.keeper.status.last_error))

        code, found = await ask(agent, "/ready")

        plane = next(each for each in found["checks"] if each["name"] == "control_plane")
        assert (code, found["status"], plane["ok"], plane["required"]) == (503, "not ready", False, True)
        assert "127.0.0.1" in plane["reason"]
        tunnel = (await ask(agent, "/api/health/detailed"))[1]["tunnel"]
        assert (tunnel["last_error_code"], tunnel["alert"]) == ("tcp", False)
        assert tunnel["attempts"] >= 1
        assert tunnel["silent_since"] is not None
        assert "firewall" in tunnel["hint"]
        assert (await ask(agent, "/health"))[0] == 200
        tried = (await ask(agent, "/api/status/connectivity"))[1]
        assert not tried["connectivity"]["control_plane"]["reachable"]
        assert not tried["well"]


async def test_standalone_agent_ends_when_its_port_is_taken(settings: AgentSettings, tmp_path: Path) -> None:
    async with running(settings) as agent:
        await until(lambda: agent.surface is not None)
        assert agent.surface is not None
        other = msgspec.structs.replace(settings, state_folder=tmp_path / "other", listen=str(agent.surface.address))

        with pytest.raises(StorageError, match="cannot listen on"):
            await Agent(other).run()


async def test_joined_agent_keeps_its_link_when_its_port_is_taken(
    server: Running, settings: AgentSettings, tmp_path: Path
) -> None:
    async with running(settings) as first:
        await until(lambda: first.surface is not None)
        assert first.surface is not None
        other = AgentSettings(state_folder=tmp_path / "other", listen=str(first.surface.address))
        made = await join(other, *await join_line(server))

        async with running(other) as second:
            await until(lambda: server.control.fleet.links.is_connected(made.identity.cluster_id))
            assert second.surface is None


async def test_agent_that_is_not_told_to_listen_does_not(server: Running, tmp_path: Path) -> None:
    settings = AgentSettings(state_folder=tmp_path / "agent")
    made = await join(settings, *await join_line(server))
    async with running(settings) as agent:
        await until(lambda: server.control.fleet.links.is_connected(made.identity.cluster_id))

        assert agent.surface is None
        assert not list(settings.state_folder.glob("*.token"))

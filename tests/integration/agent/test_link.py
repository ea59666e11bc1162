"""An agent against a real control plane over TLS: joining, the link, jobs, keys, and the words that end it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.agent_host import PATIENCE

from towline.agent import doctor, status
from towline.agent.agent import Agent
from towline.agent.errors import JoinError
from towline.agent.identity import Store
from towline.agent.join import Joined, Server, join, read_token
from towline.agent.settings import AgentSettings
from towline.aio.tasks import TaskOwner
from towline.control.access.actor import system_access
from towline.control.agents.join_tokens import Wanted
from towline.control.server import Running, serving
from towline.control.settings import Settings
from towline.wire import link, tokens


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(Settings(data_folder=tmp_path / "server", listen="127.0.0.1:0")) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> AgentSettings:
    return AgentSettings(state_folder=tmp_path / "agent")


async def new_token(server: Running, **wanted: Any) -> str:
    wanted.setdefault("cluster_name", f"edge-{secrets.token_hex(4)}")
    made = await server.control.fleet.join_tokens.create(system_access("test"), Wanted(**wanted))
    return made.token


def address(server: Running) -> Server:
    return Server(f"https://127.0.0.1:{server.port}", (server.control.fingerprint,))


async def joined(server: Running, settings: AgentSettings) -> Joined:
    return await join(settings, address(server), await new_token(server))


@contextlib.asynccontextmanager
async def running_agent(settings: AgentSettings) -> AsyncIterator[Agent]:
    agent = Agent(settings)
    async with TaskOwner("test") as owner:
        owner.spawn("agent", agent.run())
        yield agent


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.01)


async def test_agent_joins_connects_and_is_known(server: Running, settings: AgentSettings) -> None:
    made = await joined(server, settings)
    links = server.control.fleet.links

    async with running_agent(settings) as agent:
        await until(lambda: links.is_connected(made.identity.cluster_id))
        await until(lambda: agent.keeper.session is not None)
        assert agent.store.current.generation == 2
        await until(lambda: (left := status.read(settings.state_folder)) is not None and left.connected)
        found = {each.name: each for each in await doctor.examine(settings)}
        assert found["protocol"].ok
        assert doctor.is_well(list(found.values()))

    left = status.read(settings.state_folder)
    assert left is not None
    assert not left.connected


async def test_key_is_rotated_and_the_old_one_forgotten(server: Running, settings: AgentSettings) -> None:
    made = await joined(server, settings)
    links = server.control.fleet.links

    async with running_agent(settings) as agent:
        await until(lambda: links.is_connected(made.identity.cluster_id))
        old = agent.store.current.key
        first = agent.keeper.session

        await server.control.fleet.agents.rotate_key(
            system_access("test"), made.identity.cluster_id, made.identity.agent_id
        )

        await until(lambda: agent.keeper.session not in (None, first))
        assert agent.store.current.key != old
        assert agent.store.current.last_key is None
        assert Store(settings.state_folder).current.key == agent.store.current.key


async def test_revoked_agent_ends_for_good(server: Running, settings: AgentSettings) -> None:
    made = await joined(server, settings)
    agent = Agent(settings)
    async with TaskOwner("test") as owner:
        task = owner.spawn("agent", agent.run())
        await until(lambda: server.control.fleet.links.is_connected(made.identity.cluster_id))

        await server.control.fleet.agents.revoke(
            system_access("test"), made.identity.cluster_id, made.identity.agent_id
        )

        async with asyncio.timeout(PATIENCE):
            ending = await task
    assert ending.final


async def test_lost_answer_does_not_burn_the_token(
    server: Running, settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(server, cluster_name="edge")
    lost = httpx.ReadError("the line was cut")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "save", lambda self, identity: (_ for _ in ()).throw(lost))
        with pytest.raises(httpx.ReadError):
            await join(settings, address(server), token)
    made = await join(settings, address(server), token)

    assert made.identity.cluster_name == "edge"
    with pytest.raises(JoinError, match="this host has joined as 'edge'"):
        await join(settings, address(server), token)


async def test_each_refusal_says_what_to_do(server: Running, settings: AgentSettings, tmp_path: Path) -> None:
    good, here = await new_token(server), address(server)
    await join(AgentSettings(state_folder=tmp_path / "other"), here, good)

    with pytest.raises(JoinError) as used:
        await join(settings, here, good)
    with pytest.raises(JoinError) as pinned:
        await join(settings, Server(here.url, ("sha256:" + "0" * 64,)), await new_token(server))
    with pytest.raises(JoinError) as unpinned:
        await join(settings, Server(here.url), await new_token(server))
    with pytest.raises(JoinError) as closed:
        await join(settings, Server("https://127.0.0.1:9", here.fingerprints), await new_token(server))

    assert "used" in str(used.value)
    assert "no certificate with the pinned fingerprint" in str(pinned.value)
    assert pinned.value.hint
    assert "certificate" in str(unpinned.value).lower()
    assert "--fingerprint" in unpinned.value.hint
    assert "127.0.0.1 port 9" in str(closed.value)


async def test_server_that_is_no_towline_is_told(settings: AgentSettings, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
        with pytest.raises(JoinError, match="answer cannot be read"):
            await join(settings, Server(url), "twj_" + "a" * 42)


def test_token_comes_from_file_environment_or_input(tmp_path: Path) -> None:
    token = tokens.mint(tokens.JOIN)
    (tmp_path / "token").write_text(f"{token}\n")

    assert read_token(tmp_path / "token", {}, None) == token
    assert read_token(None, {"TOWLINE_AGENT_TOKEN": token}, None) == token
    assert read_token(None, {"TOWLINE_AGENT_TOKEN_FILE": str(tmp_path / "token")}, None) == token
    assert read_token(None, {}, io.StringIO(f"{token}\n")) == token
    with pytest.raises(JoinError, match="mistyped"):
        read_token(None, {}, io.StringIO(token[:-1] + "x\n"))
    with pytest.raises(JoinError, match="no join token"):
        read_token(None, {}, io.StringIO(""))


async def test_doctor_names_the_hop_that_fails(settings: AgentSettings, server: Running, tmp_path: Path) -> None:
    await joined(server, settings)

    def failed(checks: list[doctor.Check]) -> doctor.Check:
        return next(each for each in checks if each.server and not each.ok)

    dns = failed(await doctor.examine(settings, servers=("https://nothing.invalid",)))
    tcp = failed(await doctor.examine(settings, servers=("https://127.0.0.1:9",)))

    assert (dns.name, tcp.name) == ("dns", "tcp")
    assert "nothing.invalid cannot be resolved" in dns.text
    assert "127.0.0.1 port 9" in tcp.text
    Store(settings.state_folder).change(trust=link.Trust(fingerprints=("sha256:" + "1" * 64,)))
    tls = failed(await doctor.examine(settings))
    assert tls.name == "tls"
    assert len(tls.chain) >= 1

"""Ten thousand routes of a hundred agents after a restart: over real links, with agents in this same process."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.integration.control.test_routes import verify
from tests.integration.control.test_routes_claims import claim, listed, told
from tests.support.control_app import ControlApp, running_control
from tests.support.scripted_agent import Identity, ScriptedAgent, enrolled, link_listener

from towline.control.access.permissions import Role
from towline.control.routes.models import PublishedRoute
from towline.wire import link

AGENTS = 100
EACH = 100
GOAL_SECONDS = 10.0
"""The issue's: from the start of the process, agents that come back included."""
AT_THE_DOOR = 10
"""Agents that sign in at once: all come from one address here, of which the server lets only some wait."""
PATIENCE = 90.0


def claims(agent: int, first: int = 0) -> tuple[link.RouteClaim, ...]:
    return tuple(claim(f"a{agent}-s{number}") for number in range(first, first + EACH))


def hosts(first: int = 0) -> set[str]:
    return {f"a{agent}-s{number}.example.net" for agent in range(AGENTS) for number in range(first, first + EACH)}


async def served(app: ControlApp, wanted: set[str]) -> None:
    """Wait until the edge answers for these names, and no more of them are on their way."""
    async with asyncio.timeout(PATIENCE):
        while not wanted <= app.control.gateway.registry.table.hosts():
            await asyncio.sleep(0.02)


@pytest.fixture
def identities() -> Iterator[list[Identity]]:
    yield []


@pytest.mark.timeout(300)
async def test_ten_thousand_routes_of_a_hundred_agents_converge_after_a_restart(
    database_url: str, tmp_path: Path, identities: list[Identity]
) -> None:
    async with running_control(database_url, tmp_path) as app, link_listener(app.control) as url:
        await verify(app, "example.net")
        async with AsyncExitStack() as stack:
            for number in range(AGENTS):
                agent = await stack.enter_async_context(
                    await enrolled(app, cluster_name=f"edge-{number}", hostname=f"h{number}")
                )
                identities.append(agent.identity)
                await agent.connect(url)
                await agent.send(listed())
                await agent.send(told(*claims(number)))
            await served(app, hosts())
    began, worked = time.perf_counter(), time.process_time()
    async with running_control(database_url, tmp_path) as app, link_listener(app.control) as url:
        read = time.perf_counter() - began
        assert app.control.gateway.registry.table.hosts() == hosts()
        async with AsyncExitStack() as stack:
            agents = [await stack.enter_async_context(ScriptedAgent(one)) for one in identities]
            # Each comes back with another list than the one that is known: one source went, and one is new.
            door = asyncio.Semaphore(AT_THE_DOOR)
            await asyncio.gather(*(_come_back(agent, url, number, door) for number, agent in enumerate(agents)))
            await served(app, hosts(1))
            took, worked = time.perf_counter() - began, time.process_time() - worked
        states = [row.state for row in await app.rows(PublishedRoute)]
        assert (states.count("active"), states.count("leaving")) == (AGENTS * EACH, AGENTS)
        dora = await app.user("dora", Role.DEPLOYER)
        assert (await dora.get("/api/v1/routes", params={"state": "leaving"})).json()["total"] == AGENTS
    print(f"\n{AGENTS * EACH:,} routes served after {read:.2f} s, changes of {AGENTS} agents after {took:.2f} s")
    # Of the processor: server and agents share this process, and both share the machine with other tests.
    assert worked < GOAL_SECONDS


async def _come_back(agent: ScriptedAgent, url: str, number: int, door: asyncio.Semaphore) -> None:
    async with door:
        await agent.connect(url)
    changed = claims(number, 1)
    await agent.send(listed(*changed[:50], sequence=1, more=True))
    await agent.send(listed(*changed[50:], sequence=2))

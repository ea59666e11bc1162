"""Several instances of one agent, as replicas in a cluster are: each with its own generation, and no room for more."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until

from towline.control.agents.models import Agent, AgentInstance
from towline.control.audit.models import AuditEvent
from towline.tunnel.errors import RefusedThere
from towline.wire import link, streams


@pytest.fixture
async def url(control_app: ControlApp) -> AsyncIterator[str]:
    async with link_listener(control_app.control) as address:
        yield address


@pytest.fixture
async def first(control_app: ControlApp) -> AsyncIterator[ScriptedAgent]:
    """An agent that may run two instances."""
    async with await enrolled(control_app, cluster_name="prod") as agent:
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(Agent).values(max_instances=2))
        agent.identity.generation = 0
        yield agent


def sibling(agent: ScriptedAgent) -> ScriptedAgent:
    """Another pod with the same key and a state folder of its own."""
    identity = agent.identity.copy()
    identity.generation = 0
    return ScriptedAgent(identity)


def restarted(agent: ScriptedAgent) -> ScriptedAgent:
    """The same state folder in a new process."""
    again = ScriptedAgent(agent.identity)
    again.instance_id = f"{link.installation(agent.instance_id)}-{secrets.token_hex(4)}"
    return again


async def _instances(app: ControlApp) -> list[AgentInstance]:
    await app.control.fleet.reports.flush()
    return sorted(await app.rows(AgentInstance), key=lambda row: row.first_seen_at)


async def _refused(agent: ScriptedAgent, url: str) -> RefusedThere:
    with pytest.raises(RefusedThere) as caught:
        await agent.connect(url)
    return caught.value


async def test_two_instances_are_connected_at_once_each_with_its_generation(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    async with sibling(first) as second:
        assert (await first.connect(url)).generation == 1
        assert (await second.connect(url)).generation == 1
        second.cut()
        await second.ended()
        assert (await second.connect(url)).generation == 2
        await until(lambda: len(control_app.control.fleet.links) == 2)
        assert first.session is not None and first.session.closed is None
        assert [(row.generation, row.acked_generation) for row in await _instances(control_app)] == [(1, 1), (2, 2)]
        assert (await control_app.rows(Agent))[0].state == "active"


async def test_a_third_instance_finds_no_room_and_disturbs_nobody(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    async with sibling(first) as second, sibling(first) as third:
        await first.connect(url)
        await second.connect(url)
        refusal = await _refused(third, url)
        assert (refusal.code, refusal.final) == ("crowded", False)
        row = (await control_app.rows(Agent))[0]
        assert (row.state, row.rivals[-1]["instance_id"]) == ("active", third.instance_id)
        second.cut()
        await second.ended()
        await until(lambda: len(control_app.control.fleet.links) == 1)
        assert (await third.connect(url)).generation == 1


async def test_a_copy_of_one_instance_puts_that_instance_aside_alone(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    async with sibling(first) as second, sibling(first) as copy:
        await first.connect(url)
        for _ in range(3):
            await second.connect(url)
            second.cut()
            await second.ended()
        await second.connect(url)
        copy.instance_id = second.instance_id  # its state folder as it was at its first start
        refusal = await _refused(copy, url)
        assert refusal.code == "suspect"
        assert "Delete its pod" in refusal.message
        assert (await second.ended()).code == link.CLOSE_UNAUTHENTICATED
        assert first.session is not None and first.session.closed is None
        assert (await _refused(second, url)).code == "suspect"
        events = [event for event in await control_app.rows(AuditEvent) if event.action == "agent.quarantine"]
        assert [event.detail["instance"] for event in events] == [link.installation(second.instance_id)]
        async with sibling(first) as successor:
            assert (await successor.connect(url)).generation == 1


async def test_two_processes_that_fight_for_one_instance_are_found_out(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    first.instance_id = f"ins_a-{secrets.token_hex(4)}"
    async with restarted(first) as twin:
        with pytest.raises(RefusedThere) as caught:
            for turn in range(10):
                await (first, twin)[turn % 2].connect(url)
        assert "take the link from each other" in caught.value.message


async def test_a_restarted_instance_takes_its_own_place(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    first.instance_id = f"ins_a-{secrets.token_hex(4)}"
    async with sibling(first) as second, restarted(first) as again:
        await second.connect(url)
        await first.connect(url)
        first.cut()
        await first.ended()
        assert (await again.connect(url)).generation == 2
        assert len(await _instances(control_app)) == 2


async def test_a_revoked_agent_loses_every_instance(control_app: ControlApp, url: str, first: ScriptedAgent) -> None:
    async with sibling(first) as second:
        await first.connect(url)
        await second.connect(url)
        path = f"/api/v1/clusters/prod/agents/{first.identity.agent_id}/revoke"
        assert (await control_app.joiner.post(path)).status_code == 200
        assert {(await each.ended()).code for each in (first, second)} == {link.CLOSE_FINAL}
        assert (await _refused(sibling(first), url)).final


async def test_the_next_instance_speaks_for_the_cluster_when_the_first_goes(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    links = control_app.control.fleet.links
    async with sibling(first) as second:
        await first.connect(url)
        await second.connect(url)
        await second.send(link.Facts(hostname="second"))
        await second.synced()
        await first.synced()
        assert (await _facts(control_app))["hostname"] == "web-1"
        assert not second.received(link.Lead)
        first.cut()
        await second.next(link.Lead)
        await second.send(link.Facts(hostname="second"))
        await second.synced()
        shown = await _facts(control_app)
        assert shown["hostname"] == "second"
        leader = links.of_cluster(first.identity.cluster_id)
        assert leader is not None and leader.admitted.instance_id == second.instance_id
        assert (await control_app.joiner.get("/api/v1/clusters/prod")).json()["link"]["connected"] is True


async def test_new_streams_go_to_the_least_busy_instance_and_losing_one_costs_its_own(
    control_app: ControlApp, url: str, first: ScriptedAgent
) -> None:
    links, cluster = control_app.control.fleet.links, first.identity.cluster_id
    held: list[Any] = []
    async with sibling(first) as second:
        for each in (first, second):
            each.on_stream = lambda incoming: held.append(incoming.accept_stream())
            await each.connect(url)
        opened: list[Any] = []
        for _ in range(4):
            chosen = links.for_stream(cluster)
            assert chosen is not None
            opened.append((chosen, await chosen.session.open_stream(streams.Tcp(host="x", port=1))))
        counts = {one.slot: one.session.stream_count for one in links}
        assert sorted(counts.values()) == [2, 2]
        first.cut()
        await until(lambda: len(links) == 1)
        survivors = [stream for chosen, stream in opened if chosen.admitted.instance_id == second.instance_id]
        assert len(survivors) == 2
        assert not any(stream.transport.is_closing() for stream in survivors)
        chosen = links.for_stream(cluster)
        assert chosen is not None and chosen.admitted.instance_id == second.instance_id
        for _, stream in opened:
            stream.abort("the test ends")


async def _facts(app: ControlApp) -> dict[str, Any]:
    await app.control.fleet.reports.flush()
    facts: dict[str, Any] = (await app.joiner.get("/api/v1/clusters/prod")).json()["facts"]
    return facts

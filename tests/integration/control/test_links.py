"""Links of agents: the proof at each connect, clones, revocation, and what agents report. Over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.support.control_app import ORIGIN, ControlApp
from tests.support.scripted_agent import (
    ScriptedAgent,
    enrolled,
    join_token,
    link_listener,
    until,
)

from towline.control.access.permissions import Role
from towline.control.agents.admission import Attempt
from towline.control.agents.connect import Admitted
from towline.control.agents.models import Agent, AgentKey
from towline.control.agents.refusals import Refused
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster
from towline.control.db import now
from towline.tunnel.errors import RefusedThere
from towline.wire import link


@pytest.fixture
async def url(control_app: ControlApp) -> AsyncIterator[str]:
    async with link_listener(control_app.control) as address:
        yield address


async def _agent(app: ControlApp, agent_id: str) -> Agent:
    return next(row for row in await app.rows(Agent) if row.id == agent_id)


async def _shown(app: ControlApp, agent: ScriptedAgent) -> dict[str, object]:
    await app.control.fleet.reports.flush()
    answer = await app.joiner.get(f"/api/v1/clusters/{agent.identity.cluster_id}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, object] = answer.json()
    return shown


async def _refused(agent: ScriptedAgent, url: str) -> RefusedThere:
    with pytest.raises(RefusedThere) as caught:
        await agent.connect(url)
    return caught.value


async def test_an_agent_connects_and_its_cluster_is_healthy(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app, cluster_name="edge-1") as agent:
        welcome = await agent.connect(url)
        assert (welcome.cluster_name, welcome.generation, welcome.epoch) == ("edge-1", 2, 1)
        await agent.synced()
        shown = await _shown(control_app, agent)
        assert shown["health"]["state"] == "healthy"
        assert shown["link"]["connected"] is True
        assert shown["agents"][0]["connected"] is True
        assert shown["facts"]["hostname"] == "web-1"
        assert shown["capabilities"][0]["name"] == "compose"


async def test_the_generation_moves_on_and_is_confirmed(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        for expected in (2, 3, 4):
            assert (await agent.connect(url)).generation == expected
            agent.cut()
            await agent.ended()
        await until(lambda: not len(control_app.control.fleet.links))
        await control_app.control.fleet.reports.flush()
        row = await _agent(control_app, agent.identity.agent_id)
        assert (row.generation, row.acked_generation, row.epoch, row.owner) == (4, 4, 3, "")


async def test_a_power_loss_before_the_generation_was_written_is_no_clone(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        for _ in range(4):
            agent.stores_generation = False
            with pytest.raises(ConnectionAbortedError):
                await agent.connect(url)
        agent.stores_generation = True
        await agent.connect(url)
        assert (await _agent(control_app, agent.identity.agent_id)).state == "active"


async def test_a_restored_state_folder_is_put_in_quarantine_and_readmitted(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        old = ScriptedAgent(agent.identity.copy())
        for _ in range(3):
            await agent.connect(url)
            agent.cut()
            await agent.ended()
        refusal = await _refused(old, url)
        assert refusal.code == "suspect"
        assert not refusal.final
        assert "generation 1, expected is 4" in refusal.message
        shown = await _shown(control_app, agent)
        assert shown["health"]["state"] == "down"
        assert "quarantine" in shown["health"]["reason"]
        assert [one["generation"] for one in shown["agents"][0]["rivals"]] == [4, 1]
        cluster = agent.identity.cluster_id
        path = f"/api/v1/clusters/{cluster}/agents/{agent.identity.agent_id}/readmit"
        assert (await control_app.joiner.post(path)).status_code == 200
        assert (await old.connect(url)).generation == 5
        await until(lambda: control_app.control.fleet.links.is_connected(cluster))  # it has said that it keeps it
        assert (await _refused(agent, url)).code == "suspect"
        await old.stop()


async def test_two_machines_with_one_identity_are_found_out(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent, await enrolled(control_app, hostname="other") as bystander:
        await bystander.connect(url)
        await agent.connect(url)
        async with ScriptedAgent(agent.identity.copy()) as clone:
            await clone.connect(url)  # the newest generation: a copy made a moment ago
            await clone.synced()
            assert (await agent.ended()).reason == "replaced"
            assert (await _refused(agent, url)).code == "suspect"
            closed = await clone.ended()
            assert closed.code == link.CLOSE_UNAUTHENTICATED
            assert (await clone.next(link.Goodbye)).reason == "suspect"
        events = [event for event in await control_app.rows(AuditEvent) if event.action == "agent.quarantine"]
        assert len(events) == 1
        assert bystander.session is not None and bystander.session.closed is None


async def test_two_processes_with_one_state_folder_are_found_out(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as one, ScriptedAgent(one.identity) as two:
        connects = 0
        with pytest.raises(RefusedThere) as caught:
            for turn in range(10):
                await (one, two)[turn % 2].connect(url)
                connects += 1
        assert "take the link from each other" in caught.value.message
        assert connects <= 5
        await until(lambda: not len(control_app.control.fleet.links))


async def test_an_agent_ahead_of_a_restored_database_is_let_in(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        agent.identity.generation = 40
        assert (await agent.connect(url)).generation == 41


@pytest.mark.parametrize("generation", [-1, 0, 1001])
async def test_a_senseless_generation_is_suspect(control_app: ControlApp, url: str, generation: int) -> None:
    async with await enrolled(control_app) as agent:
        agent.identity.generation = generation
        assert (await _refused(agent, url)).code == "suspect"


async def test_a_wrong_signature_is_refused_and_does_no_harm(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent, await enrolled(control_app, hostname="b") as other:
        thief = ScriptedAgent(agent.identity.copy())
        thief.identity.identity_key = other.identity.identity_key
        refusal = await _refused(thief, url)
        assert (refusal.code, refusal.final) == ("bad_signature", False)
        await agent.connect(url)
        assert (await _agent(control_app, agent.identity.agent_id)).state == "active"


async def test_an_unknown_agent_and_an_unknown_key_are_told_apart(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        right, agent.identity.key_id = agent.identity.key_id, "key_unknown"
        assert (await _refused(agent, url)).code == "unknown_key"
        agent.identity.key_id, agent.identity.agent_id = right, "agt_unknown"
        refusal = await _refused(agent, url)
        assert refusal.code == "unknown_agent"
        assert "Join the host again" in refusal.message


async def test_a_revoked_agent_is_cut_at_once_and_told_to_stop(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        path = f"/api/v1/clusters/{agent.identity.cluster_id}/agents/{agent.identity.agent_id}/revoke"
        assert (await control_app.joiner.post(path)).status_code == 200
        assert (await agent.ended()).code == link.CLOSE_FINAL
        assert (await agent.next(link.Goodbye)).final
        refusal = await _refused(agent, url)
        assert (refusal.code, refusal.final) == ("revoked", True)


async def test_a_revocation_without_a_hint_is_seen_by_looking_at_the_rows(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(Agent).values(state="revoked"))
        await control_app.control.fleet.revocations.recheck()
        assert (await agent.ended()).code == link.CLOSE_FINAL


async def test_a_removed_cluster_tells_its_agent_to_stop_also_later(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        assert (await control_app.joiner.delete(f"/api/v1/clusters/{agent.identity.cluster_id}")).status_code == 204
        assert (await agent.ended()).code == link.CLOSE_FINAL
        assert (await control_app.joiner.get(f"/api/v1/clusters/{agent.identity.cluster_id}")).status_code == 404
        refusal = await _refused(agent, url)
        assert (refusal.code, refusal.final) == ("removed", True)
        await control_app.control.fleet.reports.flush()
        assert await control_app.rows(Cluster) == []


async def test_a_pending_agent_waits_for_approval(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app, approval_required=True) as agent:
        assert (await agent.connect(url)).pending
        await agent.synced()
        fleet, cluster = control_app.control.fleet, agent.identity.cluster_id
        assert not fleet.links.is_connected(cluster)
        assert (await _shown(control_app, agent))["health"]["reason"] == "The agent waits for an admin to approve it"
        path = f"/api/v1/clusters/{cluster}/agents/{agent.identity.agent_id}/approve"
        assert (await control_app.joiner.post(path)).status_code == 200
        await until(lambda: fleet.links.is_connected(cluster))
        assert (await control_app.joiner.post(path)).status_code == 409


async def test_actions_on_agents_need_an_admin_of_that_cluster(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        deployer = await control_app.user("dora", Role.DEPLOYER)
        alien = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
        for verb in ("approve", "readmit", "revoke", "rotate-key"):
            path = f"/api/v1/clusters/{agent.identity.cluster_id}/agents/{agent.identity.agent_id}/{verb}"
            assert (await control_app.client().post(path)).status_code == 401
            assert (await deployer.post(path)).status_code == 403
            assert (await alien.post(path)).status_code == 404


async def test_an_agent_changes_its_key_and_the_old_one_ends_a_day_later(control_app: ControlApp, url: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from towline.control.agents import keys

    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        identity = agent.identity
        old = identity.copy()
        path = f"/api/v1/clusters/{identity.cluster_id}/agents/{identity.agent_id}/rotate-key"
        assert (await control_app.joiner.post(path)).status_code == 202
        await agent.next(link.RotateKey)
        new = Ed25519PrivateKey.generate()
        public = keys.pack(new.public_key().public_bytes_raw())
        text = link.rotate_text(
            agent_id=identity.agent_id,
            old_key_id=identity.key_id,
            new_key_id="new",
            new_public_key=public,
            epoch=agent.epoch,
        )
        signed = keys.pack(identity.identity_key.sign(text))
        message = link.KeyRotation(new_key_id="new", new_public_key=public, signature=signed)
        await agent.send(message)
        assert (await agent.next(link.Error)).code == "bad_rotation"
        proof = keys.pack(new.sign(text))
        await agent.send(
            link.KeyRotation(new_key_id="new", new_public_key=public, signature=signed, new_signature=proof)
        )
        identity.key_id, identity.identity_key = (await agent.next(link.KeyRotated)).key_id, new
        agent.cut()
        await agent.ended()
        await agent.connect(url)
        assert agent.received(link.RotateKey) == []
        rows = {row.id: row for row in await control_app.rows(AgentKey)}
        left = rows[old.key_id].expires_at - rows[identity.key_id].created_at
        assert timedelta(hours=23) < left < timedelta(hours=25)
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(AgentKey).where(AgentKey.id == old.key_id).values(expires_at=now(-1)))
        assert (await _refused(ScriptedAgent(old), url)).code == "expired_key"


async def test_a_lost_link_is_shown_with_its_reason_and_down_after_silence(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        await agent.synced()
        agent.cut()
        await until(lambda: not len(control_app.control.fleet.links))
        shown = await _shown(control_app, agent)
        assert shown["health"]["state"] == "working"
        assert shown["link"]["connected"] is False
        assert shown["facts"]["hostname"] == "web-1"
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(Cluster).values(last_seen_at=now(-91)))
        await control_app.control.fleet.reports.judge_silent()
        assert (await _shown(control_app, agent))["health"]["state"] == "down"


async def test_what_docker_lacks_is_the_reason(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        broken = link.Capability(name="compose", ready=False, reason="permission denied on the socket")
        await agent.send(link.Heartbeat(sent_at=0.0, capabilities=(broken,)))
        await agent.next(link.HeartbeatAck)
        health = (await _shown(control_app, agent))["health"]
        assert health["state"] == "degraded"
        assert "Docker does not answer since" in health["reason"]
        assert "permission denied on the socket" in health["reason"]


async def test_an_agent_with_a_wrong_clock_works_and_its_offset_is_shown(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        ahead = control_app.control.clock.now().timestamp() + 3600
        await agent.send(link.Heartbeat(sent_at=ahead))
        await agent.next(link.HeartbeatAck)
        shown = await _shown(control_app, agent)
        assert 3590 < shown["link"]["clock_offset"] < 3610
        assert shown["health"]["state"] == "healthy"


async def test_a_clock_ten_years_off_does_not_break_anything(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        strange = link.Capability(name="compose", ready=False, reason="x", since=1e300)
        await agent.send(link.Heartbeat(sent_at=-3e8, capabilities=(strange,)))
        await agent.next(link.HeartbeatAck)
        assert (await _shown(control_app, agent))["health"]["state"] == "degraded"


async def test_containers_and_projects_are_kept_changed_and_searched(control_app: ControlApp, url: str) -> None:
    def container(number: int, **more: str) -> link.Container:
        return link.Container(id=f"c{number}", name=f"shop-web-{number}", project="shop", service="web", **more)

    async with await enrolled(control_app, cluster_name="edge-1") as agent:
        await agent.connect(url)
        running = tuple(container(number, image="nginx:1", state="running") for number in range(3))
        await agent.send(
            link.Inventory(
                full=True, containers=running, projects=(link.Project(name="shop", managed=True, revision=3),)
            )
        )
        sick = container(1, image="nginx:2", state="running", health="unhealthy")
        await agent.send(link.Inventory(full=False, containers=(sick,), removed_containers=("c0",)))
        await agent.synced()
        await control_app.control.fleet.reports.flush()
        get = control_app.joiner.get
        items = (await get("/api/v1/clusters/edge-1/containers")).json()["items"]
        assert [(one["id"], one["image"]) for one in items] == [("c1", "nginx:2"), ("c2", "nginx:1")]
        assert (await get("/api/v1/clusters/edge-1/containers?search=nginx:2")).json()["total"] == 1
        assert (await get("/api/v1/clusters/edge-1/containers?search=%25")).json()["total"] == 0
        assert (await get("/api/v1/clusters/edge-1/projects")).json()["items"][0]["revision"] == 3
        shown = await _shown(control_app, agent)
        assert (shown["containers_count"], shown["projects_count"]) == (2, 1)
        assert shown["health"]["reason"] == "1 container is not well: shop-web-1"
        agent.cut()
        await agent.ended()
        assert (await get("/api/v1/clusters/edge-1/containers")).json()["total"] == 2


async def test_when_the_server_stops_agents_are_told_to_come_back(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        await control_app.control.fleet.stop()
        assert (await agent.ended()).code == link.CLOSE_DRAINING
        goodbye = await agent.next(link.Goodbye)
        assert (goodbye.reason, goodbye.final) == ("draining", False)


async def test_what_no_database_takes_keeps_nobody_else_out(control_app: ControlApp) -> None:
    admissions = control_app.control.fleet.admissions
    challenge = link.Challenge(nonce="n", origin=ORIGIN, server_time=0.0, replica="")
    async with await enrolled(control_app) as good, await enrolled(control_app) as nameless:
        stranger = ScriptedAgent(good.identity.copy())
        stranger.identity.agent_id = "agt_\0"
        nameless.instance_id = "\0"
        hellos = [await agent.hello(challenge) for agent in (stranger, good, nameless)]
        attempts = [Attempt(hello=hello, origin=ORIGIN, nonce="n", address="192.0.2.7") for hello in hellos]
        unknown, admitted, _ = await asyncio.gather(*map(admissions.admit, attempts), return_exceptions=True)
    assert isinstance(unknown, Refused) and unknown.refusal.code == "unknown_agent"
    assert isinstance(admitted, Admitted) and admitted.agent_id == good.identity.agent_id


async def test_many_agents_that_come_at_once_are_all_let_in(control_app: ControlApp, url: str) -> None:
    made = await join_token(control_app, max_uses=30)
    agents = []
    for number in range(30):
        from tests.support.scripted_agent import Identity

        identity = Identity()
        await identity.enrol(control_app.client(), made["token"], hostname=f"host{number}")
        agents.append(ScriptedAgent(identity))
    welcomes = await asyncio.gather(*(agent.connect(url) for agent in agents))
    assert {welcome.generation for welcome in welcomes} == {2}
    await until(lambda: len(control_app.control.fleet.links) == 30)
    await asyncio.gather(*(agent.stop() for agent in agents))

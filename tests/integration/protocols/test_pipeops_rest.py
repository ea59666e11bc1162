"""PipeOps REST agents at the control plane: each call of theirs, who may make it, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.control_app import ControlApp, running_control
from tests.support.rest_agents import SECRET, RestAgent, agents_of, rest_agent, token
from tests.support.scripted_agent import until

from towline.aio.clock import SimulatedClock
from towline.control.access.permissions import Role
from towline.control.agents.models import Agent
from towline.control.clusters.health import OFFLINE_AFTER
from towline.control.clusters.models import Cluster
from towline.control.protocols.models import CompatAgent, CompatToken
from towline.control.protocols.pipeops.rest_agents import BURST, CHECK_TOKEN_EVERY
from towline.tunnel.errors import TargetRefused
from towline.wire import pipeops_rest as rest
from towline.wire import streams

CALLS = [
    ("POST", "/api/v1/agents/register", {"id": "agent-1"}),
    ("POST", "/api/v1/agents/agent-1/heartbeat", {}),
    ("POST", "/api/v1/agents/agent-1/status", {}),
    ("GET", "/api/v1/agents/agent-1/commands", None),
    ("POST", "/api/v1/agents/agent-1/commands/job_1/result", {"success": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[path.rsplit("/", 1)[1] for _, path, _ in CALLS])
async def test_without_a_known_token_nobody_is_an_agent(
    small_app: ControlApp, method: str, path: str, body: Any
) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic cmVzdDp0b2tlbg=="}):
        answer = await small_app.client(**headers).request(method, path, json=body)
        assert answer.status_code == 401, answer.text
    user = await small_app.user("olga", Role.OWNER)
    assert (await user.request(method, path, json=body)).status_code == 401


# -- the rows of the protocol ------------------------------------------------------------------------


async def test_row_register_is_answered_200_and_makes_a_cluster(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await agent.register()).status_code == 200
    (cluster,) = await control_app.rows(Cluster)
    assert cluster.name == "office"
    await control_app.control.fleet.reports.flush()
    (cluster,) = await control_app.rows(Cluster)
    assert cluster.connected and cluster.facts["hostname"] == "vm"
    assert [one["name"] for one in cluster.capabilities if one["ready"]] == ["kubernetes"]


async def test_what_no_database_takes_is_left_out_of_a_registration(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    odd = {name: f"odd\0{name}" for name in ("name", "cluster_name", "hostname", "version", "region", "k8s_version")}
    assert (await agent.register(**odd)).status_code == 200
    (compat,) = await control_app.rows(CompatAgent)
    assert (compat.info["region"], compat.info["version"]) == ("oddregion", "oddversion")
    await control_app.control.fleet.reports.flush()
    assert (await control_app.rows(Cluster))[0].facts["hostname"] == "oddhostname"


async def test_row_heartbeat_is_answered_200_and_is_a_sign_of_life(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await agent.beat()).status_code == 200
    assert (await agent.beat(status="degraded", metadata={}, timestamp="yesterday")).status_code == 200
    await control_app.control.fleet.reports.flush()
    assert (await control_app.rows(Cluster))[0].connected


async def test_row_status_fills_the_inventory(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    pods = [{"name": "web-1", "namespace": "shop", "ready": False, "phase": "Failed"}]
    assert (
        await agent.status(nodes=[{"name": "n1", "ready": True}], namespaces=["shop"], pods=pods)
    ).status_code == 200
    viewer = await control_app.user("vera", Role.VIEWER)
    known = await _told(control_app, viewer)
    assert known["state"] == "partial" and known["pods"]["failed"] == 1
    assert [one["name"] for one in known["unwell"]] == ["web-1"]
    assert (await agent.status(nodes=[], namespaces=[], pods=[])).status_code == 200
    await _told(control_app, viewer, lambda known: known["nodes"]["total"] == 0)


async def test_row_commands_is_an_empty_list_when_there_are_none(control_app: ControlApp) -> None:
    assert await (await rest_agent(control_app)).fetch() == []


async def test_row_result_of_a_command_that_never_was_is_404(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await agent.result("job_unknown")).status_code == 404


async def test_row_health_needs_no_token(small_app: ControlApp) -> None:
    answer = await small_app.client().get("/api/v1/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


# -- who is who ------------------------------------------------------------------------------------


async def test_an_agent_that_nobody_knows_is_told_404_so_that_it_registers_again(control_app: ControlApp) -> None:
    agent = RestAgent(control_app.client(await token(control_app)))
    for answer in (await agent.beat(), await agent.status()):
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "agent_not_found"
    assert await control_app.rows(Agent) == []
    assert (await agent.register()).status_code == 200
    assert (await agent.beat()).status_code == 200


async def test_a_token_of_one_agent_does_not_speak_for_another_name(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await RestAgent(agent.client, "agent-2").beat()).status_code == 404


async def test_two_agents_with_tokens_of_their_own_and_one_name_stay_apart(control_app: ControlApp) -> None:
    first = await rest_agent(control_app)
    second = await rest_agent(control_app, secret="another-token-there")
    assert first.id == second.id
    assert len({row.cluster_id for row in await control_app.rows(Agent)}) == 2
    assert (await first.beat()).status_code == (await second.beat()).status_code == 200


async def test_a_heartbeat_of_another_agent_than_its_address_is_refused(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await agent.beat(agent_id="agent-2")).status_code == 400


@pytest.mark.parametrize("name", ["", "a/b", "x" * 129, "ä", "..", "a b"])
async def test_a_name_that_is_none_is_refused(small_app: ControlApp, name: str) -> None:
    agent = RestAgent(small_app.client(await token(small_app)), name)
    assert (await agent.register()).status_code == 400


async def test_an_agent_with_a_shared_token_waits_for_approval(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app, shared=True)
    assert (await agent.beat()).status_code == 200
    await agent.status(namespaces=["shop"])
    await control_app.control.kube_intake.flush()
    (row,) = await control_app.rows(Agent)
    assert row.state == "pending"
    viewer = await control_app.user("vera", Role.VIEWER)
    assert (await viewer.get("/api/v1/clusters/office/kubernetes")).json()["state"] == "unknown"
    admin = await control_app.user("ada", Role.ADMIN)
    await admin.post(f"/api/v1/clusters/office/agents/{row.id}/approve")
    await until(lambda: not control_app.control.fleet.links.of_agent(row.id).pending)
    await agent.status(namespaces=["shop"])
    assert (await _told(control_app, viewer))["namespaces"] == 1


async def test_a_revoked_agent_is_refused_and_its_session_ends(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    (row,) = await control_app.rows(Agent)
    admin = await control_app.user("ada", Role.ADMIN)
    assert (await admin.post(f"/api/v1/clusters/office/agents/{row.id}/revoke")).is_success
    await until(lambda: control_app.control.fleet.links.of_agent(row.id) is None)
    assert (await agent.beat()).status_code == 403


async def test_a_revoked_token_is_refused_within_a_minute(prepared_sqlite: Path, tmp_path: Path) -> None:
    clock = SimulatedClock()
    async with _running(prepared_sqlite, tmp_path, clock) as app:
        agent = await rest_agent(app)
        (row,) = await app.rows(CompatToken)
        assert (await app.compat_admin.delete(f"/api/v1/compat/tokens/{row.id}")).status_code == 204
        assert (await agent.beat()).status_code == 200
        await clock.advance(CHECK_TOKEN_EVERY + 1)
        assert (await agent.beat()).status_code == 401
        assert len(app.control.fleet.links) == 0


async def test_a_newer_version_of_an_agent_replaces_its_session(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    (before,) = control_app.control.fleet.links
    assert (await agent.register(version="1.0.1")).status_code == 200
    (after,) = control_app.control.fleet.links
    assert after.epoch > before.epoch and before.session.closed is not None
    assert (await control_app.rows(Agent))[0].version == "1.0.1"


# -- life and silence ------------------------------------------------------------------------------


async def test_an_agent_is_offline_after_90_seconds_of_silence(prepared_sqlite: Path, tmp_path: Path) -> None:
    clock = SimulatedClock()
    async with _running(prepared_sqlite, tmp_path, clock) as app:
        agent = await rest_agent(app)
        await clock.advance(OFFLINE_AFTER - 1)
        agents_of(app).end_silent()
        assert len(app.control.fleet.links) == 1
        await agent.beat()
        await clock.advance(OFFLINE_AFTER - 1)
        agents_of(app).end_silent()
        assert len(app.control.fleet.links) == 1
        await clock.advance(1)
        agents_of(app).end_silent()
        assert len(app.control.fleet.links) == 0
        await app.control.fleet.reports.flush()
        (cluster,) = await app.rows(Cluster)
        assert not cluster.connected and "no word from the agent" in cluster.link_last_error
        assert cluster.health_state == "down"
        assert (await agent.beat()).status_code == 200
        assert len(app.control.fleet.links) == 1


async def test_a_heartbeat_brings_the_session_back_after_a_restart(prepared_sqlite: Path, tmp_path: Path) -> None:
    async with _running(prepared_sqlite, tmp_path, None) as app:
        agent = await rest_agent(app)
        await agent.register(k8s_version="v1.31.2")
    async with running_control(f"sqlite:///{tmp_path / 'copy.db'}", tmp_path) as app:
        again = RestAgent(app.client(SECRET))
        assert (await again.status(namespaces=["shop"])).status_code == 200
        viewer = await app.user("vera", Role.VIEWER)
        assert (await _told(app, viewer))["version"] == "v1.31.2"


async def test_its_clock_decides_nothing(control_app: ControlApp) -> None:
    agent = await rest_agent(control_app)
    assert (await agent.beat(timestamp="1999-01-01T00:00:00Z")).status_code == 200
    assert (await agent.beat(timestamp="9999-12-31T23:59:59Z")).status_code == 200
    await control_app.control.fleet.reports.flush()
    (cluster,) = await control_app.rows(Cluster)
    assert cluster.connected and cluster.last_seen_at.year not in (1999, 9999)


async def test_streams_are_refused_by_name(control_app: ControlApp) -> None:
    await rest_agent(control_app)
    (one,) = control_app.control.fleet.links
    with pytest.raises(TargetRefused, match="commands and status, no streams"):
        one.session.create_stream(streams.Tcp(host="127.0.0.1", port=80), asyncio.Protocol)


# -- malformed, oversized, too often ---------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"nodes": 7}', b'{"pods":[1]}', b"\xff", b"[" * 100_000])
async def test_a_body_that_cannot_be_read_is_400_and_the_agent_stays(small_app: ControlApp, text: bytes) -> None:
    agent = await rest_agent(small_app)
    headers = {"content-type": "application/json"}
    answer = await agent.client.post(f"/api/v1/agents/{agent.id}/status", content=text, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_request"
    assert (await agent.beat()).status_code == 200


async def test_what_go_writes_for_nothing_is_read(small_app: ControlApp) -> None:
    agent = await rest_agent(small_app)
    assert (await agent.status(nodes=None, namespaces=None, pods=None, deployments=None, metrics=None)).is_success
    assert (await agent.beat(metadata=None, status=None)).is_success


async def test_a_status_of_5000_pods_fits(small_app: ControlApp) -> None:
    agent = await rest_agent(small_app)
    labels = {f"label-{n}": "x" * 40 for n in range(10)}
    pods = [
        {"name": f"web-{n}", "namespace": "shop", "ready": True, "phase": "Running", "labels": labels}
        for n in range(5000)
    ]
    assert (await agent.status(pods=pods)).status_code == 200


@pytest.mark.parametrize(("path", "limit"), [("heartbeat", rest.MAX_SMALL_BYTES), ("status", rest.MAX_STATUS_BYTES)])
async def test_a_body_beyond_its_limit_is_refused(small_app: ControlApp, path: str, limit: int) -> None:
    agent = await rest_agent(small_app)
    url, long = f"/api/v1/agents/{agent.id}/{path}", json.dumps({"status": "x" * limit})

    async def unannounced() -> Any:
        yield long.encode()

    for content in (long.encode(), unannounced()):
        answer = await agent.client.post(url, content=content)
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


async def test_an_agent_that_asks_without_end_is_slowed_down(small_app: ControlApp) -> None:
    agent = await rest_agent(small_app)
    other = await rest_agent(small_app, name="agent-2", secret="another-token-there")
    answers = [await agent.beat() for _ in range(BURST + 5)]
    assert answers[-1].status_code == 429 and "retry-after" in answers[-1].headers
    assert (await other.beat()).status_code == 200


# -- helpers ---------------------------------------------------------------------------------------


def _running(prepared_sqlite: Path, folder: Path, clock: SimulatedClock | None) -> Any:
    copy = folder / "copy.db"
    copy.write_bytes(prepared_sqlite.read_bytes())
    return running_control(f"sqlite:///{copy}", folder, **({"clock": clock} if clock else {}))


async def _told(
    app: ControlApp, viewer: httpx.AsyncClient, wanted: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """What is known of the cluster, once it is written and as a test wants it."""
    found: dict[str, Any] = {}
    for _ in range(100):
        await app.control.kube_intake.flush()
        await app.control.fleet.reports.flush()
        found = (await viewer.get("/api/v1/clusters/office/kubernetes")).json()
        if found["state"] != "unknown" and wanted(found):
            return found
    raise AssertionError(f"what was told is not known: {found}")

"""Alerts from what the tables say: each rule, silences, groups, restarts. No loops run: each look is asked for."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, select, update
from tests.support import seeds
from tests.support.control_app import ControlApp, running_control

from towline.control.access.permissions import Role
from towline.control.agents.models import Agent
from towline.control.alerts.models import Alert, AlertMessage
from towline.control.alerts.subjects import Scope
from towline.control.certificates.models import Certificate
from towline.control.clusters.models import Cluster, InventoryContainer
from towline.control.deployments.models import Deployment, Revision
from towline.control.ids import new_id
from towline.control.kubernetes.models import KubeObject
from towline.wire import link

HOOK = {"kind": "webhook", "url": "https://hooks.example.com/x"}


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[ControlApp]:
    """A control plane without loops, with one connected host that is well, and one channel."""
    async with running_control(database_url, tmp_path, start=False, alert_group_seconds=0) as running:
        await host(running, "edge-1")
        ada = await running.user("ada", Role.ADMIN)
        await ada.post("/api/v1/alert-channels", json={"name": "ops", "target": HOOK})
        running.ada = ada  # type: ignore[attr-defined]
        yield running


async def host(app: ControlApp, name: str) -> str:
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        row = seeds.cluster(app.control, name, moment, "healthy", "")
        row.connected, row.last_seen_at = True, moment
        tx.add(row)
        await tx.flush()
        tx.add(seeds.agent(row, moment))
    return row.id


async def change(app: ControlApp, name: str = "edge-1", **values: Any) -> None:
    async with app.control.db.begin() as tx:
        await tx.execute(update(Cluster).where(Cluster.name == name).values(**values))


async def rule(app: ControlApp, name: str, **body: Any) -> None:
    answer = await app.ada.patch("/api/v1/alert-rules", json={"rule": name, **body})  # type: ignore[attr-defined]
    assert answer.status_code == 200, answer.text


async def later(app: ControlApp, seconds: float) -> None:
    """Let time pass: what was written happened so much earlier."""
    names = ("began_at", "fired_at", "resolved_at", "absent_at", "due_at", "tell_at")
    async with app.control.db.begin() as tx:
        for row in (await tx.scalars(select(Alert))).all():
            for name in names:
                moment: datetime | None = getattr(row, name)
                if moment is not None:
                    setattr(row, name, moment - timedelta(seconds=seconds))


async def look(app: ControlApp) -> dict[str, tuple[str, str]]:
    """Look at everything. Returns: state and summary by rule and name."""
    await app.control.alerts.look()
    return {f"{row.rule} {row.name}": (row.state, row.summary) for row in await app.rows(Alert)}


async def told(app: ControlApp) -> list[tuple[str, list[str]]]:
    """Every message: its type, and the names in it."""
    rows = sorted(await app.rows(AlertMessage), key=lambda row: row.id)
    bodies = [msgspec.json.decode(row.body) for row in rows]
    return [(body["type"], sorted(one["name"] for one in body["alerts"])) for body in bodies]


async def test_a_host_that_is_well_is_no_alert(app: ControlApp) -> None:
    assert await look(app) == {} and await told(app) == []


async def test_an_agent_that_is_away_fires_after_its_time_and_ends_when_it_is_back(app: ControlApp) -> None:
    await change(app, connected=False)
    found = await look(app)
    assert found["agent_away edge-1"][0] == "pending" and "no word from the agent" in found["agent_away edge-1"][1]
    await later(app, 301)
    assert (await look(app))["agent_away edge-1"][0] == "firing"
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-1"])]
    await change(app, connected=True)
    assert (await look(app))["agent_away edge-1"][0] == "resolved"
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-1"]), ("alert.resolved", ["edge-1"])]


async def test_after_a_start_agents_get_the_time_to_come_back(app: ControlApp) -> None:
    await change(app, connected=False)
    await look(app)
    await later(app, 4000)
    await app.control.alerts.evaluator.begin()
    assert (await look(app))["agent_away edge-1"][0] == "pending"
    app.control.alerts.evaluator.after_start = 0
    await app.control.alerts.evaluator.begin()
    assert (await look(app))["agent_away edge-1"][0] == "firing"


async def test_an_agent_that_was_revoked_is_not_away(app: ControlApp) -> None:
    async with app.control.db.begin() as tx:
        await tx.execute(update(Agent).values(state="revoked"))
    await change(app, connected=False)
    assert await look(app) == {}


async def test_a_silent_docker_fires_and_one_in_a_kubernetes_cluster_is_none(app: ControlApp) -> None:
    await rule(app, "docker_down", after_seconds=0)
    await change(app, capabilities=seeds.BROKEN)
    found = await look(app)
    assert found["docker_down edge-1"][0] == "firing" and "permission denied" in found["docker_down edge-1"][1]
    await change(app, capabilities=seeds.READY)
    assert (await look(app))["docker_down edge-1"][0] == "resolved"


async def test_a_full_disk_fires_below_the_threshold_of_the_organisation(app: ControlApp) -> None:
    await rule(app, "disk_full", after_seconds=0)
    disk = {"mount": "/var", "total_bytes": 100 * seeds.GIB, "free_bytes": 15 * seeds.GIB}
    await change(app, facts={"disks": [disk]})
    assert await look(app) == {}
    await rule(app, "disk_full", threshold=20)
    assert (await look(app))["disk_full edge-1:/var"] == ("firing", "/var has 15.0 GiB free of 100 (15%)")


async def test_what_only_a_connected_agent_knows_stays_as_it_is_while_it_is_away(app: ControlApp) -> None:
    await rule(app, "docker_down", after_seconds=0)
    await change(app, capabilities=seeds.BROKEN)
    await look(app)
    await change(app, connected=False, capabilities=seeds.READY)
    assert (await look(app))["docker_down edge-1"][0] == "firing"
    await later(app, 10_000)
    assert (await look(app))["docker_down edge-1"][0] == "firing"
    await change(app, connected=True)
    assert (await look(app))["docker_down edge-1"][0] == "resolved"


async def container(app: ControlApp, name: str, state: str = "running", **data: Any) -> None:
    async with app.control.db.begin() as tx:
        row = (await tx.scalars(select(Cluster).where(Cluster.name == "edge-1"))).one()
        one = link.Container(id=name, name=name, project="shop", service="web", state=state, **data)
        tx.add(
            InventoryContainer(
                cluster_id=row.id, container_id=name, org_id=row.org_id, name=name, project="shop", service="web",
                state=state, sick=state == "restarting", data=msgspec.to_builtins(one),
            )
        )  # fmt: skip


async def test_containers_that_restart_or_ran_out_of_memory_fire(app: ControlApp) -> None:
    async with app.control.db.read() as tx:
        now = (await tx.now()).timestamp()
    await rule(app, "container_restarting", after_seconds=0)
    await container(app, "well", restarts=1, started_at=now)
    await container(app, "old", restarts=50, started_at=now - 5000)
    await container(app, "loops", "restarting", restarts=2, exit_code=3)
    await container(app, "again", restarts=3, started_at=now - 5)
    await container(app, "fat", "exited", oom_killed=True, finished_at=now - 5)
    await container(app, "was-fat", "exited", oom_killed=True, finished_at=now - 5000)
    await container(app, "once", "restarting", one_off=True)
    found = await look(app)
    assert sorted(found) == [
        "container_restarting edge-1/again", "container_restarting edge-1/loops", "out_of_memory edge-1/fat",
    ]  # fmt: skip
    assert found["container_restarting edge-1/loops"][1] == "web restarted 2 times, last exit code 3"


async def thing(app: ControlApp, section: str, name: str, reason: str, **changes: Any) -> None:
    """An entry of the inventory of a Kubernetes cluster."""
    async with app.control.db.begin() as tx:
        row = (await tx.scalars(select(Cluster).where(Cluster.name == "edge-1"))).one()
        fields: dict[str, Any] = {
            "cluster_id": row.id, "org_id": row.org_id, "section": section, "key": name, "name": name,
            "reason": reason, "rank": 2 if section == "pods" else 4, "moment": await tx.now(), "data": {},
        }  # fmt: skip
        tx.add(KubeObject(**(fields | changes)))


async def test_nodes_and_pods_of_a_kubernetes_cluster_fire_by_their_reasons(app: ControlApp) -> None:
    for name in ("node_not_ready", "disk_full", "crash_loop", "image_pull"):
        await rule(app, name, after_seconds=0)
    owner = {"owner_kind": "Deployment", "owner": "web"}
    await thing(app, "nodes", "n1", "not ready: kubelet stopped posting", state="not_ready")
    await thing(app, "nodes", "n2", "DiskPressure: the disk", state="ready")
    await thing(app, "pods", "web-a", "CrashLoopBackOff (web): last end: exit code 1", namespace="shop", data=owner)
    await thing(app, "pods", "web-b", "CrashLoopBackOff (web): last end: OOMKilled", namespace="shop", data=owner)
    await thing(app, "pods", "lone", "ImagePullBackOff (main): no such image", namespace="shop")
    await thing(app, "pods", "slow", "not ready since then (main)", namespace="shop")
    found = await look(app)
    assert sorted(found) == [
        "crash_loop edge-1/shop/web", "disk_full edge-1/n2", "image_pull edge-1/shop/lone", "node_not_ready edge-1/n1",
        "out_of_memory edge-1/shop/web",
    ]  # fmt: skip
    assert {state for state, _ in found.values()} == {"firing"}
    assert found["crash_loop edge-1/shop/web"][1].startswith("web-a: CrashLoopBackOff")


async def test_a_crash_loop_that_pauses_between_two_crashes_goes_on_firing(app: ControlApp) -> None:
    await rule(app, "crash_loop", after_seconds=0)
    await thing(app, "pods", "p", "CrashLoopBackOff (main)", namespace="shop")
    await look(app)
    async with app.control.db.begin() as tx:
        await tx.execute(delete(KubeObject))
    await look(app)
    await later(app, 300)
    assert (await look(app))["crash_loop edge-1/shop/p"][0] == "firing"
    await later(app, 301)
    assert (await look(app))["crash_loop edge-1/shop/p"][0] == "resolved"
    assert [kind for kind, _ in await told(app)] == ["alert.firing", "alert.resolved"]


async def crash(app: ControlApp, name: str = "p", *, restarts: int = 4, runs: bool = False, **data: Any) -> None:
    """A pod of an agent that tells of it until it is well or gone: down, or running between two ends."""
    reason = "Restarting (main): last end: exit code 3" if runs else "Error (main): exit code 3"
    told = {"crash": {"container": "main", "reason": "Error", "exit_code": 3, "runs": runs}, **data}
    await gone(app, name)
    await thing(app, "pods", name, reason, namespace="shop", amount=restarts, data=told)


async def gone(app: ControlApp, name: str = "p") -> None:
    async with app.control.db.begin() as tx:
        await tx.execute(delete(KubeObject).where(KubeObject.key == name))


async def test_a_pod_that_is_down_again_after_some_restarts_crash_loops_whatever_the_kubelet_calls_it(
    app: ControlApp,
) -> None:
    await rule(app, "crash_loop", after_seconds=0)
    await crash(app, restarts=2)
    assert await look(app) == {}
    await crash(app, restarts=3)
    expected = "p: Error (main): exit code 3, 3 restarts"
    assert (await look(app))["crash_loop edge-1/shop/p"] == ("firing", expected)


async def test_the_restarts_of_a_crash_loop_are_the_organisations_choice(app: ControlApp) -> None:
    await rule(app, "crash_loop", after_seconds=0, threshold=5)
    await crash(app, restarts=4)
    assert await look(app) == {}
    await rule(app, "crash_loop", threshold=1)
    await crash(app, restarts=1)
    assert "crash_loop edge-1/shop/p" in await look(app)


async def test_a_crash_loop_goes_on_while_its_pod_runs_and_ends_after_a_healthy_time(app: ControlApp) -> None:
    await rule(app, "crash_loop", after_seconds=0, clear_seconds=300)
    await crash(app)
    await look(app)
    for _ in range(2):
        await crash(app, runs=True)
        await look(app)
        await later(app, 200)
        assert (await look(app))["crash_loop edge-1/shop/p"][0] == "firing"
        await crash(app, restarts=5)
        await look(app)
    await crash(app, restarts=5, runs=True)
    await look(app)
    await later(app, 301)
    assert (await look(app))["crash_loop edge-1/shop/p"][0] == "resolved"
    assert [kind for kind, _ in await told(app)] == ["alert.firing", "alert.resolved"]


async def test_a_crash_loop_whose_pod_is_gone_ends_without_its_healthy_time(app: ControlApp) -> None:
    await rule(app, "crash_loop", after_seconds=0)
    await crash(app)
    await look(app)
    await gone(app)
    await look(app)
    await later(app, 16)
    assert (await look(app))["crash_loop edge-1/shop/p"][0] == "resolved"


async def test_a_crash_loop_goes_on_when_the_pods_that_replace_it_end_right_after_their_start_too(
    app: ControlApp,
) -> None:
    await rule(app, "crash_loop", after_seconds=0)
    owner = {"owner_kind": "Deployment", "owner": "web"}
    await crash(app, "web-a", **owner)
    await look(app)
    await gone(app, "web-a")
    await look(app)
    await crash(app, "web-b", restarts=0, **owner)
    await later(app, 16)
    assert (await look(app))["crash_loop edge-1/shop/web"][0] == "firing"
    await crash(app, "web-b", restarts=3, **owner)
    await look(app)
    assert [kind for kind, _ in await told(app)] == ["alert.firing"]


async def test_one_pod_of_a_workload_that_is_down_outweighs_the_others(app: ControlApp) -> None:
    await rule(app, "crash_loop", after_seconds=0)
    owner = {"owner_kind": "Deployment", "owner": "web"}
    for name, runs in (("web-a", True), ("web-b", False), ("web-c", True)):
        await crash(app, name, runs=runs, **owner)
    found = await look(app)
    assert found["crash_loop edge-1/shop/web"][1].startswith("web-b: ")


async def test_a_failed_deploy_fires_until_a_newer_one_went_well(app: ControlApp) -> None:
    async with app.control.db.begin() as tx:
        row, moment = (await tx.scalars(select(Cluster))).one(), await tx.now()
        made = seeds.deployment(row, moment, "degraded", "", number=2)
        tx.add(made)
        await tx.flush()
        more = {"error": "web never became healthy\nline two", "rolled_back_to": 1}
        tx.add(seeds.revision(made, 2, moment, seeds.COMPOSE, "failed", **more))
    expected = "revision 2 failed; revision 1 runs again: web never became healthy"
    assert (await look(app))["deploy_failed edge-1/shop"] == ("firing", expected)
    async with app.control.db.begin() as tx:
        await tx.execute(update(Deployment).values(latest_number=3))
        tx.add(seeds.revision(made, 3, moment, seeds.COMPOSE, "good"))
    assert (await look(app))["deploy_failed edge-1/shop"][0] == "resolved"
    assert len(await app.rows(Revision)) == 2


async def test_a_certificate_past_three_quarters_of_its_life_fires(app: ControlApp) -> None:
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        for name, begun in (("old.test", 80), ("young.test", 10)):
            tx.add(
                Certificate(
                    id=new_id("crt"), org_id=app.control.default_org, name=name, source="acme", state="failed",
                    reason="DNS says no", next_at=moment, names=[name], chain="x", created_at=moment,
                    updated_at=moment, begins_at=moment - timedelta(days=begun),
                    ends_at=moment + timedelta(days=90 - begun),
                )
            )  # fmt: skip
    found = await look(app)
    assert list(found) == ["certificate_ending old.test"]
    state, summary = found["certificate_ending old.test"]
    assert state == "firing" and summary.endswith("DNS says no")


async def test_many_subjects_of_a_rule_are_one_message(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    app.control.alerts.evaluator.group_seconds = 30
    await change(app, connected=False)
    for name in ("edge-2", "edge-3"):
        await look(app)
        await host(app, name)
        await change(app, name, connected=False)
    await look(app)
    assert await told(app) == []
    await later(app, 31)
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-1", "edge-2", "edge-3"])]


async def test_what_ended_before_anybody_was_told_is_told_to_nobody(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    app.control.alerts.evaluator.group_seconds = 30
    await change(app, connected=False)
    await look(app)
    await change(app, connected=True)
    await look(app)
    await later(app, 100)
    await look(app)
    assert await told(app) == []


async def silence(app: ControlApp, **body: Any) -> str:
    made = await app.ada.post(  # type: ignore[attr-defined]
        "/api/v1/alert-silences", json={"seconds": 3600, "reason": "work"} | body
    )
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def test_a_silenced_alert_is_told_when_the_silence_ends_and_it_still_fires(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    made = await silence(app, cluster="edge-1")
    await host(app, "edge-2")
    for name in ("edge-1", "edge-2"):
        await change(app, name, connected=False)
    await look(app)
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-2"])]
    await app.ada.delete(f"/api/v1/alert-silences/{made}")  # type: ignore[attr-defined]
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-2"]), ("alert.firing", ["edge-1"])]


async def test_an_end_is_told_in_a_silence_and_what_was_never_told_has_none(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    await change(app, connected=False)
    await look(app)
    await silence(app, rule="agent_away")
    await host(app, "edge-2")
    await change(app, "edge-2", connected=False)
    await look(app)
    for name in ("edge-1", "edge-2"):
        await change(app, name, connected=True)
    await look(app)
    assert await told(app) == [("alert.firing", ["edge-1"]), ("alert.resolved", ["edge-1"])]


async def test_a_rule_tells_its_own_channels_and_the_end_goes_where_the_beginning_went(app: ControlApp) -> None:
    ada = app.ada  # type: ignore[attr-defined]
    await ada.post("/api/v1/alert-channels", json={"name": "night", "target": HOOK})
    await rule(app, "agent_away", after_seconds=0, channels=["night"])
    await change(app, connected=False)
    await look(app)
    await rule(app, "agent_away", channels=None)
    await change(app, connected=True)
    await look(app)
    names = {one["id"]: one["name"] for one in (await ada.get("/api/v1/alert-channels")).json()["items"]}
    assert [names[row.channel_id] for row in await app.rows(AlertMessage)] == ["night", "night"]


async def test_a_rule_that_is_switched_off_ends_what_it_said(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    await change(app, connected=False)
    await look(app)
    await rule(app, "agent_away", enabled=False)
    assert (await look(app))["agent_away edge-1"][0] == "resolved"
    assert [kind for kind, _ in await told(app)] == ["alert.firing", "alert.resolved"]


async def test_the_alerts_of_a_cluster_that_is_removed_end(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    await change(app, connected=False)
    await look(app)
    assert (await app.ada.delete("/api/v1/clusters/edge-1")).status_code == 204  # type: ignore[attr-defined]
    assert (await look(app))["agent_away edge-1"][0] == "resolved"


async def test_a_look_at_one_cluster_leaves_the_others_alone(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    other = await host(app, "edge-2")
    for name in ("edge-1", "edge-2"):
        await change(app, name, connected=False)
    await app.control.alerts.look(Scope(frozenset({other}), certificates=False))
    assert [row.name for row in await app.rows(Alert)] == ["edge-2"]


async def test_what_is_seen_again_goes_on_with_its_row_and_counts(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    for connected in (False, True, False):
        await change(app, connected=connected)
        await look(app)
    (row,) = await app.rows(Alert)
    assert (row.state, row.times) == ("firing", 2)
    bodies = [msgspec.json.decode(one.body) for one in sorted(await app.rows(AlertMessage), key=lambda one: one.id)]
    keys = [body["alerts"][0]["dedup_key"] for body in bodies]
    assert keys == [f"{row.id}-1", f"{row.id}-1", f"{row.id}-2"]


async def test_the_alerts_of_another_organisation_are_its_own(app: ControlApp) -> None:
    await rule(app, "agent_away", after_seconds=0)
    other = await app.org("other")
    async with app.control.db.begin() as tx:
        row = seeds.cluster(app.control, "theirs", await tx.now(), "down", "")
        row.org_id = other
        tx.add(row)
        await tx.flush()
        tx.add(seeds.agent(row, await tx.now()))
    await change(app, connected=False)
    found = await look(app)
    assert (found["agent_away edge-1"][0], found["agent_away theirs"][0]) == ("firing", "pending")
    eve = await app.user("eve", Role.OWNER, org_id=other)
    assert [one["name"] for one in (await eve.get("/api/v1/alerts")).json()["items"]] == ["theirs"]


async def test_old_alerts_and_messages_go_and_live_ones_stay(app: ControlApp) -> None:
    for name in ("agent_away", "docker_down"):
        await rule(app, name, after_seconds=0)
    await change(app, connected=False)
    await look(app)
    async with app.control.db.begin() as tx:
        long_ago = await tx.now() - timedelta(days=100)
        await tx.execute(update(Alert).values(changed_at=long_ago))
        await tx.execute(update(AlertMessage).values(created_at=long_ago))
    await app.control.retention.sweep()
    assert len(await app.rows(Alert)) == 1 and len(await app.rows(AlertMessage)) == 1
    async with app.control.db.begin() as tx:
        await tx.execute(update(Alert).values(state="resolved"))
        await tx.execute(update(AlertMessage).values(state="sent", ended_at=long_ago))
    removed = await app.control.retention.sweep()
    assert (removed["alerts"], removed["alert_messages"]) == (1, 1)

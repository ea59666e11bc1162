"""Runs: who may run what where, one job for each target, waves, cancelling, and what came of it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select, update
from tests.support.command_runs import COMPOSE, Place, begin, place
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, until

from towline.aio.tasks import TaskOwner
from towline.cli.sse import parse_events
from towline.control.access.models import Grant, User
from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.commands.models import CommandRun
from towline.control.db import now
from towline.control.jobs.models import Job
from towline.wire import link

CALLS = (
    ("POST", "preview"), ("POST", "runs"), ("GET", "runs"), ("GET", "runs/x"), ("POST", "runs/x/cancel"),
    ("GET", "runs/x/results"), ("GET", "runs/x/targets/0"), ("GET", "runs/x/events"), ("GET", "saved"),
    ("POST", "saved"), ("GET", "saved/x"), ("PATCH", "saved/x"), ("DELETE", "saved/x"),
)  # fmt: skip


@pytest.fixture
async def scene(control_app: ControlApp) -> AsyncIterator[Place]:
    async with place(control_app) as made:
        yield made


async def test_nobody_without_a_token_gets_anywhere(control_app: ControlApp) -> None:
    client = control_app.client()
    for method, path in CALLS:
        answer = await client.request(method, f"/api/v1/commands/{path}", json={})
        assert answer.status_code == 401, path


async def test_viewers_run_nothing_and_see_that_something_ran(scene: Place) -> None:
    await scene.cluster("edge-1")
    operator, viewer = await scene.operator(), await scene.app.user("vera", Role.VIEWER)
    body = {"program": "kubectl", "arguments": ["get", "pods"], "clusters": ["edge-1"]}
    for path in ("preview", "runs", "saved"):
        assert (await viewer.post(f"/api/v1/commands/{path}", json=body)).status_code == 403
    run = await begin(operator, "kubectl", "get", "pods", clusters=["edge-1"])
    await (await scene.order("edge-1")).answer("NAME   READY\nweb-1  1/1\n")
    await scene.ended(operator, run["id"])
    seen = (await viewer.get(f"/api/v1/commands/runs/{run['id']}")).json()
    assert (seen["state"], seen["counts"]) == ("succeeded", {"succeeded": 1})


async def test_a_command_becomes_a_job_and_its_output_an_answer(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", "-n", "shop", clusters=["edge-1"])
    assert (run["state"], run["counts"]) == ("running", {"active": 1})
    order = await scene.order("edge-1")
    assert order.job.kind == "command.run"
    assert order.payload["program"] == "kubectl"
    assert order.payload["arguments"] == ["get", "pods", "-n", "shop"]
    assert order.payload["user"] == "towline:otto"
    assert order.payload["groups"] == ["towline:role:viewer", "towline:role:operator"]
    await order.say("stdout", "NAME   READY\n", "web-1  1/1\n")
    await order.end(stdout_bytes=24)
    ended = await scene.ended(client, run["id"])
    assert ended["state"] == "succeeded"
    (target,) = ended["targets"]
    assert (target["state"], target["exit_code"], target["stdout_bytes"]) == ("succeeded", 0, 24)
    (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
    assert (group["targets"], group["stdout"]) == (["edge-1"], "NAME   READY\nweb-1  1/1\n")


async def test_targets_are_chosen_by_labels_and_equal_answers_are_one(scene: Place) -> None:
    for name, env in (("edge-1", "prod"), ("edge-2", "prod"), ("edge-3", "test")):
        await scene.cluster(name, labels={"env": env})
    await scene.cluster("host-1", labels={"env": "prod"}, capabilities=COMPOSE)
    client = await scene.operator()
    body = {"program": "kubectl", "arguments": ["get", "nodes"], "selector": "env!=test"}
    seen = (await client.post("/api/v1/commands/preview", json=body)).json()
    assert [(one["name"], one["allowed"]) for one in seen["targets"]] == [("edge-1", True), ("edge-2", True)]
    run = await begin(client, "kubectl", "get", "nodes", selector="env!=test")
    for name in ("edge-1", "edge-2"):
        await (await scene.order(name)).answer("NAME\nnode-1\n")
    await scene.ended(client, run["id"])
    (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
    assert (group["targets"], group["stdout"]) == (["edge-1", "edge-2"], "NAME\nnode-1\n")


async def test_a_target_that_is_not_allowed_is_reported_and_the_others_run(scene: Place) -> None:
    one, _ = await scene.cluster("edge-1"), await scene.cluster("edge-2")
    reach = Reach(ScopeKind.CLUSTER, cluster_id=one.identity.cluster_id)
    rights = (Right(Role.OPERATOR, reach), Right(Role.VIEWER))
    client = scene.app.client(await scene.app.token("otto", *rights))
    run = await begin(client, "kubectl", "get", "nodes", clusters=["edge-1", "edge-2"])
    await (await scene.order("edge-1")).answer("ok\n")
    ended = await scene.ended(client, run["id"])
    assert [(each["cluster"], each["state"]) for each in ended["targets"]] == [
        ("edge-1", "succeeded"), ("edge-2", "refused"),
    ]  # fmt: skip
    assert "operator" in ended["targets"][1]["error"]
    assert ended["state"] == "failed"
    assert scene.agents["edge-2"].received(link.Job) == []


async def test_a_command_that_is_allowed_nowhere_is_forbidden_and_on_record(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    body = {"program": "kubectl", "arguments": ["get", "secrets"], "clusters": ["edge-1"]}
    answer = await client.post("/api/v1/commands/runs", json=body)
    assert answer.status_code == 403
    assert "get secrets" in answer.text or "list secrets" in answer.text
    (event,) = await audited(scene, "command.run")
    assert (event.result, event.detail["arguments"]) == ("refused", ["get", "secrets"])
    assert await scene.app.rows(CommandRun) == []


async def test_a_namespace_is_as_far_as_its_grant_goes(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.app.user("nina", Role.DEPLOYER, reach=Reach(ScopeKind.NAMESPACE, namespace="shop"))
    for arguments in (["get", "pods", "-A"], ["get", "pods"], ["get", "nodes"], ["cordon", "node-1"]):
        body = {"program": "kubectl", "arguments": arguments, "clusters": ["edge-1"]}
        assert (await client.post("/api/v1/commands/runs", json=body)).status_code == 403, arguments
    run = await begin(client, "kubectl", "rollout", "restart", "deploy/web", "-n", "shop", clusters=["edge-1"])
    order = await scene.order("edge-1")
    assert order.payload["groups"][-1] == "towline:role:deployer"
    await order.answer("deployment.apps/web restarted\n")
    ended = await scene.ended(client, run["id"])
    assert ended["state"] == "succeeded"
    (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
    assert group["stdout"] == "deployment.apps/web restarted\n"


async def test_what_is_no_command_of_the_list_is_refused_with_the_reason(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    for program, arguments, word in (
        ("kubectl", ["exec", "web", "--", "sh"], "exec"),
        ("kubectl", ["get", "pods", "--as", "root"], "--as"),
        ("kubectl", ["get", "pods", "--token=hunter2hunter2"], "--token"),
        ("kubectl", ["get", "pods;id"], "pods;id"),
        ("docker", ["-H", "tcp://x", "ps"], "-H"),
        ("docker", ["run", "alpine"], "run"),
    ):
        body = {"program": program, "arguments": arguments, "clusters": ["edge-1"]}
        answer = await client.post("/api/v1/commands/runs", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid"), arguments
        assert word in answer.text
        assert "hunter2" not in answer.text
    unknown = {"program": "kubectl", "arguments": ["get", "pods"], "clusters": ["edge-9"]}
    assert (await client.post("/api/v1/commands/runs", json=unknown)).status_code == 404
    nowhere = {"program": "kubectl", "arguments": ["get", "pods"]}
    assert (await client.post("/api/v1/commands/runs", json=nowhere)).status_code == 422


async def test_waves_begin_one_after_the_other_and_stop_after_a_failure(scene: Place) -> None:
    for number in (1, 2, 3):
        await scene.cluster(f"edge-{number}")
    client = await scene.operator()
    names = ["edge-1", "edge-2", "edge-3"]
    run = await begin(client, "kubectl", "get", "pods", clusters=names, wave=1, stop_on_failure=True)
    await (await scene.order("edge-1")).answer("ok\n")
    second = await scene.order("edge-2")
    assert scene.agents["edge-3"].received(link.Job) == []
    await second.answer("error: no such thing\n", 1)
    ended = await scene.ended(client, run["id"])
    assert [each["state"] for each in ended["targets"]] == ["succeeded", "failed", "skipped"]
    assert (ended["state"], ended["targets"][1]["exit_code"]) == ("failed", 1)
    assert scene.agents["edge-3"].received(link.Job) == []


async def test_a_cancelled_run_stops_those_at_work_and_begins_no_more(scene: Place) -> None:
    for number in (1, 2):
        await scene.cluster(f"edge-{number}")
    client, other = await scene.operator(), await scene.app.user("vera", Role.VIEWER)
    run = await begin(client, "kubectl", "logs", "-f", "web", clusters=["edge-1", "edge-2"], wave=1)
    order = await scene.order("edge-1")
    path = f"/api/v1/commands/runs/{run['id']}/cancel"
    assert (await other.post(path)).status_code == 403
    answer = await client.post(path)
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    assert (await scene.agents["edge-1"].next(link.JobCancel)).job_id == order.job.job_id
    await order.end(130, "cancelled", outcome="cancelled", code="cancelled")
    ended = await scene.ended(client, run["id"])
    assert ended["state"] == "cancelled"
    assert [each["state"] for each in ended["targets"]] == ["cancelled", "cancelled"]
    assert (await client.post(path)).status_code == 409


async def test_who_could_not_run_it_does_not_read_what_it_printed(scene: Place) -> None:
    await scene.cluster("edge-1")
    admin, viewer = await scene.app.user("anna", Role.ADMIN), await scene.app.user("vera", Role.VIEWER)
    run = await begin(admin, "kubectl", "get", "secrets", "-o", "yaml", clusters=["edge-1"])
    order = await scene.order("edge-1")
    await order.say("stdout", "password: hunter2\n")
    await order.say("stderr", "also hunter2\n")
    await order.end(1, "also hunter2")
    ended = await scene.ended(admin, run["id"])
    job_id = ended["targets"][0]["job_id"]
    mine = await admin.get(f"/api/v1/commands/runs/{run['id']}/results")
    assert mine.text.count("hunter2") == 3
    for path in (
        f"commands/runs/{run['id']}", f"commands/runs/{run['id']}/results", f"commands/runs/{run['id']}/targets/0",
        f"commands/runs/{run['id']}/events", f"jobs/{job_id}", f"jobs/{job_id}/events",
        f"jobs/{job_id}/events?follow=1", "jobs", "commands/runs",
    ):  # fmt: skip
        answer = await viewer.get(f"/api/v1/{path}")
        assert answer.status_code == 200, path
        assert "hunter2" not in answer.text, path
    assert (await viewer.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"][0]["hidden"] is True
    assert "hunter2" in (await admin.get(f"/api/v1/jobs/{job_id}/events")).text
    for page in (f"/jobs/{job_id}", f"/commands/{run['id']}"):
        assert "hunter2" not in (await viewer.get(page)).text


async def test_what_was_typed_is_sealed_and_masked(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.app.user("dora", Role.DEPLOYER)
    manifest = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login, namespace: shop}\nstringData: {password: hunter2}\n"
    )
    run = await begin(client, "kubectl", "apply", "-f", "-", stdin=manifest, clusters=["edge-1"])
    order = await scene.order("edge-1")
    assert order.payload["stdin"] == manifest
    await order.answer("secret/login serverside-applied\n")
    await scene.ended(client, run["id"])
    kept = [repr(vars(row)) for table in (CommandRun, Job, AuditEvent) for row in await scene.app.rows(table)]
    assert not any("hunter2" in row for row in kept)
    assert (await client.get(f"/api/v1/commands/runs/{run['id']}")).json()["stdin_bytes"] == len(manifest)


async def test_every_target_is_on_record_when_it_begins_and_when_it_ends(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", "-l", "app=web", clusters=["edge-1"])
    await (await scene.order("edge-1")).answer("none\n")
    await scene.ended(client, run["id"])
    (began,) = await audited(scene, "command.run")
    (ended,) = await audited(scene, "command.end")
    assert (began.result, began.target_name, began.actor_name) == ("done", "edge-1", "otto")
    assert began.detail["arguments"] == ["get", "pods", "-l", "app=web"]
    assert began.detail["user"] == "towline:otto"
    assert (ended.result, ended.detail["exit_code"], ended.detail["run"]) == ("done", 0, run["id"])


async def test_a_right_that_was_lost_before_the_order_left_ends_the_target(scene: Place) -> None:
    agent = await scene.cluster("edge-1", connected=False)
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", clusters=["edge-1"], patience=600)
    async with scene.app.control.db.begin() as tx:
        await tx.execute(delete(Grant))
        scene.app.control.access.changed(tx)
    anna = await scene.app.user("anna", Role.ADMIN)
    back = ScriptedAgent(agent.identity)
    back.capabilities = agent.capabilities
    scene.agents["edge-1"] = back
    await back.connect(scene.url)
    ended = await scene.ended(anna, run["id"])
    (target,) = ended["targets"]
    assert (target["state"], target["code"]) == ("failed", "forbidden")
    assert back.received(link.Job) == []


async def test_an_agent_that_stays_away_ends_its_target_and_no_other(scene: Place) -> None:
    away = await scene.cluster("edge-1", connected=False)
    await scene.cluster("edge-2")
    client = await scene.operator()
    run = await begin(client, "kubectl", "get", "pods", clusters=["edge-1", "edge-2"], patience=600)
    await (await scene.order("edge-2")).answer("ok\n")
    async with scene.app.control.db.begin() as tx:
        late = update(Job).where(Job.cluster_id == away.identity.cluster_id).values(deadline_at=now(-1))
        await tx.execute(late)
    await scene.app.control.fleet.dispatcher.expire()
    ended = await scene.ended(client, run["id"])
    assert [each["state"] for each in ended["targets"]] == ["expired", "succeeded"]


async def test_a_removed_cluster_does_not_keep_a_run_open(scene: Place) -> None:
    await scene.cluster("edge-1")
    admin = await scene.app.user("anna", Role.ADMIN)
    run = await begin(admin, "kubectl", "get", "pods", clusters=["edge-1"])
    await scene.order("edge-1")
    assert (await admin.delete("/api/v1/clusters/edge-1")).status_code == 204
    await scene.app.control.commands.progress.move(run["id"])
    found = (await admin.get(f"/api/v1/commands/runs/{run['id']}")).json()
    assert (found["state"], found["targets"][0]["error"]) == ("failed", "the cluster was removed")


async def test_a_request_under_one_key_is_one_run(scene: Place) -> None:
    await scene.cluster("edge-1")
    client, other = await scene.operator(), await scene.operator("olga")
    body = {"program": "kubectl", "arguments": ["get", "pods"], "clusters": ["edge-1"]}
    key = {"idempotency-key": "one"}
    first = (await client.post("/api/v1/commands/runs", json=body, headers=key)).json()
    again = (await client.post("/api/v1/commands/runs", json=body, headers=key)).json()
    assert first["id"] == again["id"]
    assert (await other.post("/api/v1/commands/runs", json=body, headers=key)).status_code == 409
    await (await scene.order("edge-1")).answer("ok\n")
    assert len(await scene.app.rows(Job)) == 1


async def test_a_run_is_followed_as_it_prints_and_from_where_one_was(scene: Place) -> None:
    await scene.cluster("edge-1")
    client = await scene.operator()
    run = await begin(client, "kubectl", "logs", "-f", "web", clusters=["edge-1"])
    order = await scene.order("edge-1")
    await order.say("stdout", "one\n")
    await order.say("restarted", "begun anew")
    await order.say("stdout", "two\n")
    await order.end(0)
    await scene.ended(client, run["id"])
    said = await events(client, run["id"])
    assert [(kind, data.get("stage"), data.get("text")) for kind, data, _ in said if kind == "output"] == [
        ("output", "stdout", "one\n"), ("output", "restarted", "begun anew"), ("output", "stdout", "two\n"),
    ]  # fmt: skip
    assert [(kind, data["state"]) for kind, data, _ in said if kind != "output"] == [
        ("target", "succeeded"), ("end", "succeeded"),
    ]  # fmt: skip
    later = await events(client, run["id"], after=said[1][2])
    assert [data["text"] for kind, data, _ in later if kind == "output"] == ["two\n"]
    (group,) = (await client.get(f"/api/v1/commands/runs/{run['id']}/results")).json()["groups"]
    assert group["stdout"] == "two\n"  # what came before it was begun anew does not count


@pytest.mark.parametrize("of_job", [False, True])
async def test_a_stream_ends_its_output_with_the_right_to_read_it(scene: Place, of_job: bool) -> None:
    await scene.cluster("edge-1")
    client, other = await scene.operator(), await scene.operator("olga")
    run = await begin(client, "kubectl", "logs", "-f", "web", clusters=["edge-1"])
    order = await scene.order("edge-1")
    await order.say("stdout", "one\n")
    path = f"jobs/{order.job.job_id}/events?follow=1" if of_job else f"commands/runs/{run['id']}/events"
    async with TaskOwner("reader") as owner:
        reading = owner.spawn("read", other.get(f"/api/v1/{path}"))
        await until(lambda: scene.app.control.metrics.streams_open._value.get() == 1)
        async with scene.app.control.db.begin() as tx:
            user = await tx.scalar(select(User).where(User.username == "olga"))
            assert user is not None
            await tx.execute(update(Grant).where(Grant.subject_id == user.id).values(role="viewer"))
            scene.app.control.access.changed(tx)
        await order.say("stdout", "two\n")
        await order.end(0)
        await scene.ended(client, run["id"])
        text = (await reading).text
    assert ("two" in text, "succeeded" in text) == (False, True)


async def test_a_project_is_as_far_as_its_grant_goes_on_a_docker_host(scene: Place) -> None:
    await scene.cluster("host-1", capabilities=COMPOSE)
    client = await scene.app.user("paul", Role.OPERATOR, reach=Reach(ScopeKind.PROJECT, project="shop"))
    for program, arguments in (("docker", ["ps"]), ("compose", ["-p", "blog", "ps"]), ("docker", ["restart", "blog"])):
        body = {"program": program, "arguments": arguments, "clusters": ["host-1"]}
        assert (await client.post("/api/v1/commands/runs", json=body)).status_code == 403, arguments
    run = await begin(client, "compose", "restart", "web", project="shop", clusters=["host-1"])
    order = await scene.order("host-1")
    assert (order.payload["project"], order.payload["arguments"]) == ("shop", ["restart", "web"])
    await order.answer("web restarted\n")
    assert (await scene.ended(client, run["id"]))["state"] == "succeeded"


async def audited(scene: Place, action: str) -> list[AuditEvent]:
    return [row for row in await scene.app.rows(AuditEvent) if row.action == action]


async def events(client: httpx.AsyncClient, run_id: str, *, after: str = "") -> list[tuple[str, dict[str, Any], str]]:
    """Everything that the stream of a run that has ended says: kind, data, id."""
    answer = await client.get(f"/api/v1/commands/runs/{run_id}/events", params={"after": after})
    found = []
    for event in parse_events(answer.text.splitlines()):
        found.append((event.kind, json.loads(event.data), event.id))
    return found

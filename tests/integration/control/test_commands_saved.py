"""Saved commands: added, filled in, run, changed and removed by those who may."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.command_runs import Place, place
from tests.support.control_app import ControlApp

from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent

LOGS: dict[str, Any] = {
    "name": "logs", "program": "kubectl", "arguments": ["logs", "deploy/{{app}}", "-n", "{{ns}}"],
    "defaults": {"ns": "shop"}, "description": "the log of an app", "selector": "env=prod",
}  # fmt: skip


@pytest.fixture
async def scene(control_app: ControlApp) -> AsyncIterator[Place]:
    async with place(control_app) as made:
        yield made


async def test_a_saved_command_is_run_with_values_where_its_labels_say(scene: Place) -> None:
    await scene.cluster("edge-1", labels={"env": "prod"})
    await scene.cluster("edge-2")
    client = await scene.operator()
    made = await client.post("/api/v1/commands/saved", json=LOGS)
    assert (made.status_code, made.json()["parameters"]) == (201, ["app", "ns"])
    body = {"saved": "logs", "values": {"app": "web; id"}}
    refused = await client.post("/api/v1/commands/runs", json=body)
    assert refused.status_code == 422  # one argument, and no name of an object
    run = (await client.post("/api/v1/commands/runs", json={"saved": "logs", "values": {"app": "web"}})).json()
    order = await scene.order("edge-1")
    assert order.payload["arguments"] == ["logs", "deploy/web", "-n", "shop"]
    await order.answer("a line\n")
    assert (await scene.ended(client, run["id"]))["saved"] == "logs"


async def test_a_missing_or_unknown_value_is_named(scene: Place) -> None:
    client = await scene.operator()
    await client.post("/api/v1/commands/saved", json=LOGS)
    for values, word in (
        ({}, "app must be given"),
        ({"app": "a", "x": "b"}, "'x'"),
        ({"app": "a", "ns": "-A"}, "option"),
    ):
        answer = await client.post("/api/v1/commands/preview", json={"saved": "logs", "values": values})
        assert (answer.status_code, word in answer.text) == (422, True), answer.text
    assert (await client.post("/api/v1/commands/preview", json={"saved": "none"})).status_code == 404


async def test_whoever_saved_it_and_admins_change_it(scene: Place) -> None:
    client, other, admin = (
        await scene.operator(),
        await scene.operator("olga"),
        await scene.app.user("anna", Role.ADMIN),
    )
    viewer = await scene.app.user("vera", Role.VIEWER)
    await client.post("/api/v1/commands/saved", json=LOGS)
    path = "/api/v1/commands/saved/logs"
    assert (await viewer.get(path)).status_code == 403
    assert (await other.get(path)).status_code == 200
    for method in ("PATCH", "DELETE"):
        assert (await other.request(method, path, json={})).status_code == 403
    changed = await client.patch(path, json={"arguments": ["logs", "{{pod}}"], "defaults": {}})
    assert (changed.status_code, changed.json()["parameters"]) == (200, ["pod"])
    assert (await client.patch(path, json={"defaults": {"x": "y"}})).status_code == 422
    assert (await admin.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    actions = [row.action for row in await scene.app.rows(AuditEvent) if row.target_kind == "command"]
    assert actions == ["command.save", "command.change", "command.remove"]


async def test_a_name_is_given_once(scene: Place) -> None:
    client = await scene.operator()
    assert (await client.post("/api/v1/commands/saved", json=LOGS)).status_code == 201
    again = await client.post("/api/v1/commands/saved", json=LOGS)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")
    bad = LOGS | {"name": "other", "arguments": ["{{ Bad }}"]}
    assert (await client.post("/api/v1/commands/saved", json=bad)).status_code == 422
    listed = (await client.get("/api/v1/commands/saved")).json()
    assert [one["name"] for one in listed["items"]] == ["logs"]

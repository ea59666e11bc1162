"""Manifests by the API: who may have one, what its token brings in, and what is on record."""

import pytest
import yaml
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import Identity

from towline.control.access.permissions import Role
from towline.control.agents.models import Agent
from towline.control.audit.models import AuditEvent

PATH = "/api/v1/clusters/prod/kubernetes/manifest"


async def test_a_manifest_needs_a_login(control_app: ControlApp) -> None:
    assert (await control_app.client().post(PATH, json={})).status_code == 401


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.DEPLOYER])
async def test_a_manifest_is_for_administrators(small_app: ControlApp, role: Role) -> None:
    client = await small_app.user("ada", role)
    assert (await client.post(PATH, json={})).status_code == 403


async def test_the_token_of_a_manifest_brings_in_an_agent_of_several_instances(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    answer = await admin.post(PATH, json={"replicas": 2, "labels": {"env": "prod"}})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    secret = next(one for one in yaml.safe_load_all(made["manifest"]) if one["kind"] == "Secret")
    token = secret["stringData"]["token"]
    enrolled = (await Identity().enrol(control_app.client(), token)).json()
    assert enrolled["cluster_name"] == "prod"
    row = (await control_app.rows(Agent))[0]
    assert (row.state, row.max_instances) == ("active", 3)
    shown = (await admin.get("/api/v1/clusters/prod")).json()
    assert shown["labels"] == {"env": "prod"}
    assert (shown["agents"][0]["max_instances"], shown["agents"][0]["instances"]) == (3, [])
    events = {event.action: event for event in await control_app.rows(AuditEvent)}
    assert events["cluster.manifest"].detail["replicas"] == 2
    assert token not in repr([event.detail for event in events.values()])


async def test_a_manifest_for_a_known_cluster_declares_its_instances_anew(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    first = (await admin.post(PATH, json={})).json()
    assert first["replaces"] is False
    secret = next(one for one in yaml.safe_load_all(first["manifest"]) if one["kind"] == "Secret")
    await Identity().enrol(control_app.client(), secret["stringData"]["token"])
    second = (await admin.post(PATH, json={"replicas": 3})).json()
    assert second["replaces"] is True
    assert (await control_app.rows(Agent))[0].max_instances == 4


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("prod", {"namespace": "../etc"}),
        ("prod", {"profile": "cluster-admin"}),
        ("prod", {"profile": "namespaced"}),
        ("prod", {"replicas": 0}),
        ("prod", {"server": "https://a.example/path"}),
        ("prod", {"server": "http://elsewhere.example"}),
        ("prod", {"image": "a b"}),
        ("prod", {"unknown": 1}),
        ("prod_eu", {}),
    ],
)
async def test_a_choice_that_cannot_be_makes_no_token(small_app: ControlApp, name: str, body: object) -> None:
    admin = await small_app.user("ada", Role.ADMIN)
    answer = await admin.post(f"/api/v1/clusters/{name}/kubernetes/manifest", json=body)
    assert answer.status_code == 422, answer.text
    assert (await admin.get("/api/v1/join-tokens")).json()["total"] == 0


async def test_the_join_dialog_shows_the_manifest_beside_kubectl(small_app: ControlApp) -> None:
    admin = await small_app.user("ada", Role.ADMIN)
    asked = await admin.get("/fleet/join/kubernetes")
    assert asked.status_code == 200, asked.text
    assert 'name="cluster_name"' in asked.text
    form = {"cluster_name": "prod-eu", "profile": "read-only", "replicas": "2", "inventory": "1", "image": "x"}
    made = await admin.post("/fleet/join/kubernetes", data=form)
    assert made.status_code == 200, made.text
    assert "kubectl apply -f -" in made.text
    assert "twj_" in made.text
    assert made.headers["cache-control"] == "no-store"
    wrong = await admin.post("/fleet/join/kubernetes", data=form | {"cluster_name": "No_Name"})
    assert "twj_" not in wrong.text
    assert "lower-case letters" in wrong.text

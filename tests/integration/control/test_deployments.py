"""Deployments over the API: who may, what is stored, what an order holds, what the end of a job changes."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from tests.support.control_app import ControlApp
from tests.support.deployments import WEB, World

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.db import metadata
from towline.control.deployments import upkeep
from towline.control.deployments.models import Revision, SecretVersion

SECRET = "planted-secret-5a17c0"
HERE = "/api/v1/clusters/edge/deployments/shop"


@pytest.fixture
async def world(control_app: ControlApp) -> AsyncIterator[World]:
    world = World(control_app)
    await world.cluster("edge", env="prod")
    yield world


@pytest.fixture
async def dora(world: World) -> httpx.AsyncClient:
    return await world.app.user("dora", Role.DEPLOYER)


# -- who may ---------------------------------------------------------------------------------------

ROUTES: list[tuple[str, str, Any, Role]] = [
    ("GET", "/api/v1/deployments", None, Role.VIEWER),
    ("GET", HERE, None, Role.VIEWER),
    ("PATCH", HERE, {}, Role.DEPLOYER),
    ("POST", f"{HERE}/revisions", {"compose": WEB}, Role.DEPLOYER),
    ("POST", f"{HERE}/validate", {"compose": WEB}, Role.DEPLOYER),
    ("POST", f"{HERE}/diff", {"compose": WEB}, Role.DEPLOYER),
    ("GET", f"{HERE}/revisions", None, Role.VIEWER),
    ("GET", f"{HERE}/revisions/1", None, Role.VIEWER),
    ("GET", f"{HERE}/revisions/1/diff", None, Role.VIEWER),
    ("POST", f"{HERE}/rollback", {}, Role.DEPLOYER),
    ("POST", f"{HERE}/redeploy", {}, Role.DEPLOYER),
    ("POST", f"{HERE}/adopt", {}, Role.DEPLOYER),
    ("POST", f"{HERE}/stop", {}, Role.OPERATOR),
    ("POST", f"{HERE}/start", {}, Role.OPERATOR),
    ("POST", f"{HERE}/restart", {}, Role.OPERATOR),
    ("POST", f"{HERE}/scale", {"services": {"web": 2}}, Role.DEPLOYER),
    ("POST", f"{HERE}/remove", {}, Role.DEPLOYER),
    ("POST", f"{HERE}/prune", None, Role.DEPLOYER),
]
ORDER = list(Role)


async def test_nobody_without_a_token_gets_anything(world: World) -> None:
    for method, url, body, _ in ROUTES:
        assert (await world.app.client().request(method, url, json=body)).status_code == 401, (method, url)


async def test_each_role_may_what_it_holds_and_no_more(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    for role in ORDER[:3]:
        client = await world.app.user(f"one-{role}", role)
        for method, url, body, least in ROUTES:
            answer = await client.request(method, url, json=body)
            allowed = ORDER.index(role) >= ORDER.index(least)
            assert (answer.status_code != 403) is allowed, (role, method, url, answer.text)
            assert answer.status_code < 500, (method, url, answer.text)


async def test_another_organisation_and_another_project_find_nothing(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    eve = await world.app.user("eve", Role.OWNER, org_id=await world.app.org("other"))
    blog = await world.app.user("bob", Role.ADMIN, reach=Reach(ScopeKind.PROJECT, project="blog"))
    for client in (eve, blog):
        assert (await client.get("/api/v1/deployments")).json()["items"] == []
        for method, url, body, _ in ROUTES[1:]:
            answer = await client.request(method, url, json=body)
            assert answer.status_code == 404, (method, url, answer.text)


async def test_a_grant_on_a_project_reaches_exactly_that_project(world: World) -> None:
    client = await world.app.user("pat", Role.DEPLOYER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    await world.deploy(client, "edge", "shop")
    refused = await client.post("/api/v1/clusters/edge/deployments/blog/revisions", json={"compose": WEB})
    assert refused.status_code == 404
    listed = (await client.get("/api/v1/deployments")).json()
    assert [each["name"] for each in listed["items"]] == ["shop"]
    by_label = await world.app.user("lea", Role.VIEWER, reach=Reach(ScopeKind.SELECTOR, selector=(("env", "prod"),)))
    assert (await by_label.get("/api/v1/deployments")).json()["total"] == 1
    other = await world.app.user("lou", Role.VIEWER, reach=Reach(ScopeKind.SELECTOR, selector=(("env", "test"),)))
    assert (await other.get("/api/v1/deployments")).json()["total"] == 0


# -- revisions -------------------------------------------------------------------------------------


async def test_revisions_are_numbered_and_remember_who_and_why(world: World, dora: httpx.AsyncClient) -> None:
    first = await world.good(dora, "edge", "shop", message="begin")
    second = await world.deploy(dora, "edge", "shop", message="more")
    assert (first["revision"]["number"], second["revision"]["number"]) == (1, 2)
    assert second["job"]["kind"] == "compose.deploy"
    listed = (await dora.get(f"{HERE}/revisions")).json()
    assert [(each["number"], each["author"], each["message"], each["outcome"]) for each in listed["items"]] == [
        (2, "dora", "more", "pending"),
        (1, "dora", "begin", "good"),
    ]
    assert listed["items"][0]["base_revision"] == 1
    shown = (await dora.get(f"{HERE}/revisions/1")).json()
    assert shown["compose"] == WEB
    assert (await dora.get(f"{HERE}/revisions/9")).json()["error"]["code"] == "revision_not_found"


async def test_a_deploy_that_succeeds_records_digests_and_becomes_the_running_one(
    world: World, dora: httpx.AsyncClient
) -> None:
    made = await world.good(dora, "edge", "shop")
    shown = (await dora.get(HERE)).json()
    assert (shown["revision"], shown["desired_revision"], shown["last_good_revision"]) == (1, 1, 1)
    revision = (await dora.get(f"{HERE}/revisions/1")).json()
    assert (revision["outcome"], revision["job_id"]) == ("good", made["job"]["id"])
    assert revision["images"]["web"].startswith("shop/web@sha256:")


async def test_a_deploy_that_fails_tells_why_and_the_old_one_counts_as_running(
    world: World, dora: httpx.AsyncClient
) -> None:
    first = await world.good(dora, "edge", "shop")
    second = await world.deploy(dora, "edge", "shop", WEB + '    command: ["false"]\n')
    detail = {
        "rolled_back_to": 1,
        "running_revision_id": first["revision"]["id"],
        "failing": [{"service": "web", "reason": "exited with 1", "log_tail": ["no database"]}],
    }
    await world.end(second["job"]["id"], "failed", detail, error="web: exited with 1", code="unhealthy")
    shown = (await dora.get(HERE)).json()
    assert (shown["revision"], shown["latest_revision"], shown["last_good_revision"]) == (1, 2, 1)
    assert shown["desired_revision"] == 1
    revision = (await dora.get(f"{HERE}/revisions/2")).json()
    assert (revision["outcome"], revision["error"], revision["code"]) == ("failed", "web: exited with 1", "unhealthy")
    assert revision["rolled_back_to"] == 1
    assert revision["failing"][0]["log_tail"] == ["no database"]
    vera = await world.app.user("vera", Role.VIEWER)
    listed = (await vera.get(f"{HERE}/revisions")).json()["items"][0]
    for seen in (listed, (await vera.get(f"{HERE}/revisions/2")).json()):
        assert seen["failing"] == [{"service": "web", "reason": "exited with 1"}]


async def test_a_failure_is_told_until_a_later_deploy_goes_well(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    await world.report(await _edge(world), web={"project": "shop", "state": "running"})
    failed = await world.deploy(dora, "edge", "shop")
    await world.end(failed["job"]["id"], "failed", {}, error="cannot pull\nmore " + "x" * 500, code="pull_failed")
    assert (await dora.get(HERE)).json()["reason"] == "revision 1 runs; revision 2 failed: cannot pull"
    again = (await dora.post(f"{HERE}/redeploy")).json()
    await world.end(again["job"]["id"], "succeeded")
    assert (await dora.get(HERE)).json()["reason"] == ""


async def test_bad_files_are_refused_with_their_place_before_anything_is_stored(
    world: World, dora: httpx.AsyncClient
) -> None:
    answer = await dora.post(f"{HERE}/revisions", json={"compose": "services:\n  web:\n    image: shop/WEB\n"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "compose_invalid")
    problem = error["detail"]["problems"][0]
    assert (problem["line"], problem["path"]) == (3, "services.web.image")
    answer = await dora.post(f"{HERE}/revisions", json={"compose": WEB + "    privileged: true\n"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "policy_violation")
    assert await world.app.rows(Revision) == []
    assert world.queue.jobs == {}


async def test_names_outside_the_grammar_are_refused(world: World, dora: httpx.AsyncClient) -> None:
    for name in ("-rf", "a;id", "$(id)", "`id`", "UPPER", "x" * 64, "é", "a b", "%0a"):
        url = httpx.URL(f"https://towline.test/api/v1/clusters/edge/deployments/{name}/revisions")
        assert (await dora.post(url, json={"compose": WEB})).status_code == 422, name


async def test_somebody_elses_revision_in_between_is_a_conflict(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    await world.good(dora, "edge", "shop")
    answer = await dora.post(f"{HERE}/revisions", json={"compose": WEB, "base_revision": 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "revision_moved")
    assert (await dora.post(f"{HERE}/revisions", json={"compose": WEB, "base_revision": 2})).status_code == 202


async def test_a_repeated_request_makes_nothing_new(world: World, dora: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "build-7"}
    first = await dora.post(f"{HERE}/revisions", json={"compose": WEB}, headers=key)
    again = await dora.post(f"{HERE}/revisions", json={"compose": WEB}, headers=key)
    assert first.json() == again.json()
    other = await dora.post(f"{HERE}/revisions", json={"compose": WEB, "message": "x"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert len(await world.app.rows(Revision)) == 1


async def test_every_change_is_on_record_without_values(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop", secrets={"key": SECRET}, env=f"A={SECRET}\n")
    await dora.post(f"{HERE}/restart", json={})
    events = [event for event in await world.app.rows(AuditEvent) if event.target_kind == "deployment"]
    assert [event.action for event in events] == ["deployment.deploy", "deployment.restart"]
    assert events[0].detail["secret_names"] == ["key"]
    assert SECRET not in str([event.detail for event in events])


# -- secrets ---------------------------------------------------------------------------------------


async def test_secrets_reach_the_agent_sealed_and_nobody_else(world: World, dora: httpx.AsyncClient) -> None:
    made = await world.deploy(
        dora, "edge", "shop", secrets={"key": SECRET}, env=f"B={SECRET}\n", variables={"C": SECRET}
    )
    order = await world.order(made["job"]["id"])
    assert order["secret_names"] == ("key",) or list(order["secret_names"]) == ["key"]
    opened = world.agents.open(world.org_id, order["deployment_id"], base64.b64decode(order["sealed_secrets"]))
    assert opened == {"key": SECRET}
    assert (order["env"], order["variables"]) == (f"B={SECRET}\n", {"C": SECRET})
    async with world.db.read() as tx:
        for table in metadata.sorted_tables:
            for row in (await tx.execute(sa.select(table))).all():
                assert SECRET not in repr(tuple(row)), table.name


async def test_no_answer_shows_a_secret_and_a_viewer_sees_no_values_at_all(
    world: World, dora: httpx.AsyncClient
) -> None:
    await world.good(dora, "edge", "shop", secrets={"key": SECRET}, env="B=visible-to-deployers\n")
    vera = await world.app.user("vera", Role.VIEWER)
    for client in (dora, vera):
        for method, url, body, _ in ROUTES:
            if method == "GET":
                assert SECRET not in (await client.request(method, url, json=body)).text
    assert (await dora.get(f"{HERE}/revisions/1")).json()["env"] == "B=visible-to-deployers\n"
    shown = (await vera.get(f"{HERE}/revisions/1")).json()
    assert (shown["env"], shown["variable_values"]) == (None, None)
    assert shown["secrets"] == [{"name": "key", "version": 1}]


async def test_secrets_are_kept_changed_and_dropped_by_revision(world: World, dora: httpx.AsyncClient) -> None:
    async def versions(**secrets: Any) -> dict[str, int]:
        body = {} if secrets.pop("leave_out", False) else {"secrets": secrets}
        made = await world.good(dora, "edge", "shop", **body)
        return {each["name"]: each["version"] for each in made["revision"]["secrets"]}

    assert await versions(key="one", other="x") == {"key": 1, "other": 1}
    assert await versions(leave_out=True) == {"key": 1, "other": 1}
    assert await versions(key="one", other=None) == {"key": 1, "other": 1}
    assert await versions(key="two", other=None) == {"key": 2, "other": 1}
    assert await versions(key=None) == {"key": 2}
    assert await versions(other=None, key=None) == {"key": 2, "other": 1}
    assert await versions() == {}
    missing = await dora.post(f"{HERE}/revisions", json={"compose": WEB, "secrets": {"never": None}})
    assert missing.status_code == 422
    assert len(await world.app.rows(SecretVersion)) == 3


async def test_a_secret_in_an_invalid_request_is_not_echoed(world: World, dora: httpx.AsyncClient) -> None:
    for body in (
        {"compose": WEB, "secrets": {"bad name": SECRET}},
        {"compose": WEB, "secrets": {"key": SECRET * 10_000}},
        {"compose": "services: [", "secrets": {"key": SECRET}},
        {"compose": WEB, "secrets": {"key": SECRET}, "surplus": 1},
    ):
        answer = await dora.post(f"{HERE}/revisions", json=body)
        assert answer.status_code == 422
        assert SECRET not in answer.text


# -- registries and bundles --------------------------------------------------------------------------


async def registry(world: World, name: str = "ghcr", **places: Any) -> None:
    ada = await world.app.user(f"admin-{name}", Role.ADMIN)
    body = {"name": name, "host": "registry.example", "username": "bot", "password": SECRET, "places": places}
    assert (await ada.post("/api/v1/registries", json=body)).status_code == 201


async def test_a_registry_goes_sealed_with_the_order(world: World, dora: httpx.AsyncClient) -> None:
    await registry(world)
    made = await world.deploy(dora, "edge", "shop", registries=["ghcr"])
    order = await world.order(made["job"]["id"])
    opened = world.agents.open(world.org_id, order["deployment_id"], base64.b64decode(order["sealed_registries"]))
    assert opened == [{"host": "registry.example", "username": "bot", "password": SECRET}]


async def test_a_registry_for_other_places_cannot_be_named(world: World, dora: httpx.AsyncClient) -> None:
    await registry(world, projects=["blog"])
    for names in (["ghcr"], ["unknown"]):
        answer = await dora.post(f"{HERE}/revisions", json={"compose": WEB, "registries": names})
        assert answer.status_code == 422


async def test_a_rollback_does_without_a_registry_that_is_gone(world: World, dora: httpx.AsyncClient) -> None:
    await registry(world)
    await world.good(dora, "edge", "shop", registries=["ghcr"])
    await world.good(dora, "edge", "shop")
    ada = await world.app.user("ada", Role.ADMIN)
    await ada.delete("/api/v1/registries/ghcr")
    back = (await dora.post(f"{HERE}/rollback", json={})).json()
    assert not (await world.order(back["job"]["id"])).get("sealed_registries")


async def test_a_bundle_must_exist_and_is_handed_to_the_agent(world: World, dora: httpx.AsyncClient) -> None:
    from tests.integration.control.test_bundles import tar

    unknown = await dora.post(f"{HERE}/revisions", json={"compose": WEB, "bundle": "sha256:" + "0" * 64})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "bundle_not_found")
    sent = await dora.put("/api/v1/bundles", content=tar(**{"app.env": b"A=1"}))
    made = await world.deploy(dora, "edge", "shop", WEB + "    env_file: app.env\n", bundle=sent.json()["digest"])
    order = await world.order(made["job"]["id"])
    assert order["bundle"] == sent.json()["digest"]
    assert [digest for _, digest in world.agents.bundles] == [order["bundle"]]


# -- diff and validate -------------------------------------------------------------------------------


async def test_the_diff_says_which_services_change_and_why(world: World, dora: httpx.AsyncClient) -> None:
    first = (await dora.post(f"{HERE}/diff", json={"compose": WEB})).json()
    assert (first["against"], first["services"][0]["change"]) == (0, "added")
    await world.good(dora, "edge", "shop")
    same = (await dora.post(f"{HERE}/diff", json={"compose": WEB})).json()
    assert not same["changes_containers"]
    changed = (await dora.post(f"{HERE}/diff", json={"compose": WEB.replace(":1", ":2")})).json()
    assert (changed["against"], changed["services"][0]["change"]) == (1, "recreated")
    assert any("image" in reason for reason in changed["services"][0]["reasons"])
    assert [line["sign"] for line in changed["lines"]].count("+") == 1


async def test_revisions_are_compared_with_the_one_before(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop", image=1)
    await world.good(dora, "edge", "shop", image=1, compose=WEB + "  db:\n    image: shop/db:1\n")
    found = (await dora.get(f"{HERE}/revisions/2/diff")).json()
    assert {each["name"]: each["change"] for each in found["services"]} == {"web": "unchanged", "db": "added"}
    assert (await dora.get(f"{HERE}/revisions/1/diff")).json()["against"] == 0
    back = (await dora.get(f"{HERE}/revisions/1/diff?against=2")).json()
    assert {each["name"]: each["change"] for each in back["services"]}["db"] == "removed"


async def test_a_diff_names_changed_values_and_shows_none(world: World, dora: httpx.AsyncClient) -> None:
    compose = WEB + "    environment: {A: '${A}'}\n    secrets: [key]\n"
    await world.good(dora, "edge", "shop", compose=compose, env="A=old-value\n", secrets={"key": "old-secret"})
    body = {"compose": compose, "env": "A=new-value\n", "secrets": {"key": "new-secret"}}
    answer = await dora.post(f"{HERE}/diff", json=body)
    found = answer.json()
    assert (found["variables"], found["secrets"]) == (["A"], ["key"])
    assert found["services"][0]["change"] == "recreated"
    assert not any(value in answer.text for value in ("old-value", "new-value", "old-secret", "new-secret"))


async def test_validation_lists_every_problem_and_changes_nothing(world: World, dora: httpx.AsyncClient) -> None:
    answer = await dora.post(
        f"{HERE}/validate", json={"compose": "services:\n  web:\n    image: shop/WEB\n    privileged: true\n"}
    )
    found = answer.json()
    assert not found["valid"]
    assert {problem["path"] for problem in found["problems"]} >= {"services.web.image", "services.web.privileged"}
    assert (await dora.post(f"{HERE}/validate", json={"compose": WEB})).json()["valid"]
    assert (await dora.get(HERE)).status_code == 404


async def test_validation_on_the_host_is_a_job_whose_row_holds_no_values(world: World, dora: httpx.AsyncClient) -> None:
    body = {"compose": WEB, "env": f"A={SECRET}\n", "secrets": {"key": SECRET}, "on_host": True}
    job = (await dora.post(f"{HERE}/validate", json=body)).json()["job"]
    assert SECRET not in str(world.queue.jobs[job["id"]].payload)
    order = await world.order(job["id"])
    assert (order["compose"], order["env"]) == (WEB, f"A={SECRET}\n")
    assert SECRET not in str(order.get("sealed_secrets", ""))


# -- rollback, redeploy, adopt -------------------------------------------------------------------------


async def test_rollback_without_a_number_returns_to_the_last_good_one_by_its_digests(
    world: World, dora: httpx.AsyncClient
) -> None:
    first = await world.good(dora, "edge", "shop", message="one")
    failed = await world.deploy(dora, "edge", "shop", message="two")
    await world.end(failed["job"]["id"], "failed", {"running_revision_id": first["revision"]["id"]}, code="unhealthy")
    await world.good(dora, "edge", "shop", message="three")
    answer = await dora.post(f"{HERE}/rollback")
    assert answer.status_code == 202, answer.text
    assert answer.json()["revision"]["number"] == 1
    order = await world.order(answer.json()["job"]["id"])
    assert order["image_pins"] == {"web": f"shop/web@sha256:{1:064x}"}
    assert order["revision_id"] == first["revision"]["id"]
    shown = (await dora.get(HERE)).json()
    assert (shown["revision"], shown["desired_revision"]) == (3, 1)
    assert shown["reason"] == "rolling back to revision 1 waits for its turn"
    await world.end(answer.json()["job"]["id"], "succeeded")
    shown = (await dora.get(HERE)).json()
    assert (shown["revision"], shown["last_good_revision"]) == (1, 1)


async def test_rollback_goes_to_any_named_revision_that_still_has_its_files(
    world: World, dora: httpx.AsyncClient
) -> None:
    for _ in range(3):
        await world.good(dora, "edge", "shop")
    assert (await dora.post(f"{HERE}/rollback", json={"revision": 2})).json()["revision"]["number"] == 2
    assert (await dora.post(f"{HERE}/rollback", json={"revision": 9})).status_code == 404


async def test_rollback_with_nowhere_to_go_is_a_conflict(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    answer = await dora.post(f"{HERE}/rollback", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


async def test_an_order_names_the_revision_to_put_back(world: World, dora: httpx.AsyncClient) -> None:
    first = await world.good(dora, "edge", "shop")
    second = await world.deploy(dora, "edge", "shop", options={"auto_rollback": False, "pull": "always"})
    order = await world.order(second["job"]["id"])
    assert order["fallback_revision_id"] == first["revision"]["id"]
    assert (order["auto_rollback"], order["pull"]) == (False, "always")
    assert "image_pins" not in order


async def test_redeploy_takes_fresh_images_of_the_same_revision(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    answer = (await dora.post(f"{HERE}/redeploy")).json()
    order = await world.order(answer["job"]["id"])
    assert (order["revision"], order["pull"]) == (1, "always")
    assert "image_pins" not in order
    await world.end(answer["job"]["id"], "failed", {}, error="x", code="unhealthy")
    assert (await dora.get(f"{HERE}/revisions/1")).json()["outcome"] == "good"


async def test_adoption_takes_over_what_runs_with_its_files(world: World, dora: httpx.AsyncClient) -> None:
    from towline.wire import link

    cluster_id = await _edge(world)
    assert (await dora.post(f"{HERE}/adopt")).status_code == 404
    await world.report(cluster_id, project=link.Project(name="shop", folder="/srv/shop"))
    answer = await dora.post(f"{HERE}/adopt", json={"message": "found it"})
    assert answer.status_code == 202, answer.text
    order = await world.order(answer.json()["job"]["id"])
    assert order["revision_id"] == answer.json()["revision"]["id"]
    detail = {"compose": WEB, "env": f"A={SECRET}\n", "folder": "/srv/shop", "images": {"web": "sha256:" + "a" * 64}}
    await world.end(answer.json()["job"]["id"], "succeeded", detail)
    shown = (await dora.get(HERE)).json()
    assert (shown["revision"], shown["folder"]) == (1, "/srv/shop")
    revision = (await dora.get(f"{HERE}/revisions/1")).json()
    assert (revision["source"], revision["outcome"], revision["compose"]) == ("adopt", "adopted", WEB)
    assert (await dora.post(f"{HERE}/adopt")).status_code == 409


async def _edge(world: World) -> str:
    from towline.control.clusters import repository as clusters

    async with world.db.read() as tx:
        row = await clusters.find(tx, world.org_id, "edge")
        assert row is not None
        return row.id


# -- operations ----------------------------------------------------------------------------------------


async def test_stop_names_who_and_start_clears_it(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    stop = (await dora.post(f"{HERE}/stop")).json()["job"]
    assert await world.order(stop["id"]) == {"project": "shop"}
    await world.end(stop["id"], "succeeded")
    shown = (await dora.get(HERE)).json()
    assert (shown["state"], shown["reason"]) == ("down", "stopped by dora")
    start = (await dora.post(f"{HERE}/start", json={"services": ["web"]})).json()["job"]
    await world.end(start["id"], "succeeded")
    assert (await dora.get(HERE)).json()["reason"] == "no container"
    unknown = await dora.post(f"{HERE}/restart", json={"services": ["nothing"]})
    assert (unknown.status_code, "web" in unknown.json()["error"]["hint"]) == (422, True)


async def test_scale_holds_until_a_revision_names_another_number(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    job = (await dora.post(f"{HERE}/scale", json={"services": {"web": 3}})).json()["job"]
    assert (await world.order(job["id"]))["services"] == {"web": 3}
    await world.end(job["id"], "succeeded")
    assert (await dora.get(HERE)).json()["services"][0]["replicas"]["wanted"] == 3
    same = await world.good(dora, "edge", "shop")
    assert (await world.order(same["job"]["id"]))["scales"] == {"web": 3}
    named = await world.deploy(dora, "edge", "shop", WEB + "    scale: 2\n")
    assert "scales" not in await world.order(named["job"]["id"])
    for count in (-1, 101, True, "2", 1.5):
        assert (await dora.post(f"{HERE}/scale", json={"services": {"web": count}})).status_code == 422


async def test_remove_takes_it_off_the_list_and_a_new_revision_brings_it_back(
    world: World, dora: httpx.AsyncClient
) -> None:
    await world.good(dora, "edge", "shop")
    job = (await dora.post(f"{HERE}/remove", json={"volumes": ["data"]})).json()["job"]
    order = await world.order(job["id"])
    assert (order["project"], list(order["volumes"])) == ("shop", ["data"])
    await world.end(job["id"], "succeeded")
    assert (await dora.get("/api/v1/deployments")).json()["items"] == []
    assert (await dora.get("/api/v1/deployments?removed=true")).json()["total"] == 1
    assert (await dora.get(HERE)).json()["reason"] == "removed from the host"
    again = await world.good(dora, "edge", "shop")
    assert again["revision"]["number"] == 2
    assert (await dora.get("/api/v1/deployments")).json()["total"] == 1


async def test_prune_spares_the_images_of_the_last_good_revisions(world: World, dora: httpx.AsyncClient) -> None:
    for _ in range(3):
        await world.good(dora, "edge", "shop")
    await dora.patch(HERE, json={"keep_revisions": 2})
    job = (await dora.post(f"{HERE}/prune")).json()["job"]
    order = await world.order(job["id"])
    assert list(order["keep_images"]) == [f"shop/web@sha256:{number:064x}" for number in (2, 3)]


async def test_settings_change_and_the_policy_level_is_for_those_who_manage_the_cluster(
    world: World, dora: httpx.AsyncClient
) -> None:
    await world.good(dora, "edge", "shop")
    changed = await dora.patch(HERE, json={"auto_rollback": False, "labels": {"team": "a"}})
    assert (changed.json()["auto_rollback"], changed.json()["labels"]) == (False, {"team": "a"})
    assert (await dora.patch(HERE, json={"policy_level": "privileged"})).status_code == 403
    ada = await world.app.user("ada", Role.ADMIN)
    assert (await ada.patch(HERE, json={"policy_level": "privileged"})).json()["policy_level"] == "privileged"
    assert (await dora.post(f"{HERE}/revisions", json={"compose": WEB + "    privileged: true\n"})).status_code == 202


# -- state ---------------------------------------------------------------------------------------------


async def test_the_state_is_what_the_host_reports(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    cluster_id = await _edge(world)
    await world.report(cluster_id, web={"project": "shop", "state": "running", "image": "shop/web:1", "ports": ("80",)})
    shown = (await dora.get(HERE)).json()
    assert (shown["state"], shown["reason"]) == ("healthy", "")
    assert shown["services"][0] == {
        "name": "web", "image": "shop/web:1", "state": "healthy", "replicas": {"running": 1, "wanted": 1},
        "health": "", "reason": "", "ports": ["80"],
    }  # fmt: skip
    await world.report(
        cluster_id, web={"project": "shop", "state": "exited", "exit_code": 137, "oom_killed": True, "restarts": 3}
    )
    shown = (await dora.get(HERE)).json()
    assert (shown["state"], shown["reason"]) == ("down", "web: exited with 137 (out of memory), 3 restarts")


async def test_stored_states_follow_for_lists_and_filters(world: World, dora: httpx.AsyncClient) -> None:
    await world.feature.upkeep.stop()  # so that what changes is counted here
    await world.good(dora, "edge", "shop")
    await world.good(dora, "edge", "blog")
    await world.report(await _edge(world), web={"project": "shop", "state": "running"})
    assert await world.feature.upkeep.refresh() == 2
    assert await world.feature.upkeep.refresh() == 0
    healthy = (await dora.get("/api/v1/deployments?state=healthy")).json()
    assert [each["name"] for each in healthy["items"]] == ["shop"]
    down = (await dora.get("/api/v1/deployments?state=down&cluster=edge&search=LO")).json()
    assert [each["name"] for each in down["items"]] == ["blog"]
    assert (await dora.get("/api/v1/deployments?state=odd")).status_code == 422
    assert (await dora.get("/api/v1/deployments?cluster=nowhere")).json()["total"] == 0


async def test_lists_are_paged_and_sorted(world: World, dora: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await world.deploy(dora, "edge", name)
    first = (await dora.get("/api/v1/deployments?limit=2&sort=-name")).json()
    assert ([each["name"] for each in first["items"]], first["total"]) == (["c", "b"], 3)
    rest = (await dora.get(f"/api/v1/deployments?limit=2&sort=-name&cursor={first['next_cursor']}")).json()
    assert ([each["name"] for each in rest["items"]], rest["next_cursor"]) == (["a"], None)
    assert (await dora.get("/api/v1/deployments?sort=reason;drop")).status_code == 422
    assert (await dora.get("/api/v1/deployments?limit=1000000000")).status_code == 422


async def test_an_agent_that_is_away_is_told_with_what_waits(world: World, dora: httpx.AsyncClient) -> None:
    await world.cluster("far", connected=False)
    await world.deploy(dora, "far", "shop")
    shown = (await dora.get("/api/v1/clusters/far/deployments/shop")).json()
    assert (shown["state"], shown["reason"]) == ("unknown", "far is away; deploying revision 1 waits for it")


async def test_drift_is_told_in_words(world: World, dora: httpx.AsyncClient) -> None:
    from towline.wire import link

    await world.good(dora, "edge", "shop")
    project = link.Project(name="shop", managed=True, revision=1, drift=("web: it runs another image",))
    await world.report(await _edge(world), project=project, web={"project": "shop", "state": "running"})
    shown = (await dora.get(HERE)).json()
    assert shown["drift"] == ["web: it runs another image"]
    assert shown["state"] == "degraded"


# -- upkeep --------------------------------------------------------------------------------------------


async def test_pruning_that_is_due_is_queued_once_and_only_where_somebody_is(
    world: World, dora: httpx.AsyncClient
) -> None:
    await world.cluster("far", connected=False)
    for place in ("edge", "far"):
        await world.good(dora, place, "shop")
        await dora.patch(f"/api/v1/clusters/{place}/deployments/shop", json={"prune_interval_seconds": 0.000001})
    assert await world.feature.upkeep.prune_due() == 1
    assert await world.feature.upkeep.prune_due() == 0
    prunes = [job for job in world.queue.jobs.values() if job.kind == "compose.prune"]
    assert [job.created_by for job in prunes] == ["scheduled pruning"]


async def test_the_files_of_old_failed_revisions_go_and_good_ones_stay(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop", secrets={"key": "good"})
    for number in range(12):
        made = await world.deploy(dora, "edge", "shop", secrets={"key": f"bad {number}"})
        await world.end(made["job"]["id"], "failed", {}, code="pull_failed")
    await world.feature.upkeep.retain()
    kept = {each.number for each in await world.app.rows(Revision) if each.compose is not None}
    assert kept == {1, *range(4, 14)}
    assert len(await world.app.rows(SecretVersion)) == len(kept)
    gone = await dora.post(f"{HERE}/rollback", json={"revision": 2})
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "conflict")


async def test_old_good_revisions_go_too_but_never_one_that_matters(
    world: World, dora: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "KEEP_GOOD", 1)
    monkeypatch.setattr(upkeep, "KEEP_TRACE_DAYS", -1.0)
    for _ in range(4):
        await world.good(dora, "edge", "shop")
    back = (await dora.post(f"{HERE}/rollback", json={"revision": 1})).json()
    await world.end(back["job"]["id"], "succeeded")
    await world.feature.upkeep.retain()
    left = {each.number: each.compose is not None for each in await world.app.rows(Revision)}
    assert left == {1: True, 4: True}


async def test_ends_and_states_are_counted(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop")
    await world.feature.upkeep.round()
    ended = {"action": "deploy", "outcome": "succeeded"}
    assert world.registry.get_sample_value("towline_deploys_total", ended) == 1
    assert world.registry.get_sample_value("towline_deployments", {"state": "down"}) == 1


async def test_two_who_deploy_at_the_same_moment_get_numbers_of_their_own(
    world: World, dora: httpx.AsyncClient
) -> None:
    """Also the very first two, who both make the deployment."""
    for first in (1, 6):
        made = await asyncio.gather(*(world.deploy(dora, "edge", "shop", message=str(n)) for n in range(5)))
        assert sorted(each["revision"]["number"] for each in made) == list(range(first, first + 5))


async def test_one_idempotency_key_used_at_the_same_moment_makes_one_revision(
    world: World, dora: httpx.AsyncClient
) -> None:
    key = {"idempotency-key": "build-7"}
    sent = [dora.post(f"{HERE}/revisions", json={"compose": WEB}, headers=key) for _ in range(5)]
    answers = await asyncio.gather(*sent)
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["revision"]["id"] for answer in answers} == {answers[0].json()["revision"]["id"]}
    assert len(await world.app.rows(Revision)) == 1


async def test_removing_a_cluster_takes_its_deployments_along(world: World, dora: httpx.AsyncClient) -> None:
    await world.good(dora, "edge", "shop", secrets={"key": "x"})
    ada = await world.app.user("ada", Role.ADMIN)
    assert (await ada.delete("/api/v1/clusters/edge")).status_code == 204
    assert (await dora.get("/api/v1/deployments")).json()["total"] == 0
    assert await world.app.rows(Revision) == []
    assert await world.app.rows(SecretVersion) == []


async def test_an_order_that_cannot_be_made_says_why(world: World, dora: httpx.AsyncClient) -> None:
    from towline.control.errors import ApiError

    made = await world.deploy(dora, "edge", "shop")
    world.agents.away = True
    with pytest.raises(ApiError, match="away"):
        await world.order(made["job"]["id"])

"""Registries over the API: who may see, change and use them, and that a password never comes out."""

import sqlalchemy as sa
from tests.support.control_app import ControlApp

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.clusters import repository as clusters
from towline.control.db import metadata
from towline.control.errors import ApiError
from towline.control.registries.places import Spot

PASSWORD = "hunter2-planted-9c1f"
BODY = {"name": "ghcr", "host": "registry.example", "username": "bot", "password": PASSWORD}


async def cluster(app: ControlApp, name: str, org_id: str = "") -> str:
    async with app.control.db.begin() as tx:
        org_id = org_id or app.control.default_org
        row = await clusters.insert(
            tx, org_id=org_id, name=name, labels={"env": "prod"}, created_by="", moment=await tx.now()
        )
        return row.id


async def test_nobody_without_a_token_reads_or_writes_registries(control_app: ControlApp) -> None:
    client = control_app.client()
    assert (await client.get("/api/v1/registries")).status_code == 401
    assert (await client.get("/api/v1/registries/ghcr")).status_code == 401
    assert (await client.post("/api/v1/registries", json=BODY)).status_code == 401
    assert (await client.patch("/api/v1/registries/ghcr", json={})).status_code == 401
    assert (await client.delete("/api/v1/registries/ghcr")).status_code == 401


async def test_a_deployer_may_not_change_registries(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    assert (await dora.post("/api/v1/registries", json=BODY)).status_code == 403
    assert (await dora.delete("/api/v1/registries/ghcr")).status_code == 403


async def test_a_registry_is_made_shown_changed_and_deleted_without_its_password(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    made = await ada.post("/api/v1/registries", json=BODY)
    assert made.status_code == 201, made.text
    assert made.json()["places"] == {"clusters": [], "projects": [], "labels": {}}
    listed = await ada.get("/api/v1/registries")
    assert [each["name"] for each in listed.json()["items"]] == ["ghcr"]
    changed = await ada.patch("/api/v1/registries/ghcr", json={"username": "robot"})
    assert changed.json()["username"] == "robot"
    for answer in (made, listed, changed, await ada.get("/api/v1/registries/ghcr")):
        assert PASSWORD not in answer.text
        assert "password" not in answer.json()
    assert (await ada.delete("/api/v1/registries/ghcr")).status_code == 204
    assert (await ada.get("/api/v1/registries/ghcr")).status_code == 404
    actions = [event.action for event in await control_app.rows(AuditEvent) if event.target_kind == "registry"]
    assert actions == ["registry.create", "registry.update", "registry.delete"]


async def test_the_database_holds_the_password_sealed_only(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/registries", json=BODY)
    async with control_app.control.db.read() as tx:
        for table in metadata.sorted_tables:
            for row in (await tx.execute(sa.select(table))).all():
                assert PASSWORD.encode() not in repr(tuple(row)).encode()


async def test_a_name_is_taken_once(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/registries", json=BODY)
    again = await ada.post("/api/v1/registries", json=BODY)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")


async def test_a_new_host_needs_the_password_again(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/registries", json=BODY)
    moved = await ada.patch("/api/v1/registries/ghcr", json={"host": "evil.example"})
    assert moved.status_code == 422
    assert (await ada.get("/api/v1/registries/ghcr")).json()["host"] == "registry.example"


async def test_bad_hosts_and_names_are_refused_without_echoing_the_password(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    for change in ({"host": "https://registry.example"}, {"host": "169.254.169.254"}, {"name": "-rf"}, {"extra": 1}):
        answer = await ada.post("/api/v1/registries", json={**BODY, **change})
        assert answer.status_code == 422, change
        assert PASSWORD not in answer.text


async def test_another_organisation_sees_nothing(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/registries", json=BODY)
    eve = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    assert (await eve.get("/api/v1/registries")).json()["items"] == []
    assert (await eve.get("/api/v1/registries/ghcr")).status_code == 404
    assert (await eve.delete("/api/v1/registries/ghcr")).status_code == 404


async def test_clusters_are_named_in_and_out_and_foreign_ones_are_unknown(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await cluster(control_app, "edge")
    await cluster(control_app, "theirs", await control_app.org("other"))
    made = await ada.post("/api/v1/registries", json={**BODY, "places": {"clusters": ["edge"]}})
    assert made.json()["places"]["clusters"] == ["edge"]
    refused = await ada.post("/api/v1/registries", json={**BODY, "name": "b", "places": {"clusters": ["theirs"]}})
    assert refused.status_code == 422


async def test_somebody_of_one_project_sees_what_it_can_use(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/registries", json=BODY)
    await ada.post("/api/v1/registries", json={**BODY, "name": "blog", "places": {"projects": ["blog"]}})
    dora = await control_app.user("dora", Role.DEPLOYER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    assert [each["name"] for each in (await dora.get("/api/v1/registries")).json()["items"]] == ["ghcr"]
    assert (await dora.get("/api/v1/registries/blog")).status_code == 404


async def test_credentials_are_opened_only_for_a_place_that_may_use_them(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    here = await cluster(control_app, "edge")
    await ada.post("/api/v1/registries", json={**BODY, "places": {"clusters": ["edge"], "projects": ["shop"]}})
    service, org_id = control_app.control.registries, control_app.control.default_org
    async with control_app.control.db.read() as tx:
        opened = await service.credentials(tx, org_id, ["ghcr"], Spot(here, "shop"))
        assert (opened[0].host, opened[0].username, opened[0].password) == ("registry.example", "bot", PASSWORD)
        assert PASSWORD not in repr(opened)
        for spot in (Spot(here, "blog"), Spot("clu_other", "shop")):
            try:
                await service.credentials(tx, org_id, ["ghcr"], spot)
            except ApiError as error:
                assert "ghcr" in error.message
            else:
                raise AssertionError(f"opened for {spot}")

"""Tokens for Kubernetes alone: who gets one, how long it lives, what ends it, and that it opens nothing else."""

from datetime import timedelta

import httpx
from sqlalchemy import delete, update
from tests.support.control_app import ADDRESS, ControlApp

from towline.control.access.models import ApiToken, Grant, KubernetesToken
from towline.control.access.permissions import Role
from towline.control.access.secrets import hashed, is_well_formed
from towline.control.access.service import Principal
from towline.control.audit.models import AuditEvent

PATH = "/api/v1/kubernetes/token"


async def minted(client: httpx.AsyncClient) -> str:
    answer = await client.post(PATH)
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


async def speaks_for(app: ControlApp, token: str) -> Principal | None:
    app.control.access.forget()
    return await app.control.kubernetes.bearers.find(token, ADDRESS)


async def test_nobody_gets_one_without_signing_in(small_app: ControlApp) -> None:
    answer = await small_app.client().post(PATH)
    assert answer.status_code == 401


async def test_it_speaks_for_whoever_asked_for_an_hour(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.VIEWER)
    answer = (await ada.post(PATH)).json()
    found = await speaks_for(control_app, answer["token"])
    assert found is not None and (found.actor.username, found.actor.kind) == ("ada", "token")
    assert answer["expires_in"] == 3600
    assert is_well_formed(answer["token"], ("twk",))


async def test_it_opens_nothing_of_the_rest_of_the_api(control_app: ControlApp) -> None:
    token = await minted(await control_app.user("ada", Role.OWNER))
    for method, path in (("GET", "whoami"), ("GET", "clusters"), ("POST", "tokens"), ("POST", "kubernetes/token")):
        answer = await control_app.client(token).request(method, f"/api/v1/{path}")
        assert (path, answer.status_code) == (path, 401)


async def test_only_its_hash_is_kept_and_the_audit_log_names_it_without_its_secret(control_app: ControlApp) -> None:
    token = await minted(await control_app.user("ada", Role.VIEWER))
    row = (await control_app.rows(KubernetesToken))[0]
    assert row.secret_hash == hashed(token)
    events = [event for event in await control_app.rows(AuditEvent) if event.action == "kubernetes.token"]
    assert [(event.actor_name, event.target_id) for event in events] == [("ada", row.token_id)]
    assert token not in str([vars(event) for event in await control_app.rows(AuditEvent)])


async def test_it_ends_with_the_token_that_asked_for_it(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.VIEWER)
    token = await minted(ada)
    await ada.post("/api/v1/logout")
    assert await speaks_for(control_app, token) is None


async def test_it_ends_when_its_user_is_disabled(control_app: ControlApp) -> None:
    owner = await control_app.user("root", Role.OWNER)
    token = await minted(await control_app.user("ada", Role.VIEWER))
    answer = await owner.patch("/api/v1/users/ada", json={"active": False})
    assert answer.status_code == 200, answer.text
    assert await speaks_for(control_app, token) is None


async def test_it_holds_no_right_that_its_user_lost(control_app: ControlApp) -> None:
    token = await minted(await control_app.user("ada", Role.VIEWER))
    async with control_app.control.db.begin() as tx:
        await tx.execute(delete(Grant))
    found = await speaks_for(control_app, token)
    assert found is not None and found.rights.granted == ()


async def test_it_holds_no_more_than_the_limited_token_that_asked_for_it(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    limited = (await ada.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})).json()["token"]
    found = await speaks_for(control_app, await minted(control_app.client(limited)))
    assert found is not None and found.rights.limit is not None
    assert [right.role for right in found.rights.limit] == [Role.VIEWER]


async def test_it_lives_no_longer_than_the_token_that_asked_for_it(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.VIEWER)
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(ApiToken).values(expires_at=await tx.now() + timedelta(seconds=600)))
    assert 590 <= (await ada.post(PATH)).json()["expires_in"] <= 600


async def test_one_that_expired_is_unknown_and_swept(control_app: ControlApp) -> None:
    token = await minted(await control_app.user("ada", Role.VIEWER))
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(KubernetesToken).values(expires_at=await tx.now() - timedelta(seconds=1)))
    assert await speaks_for(control_app, token) is None
    assert (await control_app.control.retention.sweep())["kubernetes_tokens"] == 1

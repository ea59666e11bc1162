"""Tokens over the API: made, limited, used, revoked."""

from tests.support.control_app import ControlApp

from towline.control.access.permissions import Reach, Role, ScopeKind


async def test_no_token_is_unauthenticated(control_app: ControlApp) -> None:
    answer = await control_app.client().get("/api/v1/whoami")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_whoami_names_user_org_roles_and_permissions(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.VIEWER)
    body = (await ada.get("/api/v1/whoami")).json()
    assert body["user"]["username"] == "ada"
    assert body["org"] == {"id": "org_default", "name": "default"}
    assert body["roles"] == [{"role": "viewer", "scope": {"kind": "org"}}]
    assert "cluster.read" in body["permissions"] and "cluster.manage" not in body["permissions"]
    assert body["via"] == "token"


async def test_a_token_is_shown_once_and_revoked_at_once(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.DEPLOYER)
    made = (await ada.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})).json()
    ci = control_app.client(made["token"])
    assert (await ci.get("/api/v1/whoami")).json()["permissions"][0] == "self"
    listed = (await ada.get("/api/v1/tokens")).json()
    assert [token["name"] for token in listed["items"]] == ["ci", "ada"]
    assert made["token"] not in str(listed)
    assert (await ada.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
    assert (await ci.get("/api/v1/whoami")).status_code == 401


async def test_a_limited_token_may_no_more_than_its_limit(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.OWNER)
    made = (await ada.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})).json()
    ci = control_app.client(made["token"])
    assert (await ci.get("/api/v1/users")).status_code == 403
    assert (await ci.post("/api/v1/tokens", json={"name": "x", "role": "owner"})).status_code == 403


async def test_nobody_makes_a_token_with_more_than_they_hold(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.VIEWER)
    answer = await ada.post("/api/v1/tokens", json={"name": "x", "role": "admin"})
    assert answer.status_code == 403


async def test_a_mistyped_token_is_refused_without_asking_the_database(control_app: ControlApp) -> None:
    token = await control_app.token("ada")
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    await control_app.control.db.close()
    answer = await control_app.client(wrong).get("/api/v1/whoami")
    assert answer.status_code == 401


async def test_a_project_reader_sees_no_users(control_app: ControlApp) -> None:
    bob = await control_app.user("bob", Role.ADMIN, reach=Reach(ScopeKind.PROJECT, project="shop"))
    assert (await bob.get("/api/v1/users")).status_code == 403


async def test_a_limited_token_makes_no_freer_one(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.OWNER)
    limited = (await ada.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})).json()["token"]
    child = (await control_app.client(limited).post("/api/v1/tokens", json={"name": "child"})).json()
    assert child["role"] == "viewer"
    assert (await control_app.client(child["token"]).get("/api/v1/users")).status_code == 403

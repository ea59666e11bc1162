"""Users and grants: who may change whom, and that an owner always stays."""

import pytest
from tests.support.control_app import PASSWORD, ControlApp

from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent

NEW = {"username": "bob", "password": PASSWORD, "role": "viewer"}


async def test_strangers_and_readers_see_no_users(control_app: ControlApp) -> None:
    assert (await control_app.client().get("/api/v1/users")).status_code == 401
    viewer = await control_app.user("vic", Role.VIEWER)
    assert (await viewer.get("/api/v1/users")).status_code == 403
    assert (await viewer.get("/api/v1/users/vic")).json()["username"] == "vic"


async def test_an_admin_adds_a_user_who_can_sign_in(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    made = await admin.post("/api/v1/users", json=NEW)
    assert made.status_code == 201
    assert made.json()["grants"][0]["role"] == "viewer"
    login = await control_app.client().post("/api/v1/login", json={"username": "bob", "password": PASSWORD})
    assert login.status_code == 200
    assert PASSWORD not in str([event.detail for event in await control_app.rows(AuditEvent)])


async def test_a_taken_name_is_a_conflict(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    answers = [await admin.post("/api/v1/users", json=NEW | {"username": "ada"}) for _ in range(2)]
    assert [answer.json()["error"]["code"] for answer in answers] == ["name_taken"] * 2


@pytest.mark.parametrize(
    "username",
    [
        "",
        ".",
        "..",
        "-rf",
        "--flag",
        "a;id",
        "$(id)",
        "`id`",
        "a\nb",
        "\U0001f600",
        "\u202eabc",
        "A",
        "x" * 64,
        "x" * 10**5,
    ],
)
async def test_odd_names_are_refused(small_app: ControlApp, username: str) -> None:
    admin = await small_app.user("ada", Role.ADMIN)
    assert (await admin.post("/api/v1/users", json=NEW | {"username": username})).status_code == 422


@pytest.mark.parametrize(
    "body", [{}, [], "x", None, 1, {**NEW, "extra": 1}, {**NEW, "username": 5}, {**NEW, "role": "god"}]
)
async def test_odd_bodies_are_refused_and_not_echoed(small_app: ControlApp, body: object) -> None:
    admin = await small_app.user("ada", Role.ADMIN)
    answer = await admin.post("/api/v1/users", json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


async def test_an_admin_makes_no_owner_and_touches_none(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.ADMIN)
    await control_app.user("oli", Role.OWNER)
    attempts = [
        await admin.post("/api/v1/users", json=NEW | {"role": "owner"}),
        await admin.post("/api/v1/grants", json={"user": "ada", "role": "owner"}),
        await admin.put("/api/v1/users/oli/password", json={"password": "x" * 20}),
        await admin.patch("/api/v1/users/oli", json={"active": False}),
        await admin.delete("/api/v1/users/oli"),
    ]
    assert [answer.status_code for answer in attempts] == [403] * 5
    refused = [event.action for event in await control_app.rows(AuditEvent) if event.result == "refused"]
    assert len(refused) == 5 and "DELETE /api/v1/users/{user}" in refused


async def test_the_last_owner_stays(control_app: ControlApp) -> None:
    owner = await control_app.user("oli", Role.OWNER)
    grant = (await owner.get("/api/v1/grants")).json()["items"][0]["id"]
    attempts = [
        await owner.delete(f"/api/v1/grants/{grant}"),
        await owner.patch("/api/v1/users/oli", json={"active": False}),
        await owner.delete("/api/v1/users/oli"),
    ]
    assert [answer.json()["error"]["code"] for answer in attempts] == ["last_owner"] * 3
    assert (await owner.get("/api/v1/whoami")).status_code == 200


async def test_a_disabled_user_is_out_at_once_with_all_tokens(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    bob = await control_app.user("bob", Role.VIEWER)
    assert (await bob.get("/api/v1/whoami")).status_code == 200
    assert (await admin.patch("/api/v1/users/bob", json={"active": False})).json()["active"] is False
    assert (await bob.get("/api/v1/whoami")).status_code == 401
    await admin.patch("/api/v1/users/bob", json={"active": True})
    assert (await bob.get("/api/v1/whoami")).status_code == 200


async def test_a_deleted_users_tokens_are_dead(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    bob = await control_app.user("bob", Role.VIEWER)
    assert (await admin.delete("/api/v1/users/bob")).status_code == 204
    assert (await bob.get("/api/v1/whoami")).status_code == 401
    assert (await admin.get("/api/v1/users/bob")).json()["error"]["code"] == "user_not_found"


async def test_a_grant_counts_at_once_and_so_does_its_end(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    bob = await control_app.user("bob", Role.VIEWER)
    assert (await bob.get("/api/v1/users")).status_code == 403
    grant = (await admin.post("/api/v1/grants", json={"user": "bob", "role": "admin"})).json()
    assert (await bob.get("/api/v1/users")).status_code == 200
    assert (await admin.delete(f"/api/v1/grants/{grant['id']}")).status_code == 204
    assert (await bob.get("/api/v1/users")).status_code == 403


@pytest.mark.parametrize(
    "scope",
    [
        {"kind": "selector"},
        {"kind": "cluster"},
        {"kind": "project"},
        {"kind": "namespace"},
        {"kind": "planet"},
        {"kind": "selector", "selector": {"Env!": "x"}},
        {"kind": "selector", "selector": {"env": "a b"}},
    ],
)
async def test_a_scope_without_its_place_is_refused(small_app: ControlApp, scope: dict[str, object]) -> None:
    admin = await small_app.user("ada", Role.OWNER)
    answer = await admin.post("/api/v1/grants", json={"user": "ada", "role": "viewer", "scope": scope})
    assert answer.status_code == 422


async def test_a_service_token_has_its_own_grants_and_stands_alone(control_app: ControlApp) -> None:
    admin = await control_app.user("ada", Role.OWNER)
    made = (await admin.post("/api/v1/tokens", json={"name": "ci", "kind": "service", "role": "viewer"})).json()
    assert made["token"].startswith("tws_")
    service = control_app.client(made["token"])
    who = (await service.get("/api/v1/whoami")).json()
    assert who["user"] is None and who["roles"] == [{"role": "viewer", "scope": {"kind": "org"}}]
    assert (await service.post("/api/v1/tokens", json={"name": "x"})).status_code == 422
    await admin.post("/api/v1/grants", json={"token": made["id"], "role": "admin"})
    assert (await service.get("/api/v1/users")).status_code == 200


async def test_another_organisation_sees_nothing_of_ours(control_app: ControlApp) -> None:
    await control_app.user("bob", Role.VIEWER)
    alien = await control_app.user("zed", Role.OWNER, org_id=await control_app.org("other"))
    assert (await alien.get("/api/v1/users/bob")).status_code == 404
    assert [user["username"] for user in (await alien.get("/api/v1/users")).json()["items"]] == ["zed"]
    assert (await alien.get("/api/v1/grants")).json()["total"] == 1
    assert {event["target"]["name"] for event in (await alien.get("/api/v1/audit")).json()["items"]} == {"zed"}
    assert (await alien.post("/api/v1/grants", json={"user": "bob", "role": "owner"})).status_code == 404


async def test_lists_are_paged_sorted_and_searched(control_app: ControlApp) -> None:
    admin = await control_app.user("admin", Role.OWNER)
    for name in ("ann", "bob", "cat", "dan_x", "danx"):
        await control_app.token(name)
    names, cursor = [], ""
    while True:
        page = (await admin.get(f"/api/v1/users?limit=2&sort=-username&cursor={cursor}")).json()
        names += [user["username"] for user in page["items"]]
        assert page["total"] == 6
        if not (cursor := page["next_cursor"]):
            break
    assert names == ["danx", "dan_x", "cat", "bob", "ann", "admin"] or sorted(names, reverse=True) == names
    found = (await admin.get("/api/v1/users?search=N_X")).json()["items"]
    assert [user["username"] for user in found] == ["dan_x"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=1000000000", "limit=x", "sort=password_hash", "sort=username;drop", "cursor=abc",
     "cursor=" + "A" * 100, "cursor=" + "A" * 10_000, "search=%00", "search=" + "x" * 1000],
)  # fmt: skip
async def test_odd_list_queries_are_refused(small_app: ControlApp, query: str) -> None:
    admin = await small_app.user("ada", Role.OWNER)
    assert (await admin.get(f"/api/v1/users?{query}")).status_code == 422


async def test_a_cursor_is_not_taken_by_another_order(small_app: ControlApp) -> None:
    admin = await small_app.user("ada", Role.OWNER)
    await small_app.token("bob")
    cursor = (await admin.get("/api/v1/users?limit=1")).json()["next_cursor"]
    assert (await admin.get(f"/api/v1/users?cursor={cursor}&sort=created_at")).status_code == 422
    assert (await admin.get(f"/api/v1/users?cursor={cursor[:-2]}AA")).status_code == 422

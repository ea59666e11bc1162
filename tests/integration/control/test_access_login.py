"""The first user, signing in and out, and what a browser's cookie may do."""

from pathlib import Path

import pytest
from tests.support.control_app import ORIGIN, PASSWORD, ControlApp, running_control

from towline.control.access import setup
from towline.control.access.models import SetupToken
from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent
from towline.control.errors import ApiError, StartupError

JSON = {"origin": ORIGIN}


async def sign_in(app: ControlApp, username: str = "ada", password: str = PASSWORD):
    client = app.client()
    answer = await client.post("/api/v1/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return client


@pytest.fixture
async def ada(control_app: ControlApp) -> ControlApp:
    """A control plane that ada has set up."""
    return await set_up(control_app)


@pytest.fixture
async def small_ada(small_app: ControlApp) -> ControlApp:
    """The same on SQLite alone."""
    return await set_up(small_app)


async def set_up(app: ControlApp) -> ControlApp:
    body = {"token": app.control.setup_token, "username": "ada", "password": PASSWORD}
    answer = await app.client().post("/api/v1/setup", json=body)
    assert answer.status_code == 201, answer.text
    return app


async def test_setup_makes_an_owner_and_signs_them_in(control_app: ControlApp) -> None:
    client = control_app.client()
    body = {"token": control_app.control.setup_token, "username": "ada", "password": PASSWORD}
    answer = await client.post("/api/v1/setup", json=body)
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-towline=")
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    who = (await client.get("/api/v1/whoami")).json()
    assert (who["user"]["username"], who["roles"][0]["role"], who["via"]) == ("ada", "owner", "session")


async def test_the_setup_token_is_in_a_private_file_until_it_is_used(control_app: ControlApp) -> None:
    path = control_app.settings.data_folder / setup.FILE
    assert path.read_text().strip() == control_app.control.setup_token
    assert path.stat().st_mode & 0o777 == 0o600
    body = {"token": control_app.control.setup_token, "username": "ada", "password": PASSWORD}
    assert (await control_app.client().post("/api/v1/setup", json=body)).status_code == 201
    assert not path.exists()
    assert await control_app.rows(SetupToken) == []
    body["username"] = "eve"
    assert (await control_app.client().post("/api/v1/setup", json=body)).json()["error"]["code"] == "setup_done"


@pytest.mark.parametrize("token", ["", "twx_" + "a" * 42, "x" * 1000])
async def test_a_wrong_setup_token_makes_nobody(small_app: ControlApp, token: str) -> None:
    body = {"token": token, "username": "eve", "password": PASSWORD}
    assert (await small_app.client().post("/api/v1/setup", json=body)).status_code == 401


async def test_a_setup_token_ends_after_half_an_hour(control_app: ControlApp) -> None:
    async with control_app.control.db.begin() as tx:
        row = await tx.get(SetupToken, 1)
        assert row is not None
        row.expires_at = await tx.now()
    body = {"token": control_app.control.setup_token, "username": "ada", "password": PASSWORD}
    assert (await control_app.client().post("/api/v1/setup", json=body)).status_code == 401


async def test_a_password_file_makes_the_first_user_unattended(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    async with running_control(database_url, tmp_path, admin_password_file=str(file), admin_username="root") as app:
        assert app.control.setup_token == ""
        client = await sign_in(app, "root")
        assert (await client.get("/api/v1/users")).json()["total"] == 1


async def test_a_short_password_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("short")
    with pytest.raises(StartupError, match="shorter than 12"):
        async with running_control(f"sqlite:///{tmp_path}/x", tmp_path, admin_password_file=str(file)):
            pass


async def test_a_wrong_password_and_an_unknown_user_look_the_same(ada: ControlApp) -> None:
    answers = [
        await ada.client().post("/api/v1/login", json={"username": name, "password": "wrong password!"})
        for name in ("ada", "eve", "a' OR 1=1 --")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    refused = [event for event in await ada.rows(AuditEvent) if event.result == "refused"]
    assert [event.actor_name for event in refused] == ["ada", "eve", "a' OR 1=1 --"]
    assert all(event.address == "192.0.2.7" for event in refused)


async def test_signing_in_is_throttled_by_account_and_by_address(database_url: str, tmp_path: Path) -> None:
    async with running_control(database_url, tmp_path, login_per_account=2, login_per_address=3) as app:

        async def attempt(name: str, address: str) -> int:
            body = {"username": name, "password": "wrong password!"}
            return (await app.client(address=address).post("/api/v1/login", json=body)).status_code

        assert [await attempt("ada", "192.0.2.1") for _ in range(3)] == [401, 401, 429]
        assert await attempt("ada", "192.0.2.2") == 429
        assert await attempt("bob", "192.0.2.1") == 429
        assert await attempt("bob", "192.0.2.2") == 401


async def test_the_cli_gets_a_token_of_its_own(ada: ControlApp) -> None:
    body = {"username": "ada", "password": PASSWORD, "client": "cli", "name": "laptop"}
    answer = await ada.client().post("/api/v1/login", json=body)
    assert "set-cookie" not in answer.headers
    cli = ada.client(answer.json()["token"])
    assert (await cli.get("/api/v1/whoami")).json()["via"] == "token"
    assert [token["name"] for token in (await cli.get("/api/v1/tokens")).json()["items"]] == ["laptop"]
    assert (await cli.post("/api/v1/logout")).status_code == 204
    assert (await cli.get("/api/v1/whoami")).status_code == 401


async def test_a_session_ends_on_logout(ada: ControlApp) -> None:
    client = await sign_in(ada)
    stolen = client.cookies.get("__Host-towline")
    assert (await client.post("/api/v1/logout", headers=JSON)).status_code == 204
    thief = ada.client(cookie=f"__Host-towline={stolen}")
    assert (await thief.get("/api/v1/whoami")).status_code == 401


async def test_a_session_is_listed_and_ended_from_another(ada: ControlApp) -> None:
    first, second = await sign_in(ada), await sign_in(ada)
    sessions = (await first.get("/api/v1/sessions")).json()["items"]
    assert len(sessions) == 3 and sum(one["current"] for one in sessions) == 1
    mine = next(one["id"] for one in (await second.get("/api/v1/sessions")).json()["items"] if one["current"])
    assert (await first.delete(f"/api/v1/sessions/{mine}", headers=JSON)).status_code == 204
    assert (await second.get("/api/v1/whoami")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
async def test_a_foreign_page_changes_nothing_with_our_cookie(small_ada: ControlApp, headers: dict[str, str]) -> None:
    client = await sign_in(small_ada)
    answer = await client.post("/api/v1/tokens", json={"name": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    assert (await client.get("/api/v1/tokens")).json()["total"] == 0


@pytest.mark.parametrize("headers", [{"origin": ORIGIN}, {"sec-fetch-site": "same-origin"}])
async def test_our_own_page_does(small_ada: ControlApp, headers: dict[str, str]) -> None:
    client = await sign_in(small_ada)
    assert (await client.post("/api/v1/tokens", json={"name": "x"}, headers=headers)).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_form_without_its_sessions_token_is_refused(small_ada: ControlApp, kind: str) -> None:
    client = await sign_in(small_ada)
    answer = await client.post("/api/v1/logout", content=b"--x--\r\n", headers={"origin": ORIGIN, "content-type": kind})
    assert answer.json()["error"]["code"] == "cross_site"


async def test_two_cookies_of_the_name_are_no_cookie(small_ada: ControlApp) -> None:
    client = await sign_in(small_ada)
    secret = client.cookies.get("__Host-towline")
    twice = small_ada.client(cookie=f"__Host-towline={secret}; __Host-towline={secret}")
    assert (await twice.get("/api/v1/whoami")).status_code == 401


@pytest.mark.parametrize("value", ["", "x", "=" * 500, "\\x00", '"'])
async def test_an_odd_cookie_is_nobody(small_ada: ControlApp, value: str) -> None:
    assert (await small_ada.client(cookie=f"__Host-towline={value}").get("/api/v1/whoami")).status_code == 401


@pytest.mark.parametrize(
    "header", ["Basic eA==", "Bearer", "Bearer ", "bearer x", "Token twl_x", "Bearer twl_" + "a" * 42, "x" * 5000]
)
async def test_an_odd_authorization_is_nobody(small_ada: ControlApp, header: str) -> None:
    assert (await small_ada.client(authorization=header).get("/api/v1/whoami")).status_code == 401


async def test_a_token_in_the_address_is_refused(small_ada: ControlApp) -> None:
    token = await small_ada.token("bob")
    for name in ("token", "access_token"):
        assert (await small_ada.client().get(f"/api/v1/whoami?{name}={token}")).status_code == 401


async def test_a_changed_password_ends_the_other_sessions(ada: ControlApp) -> None:
    first, second = await sign_in(ada), await sign_in(ada)
    body = {"password": "another long password", "current": "wrong password!"}
    assert (await first.put("/api/v1/users/ada/password", json=body, headers=JSON)).status_code == 403
    body["current"] = PASSWORD
    assert (await first.put("/api/v1/users/ada/password", json=body, headers=JSON)).status_code == 204
    assert (await first.get("/api/v1/whoami")).status_code == 200
    assert (await second.get("/api/v1/whoami")).status_code == 401
    await sign_in(ada, password="another long password")


async def test_reset_admin_gives_a_locked_out_owner_back_their_account(ada: ControlApp) -> None:
    assert await setup.reset_admin(ada.control, "ada", "a new long password") == "reset"
    client = await sign_in(ada, password="a new long password")
    assert (await client.get("/api/v1/whoami")).json()["roles"][0]["role"] == "owner"
    assert await setup.reset_admin(ada.control, "eve", "a new long password") == "created"


@pytest.mark.parametrize("name", ["", "e" * 64, "Eve", "eve\n", "-eve", "eve smith"])
async def test_reset_admin_makes_no_user_that_nobody_else_could_make(small_ada: ControlApp, name: str) -> None:
    with pytest.raises(ApiError, match="is no user name"):
        await setup.reset_admin(small_ada.control, name, "a new long password")


async def test_no_password_or_token_is_in_the_database(ada: ControlApp) -> None:
    viewer = await ada.user("bob", Role.VIEWER)
    await sign_in(ada)
    from sqlalchemy import select

    from towline.control.tables import metadata

    async with ada.control.db.read() as tx:
        dump = str([(await tx.execute(select(table))).all() for table in metadata.sorted_tables])
    token = viewer.headers["authorization"].split()[1]
    assert PASSWORD not in dump and token not in dump and "$argon2id$" in dump

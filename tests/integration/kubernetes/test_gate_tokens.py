"""Who gets through the gate: unauthorised first, then everything that ends a right."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.kubernetes import Access, StandIn, request

from towline.control.access.permissions import Reach, Right, Role, ScopeKind

PODS = "/k8s/clusters/prod/api/v1/namespaces/shop/pods"


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[Access]:
    async with Access.begin(tmp_path) as access:
        yield access


@pytest.fixture
async def prod(access: Access) -> StandIn:
    return await access.stand_in("prod")


async def test_request_without_a_token_gets_401_and_reaches_nothing(access: Access, prod: StandIn) -> None:
    answer = await access.get(PODS)
    assert answer.is_status(401)
    assert prod.streams == 0


@pytest.mark.parametrize(
    "field",
    [
        "Authorization: Bearer nonsense",
        "Authorization: Bearer twl_000000000000000000000000000000000000000000",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "Authorization: Bearer",
        "Authorization: Bearer \xe9\xe8",
        "Cookie: __Host-towline=secret",
        "Cookie: towline=secret\r\nOrigin: https://evil.example",
        "X-Towline-Peer: 127.0.0.1",
        "X-Remote-User: system:admin",
    ],
)
async def test_anything_but_a_live_token_gets_401(access: Access, prod: StandIn, field: str) -> None:
    answer = await access.get(PODS, "", field)
    assert answer.is_status(401)
    assert prod.streams == 0


async def test_two_authorization_fields_get_401_though_one_is_good(access: Access, prod: StandIn) -> None:
    token = await access.token("ada", Right(Role.VIEWER))
    answer = await access.get(PODS, token, f"Authorization: Bearer {token}")
    assert answer.is_status(401)
    assert prod.streams == 0


async def test_good_token_reaches_the_cluster_and_stays_on_this_side(access: Access, prod: StandIn) -> None:
    token = await access.token("ada", Right(Role.VIEWER))
    answer = await access.get(f"{PODS}?limit=500", token)
    assert (answer.status, answer.body) == (200, b"{}")
    (sent,) = prod.sent
    assert sent.line == b"GET /api/v1/namespaces/shop/pods?limit=500 HTTP/1.1"
    assert token.encode() not in sent.head
    assert sent.field("authorization") == ""


async def test_cookie_of_a_signed_in_browser_is_no_credential(access: Access, prod: StandIn) -> None:
    accounts = access.running.control.accounts
    await access.token("ada", Right(Role.OWNER))
    async with access.running.control.db.begin() as tx:
        from towline.control.access.accounts import _user_by_name

        user = await _user_by_name(tx, "ada")
        assert user is not None
        signed = await accounts.open_session(tx, user, address="", browser="", request_id="")
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for more in ((), (*upgrade, key, "Origin: https://evil.example")):
        answer = await access.get(
            f"{PODS}/web/exec?command=sh&stdout=1", "", f"Cookie: __Host-towline={signed.secret}", *more
        )
        assert answer.is_status(401)
        assert not [name for name in answer.fields if name.startswith("access-control-")]
    assert prod.streams == 0


async def test_expired_token_gets_401(access: Access, prod: StandIn) -> None:
    who = await access.app.access("ada", Right(Role.VIEWER))
    accounts = access.running.control.accounts
    made = await accounts.create_token(who, "ci", kind="user", right=None, lifetime=timedelta(seconds=1))
    async with asyncio.timeout(10):
        while (answer := await access.get(PODS, made.secret)).status == 200:
            await asyncio.sleep(0.2)
    assert answer.is_status(401)


async def test_revoked_token_gets_401_at_once(access: Access, prod: StandIn) -> None:
    who = await access.app.access("ada", Right(Role.OWNER))
    accounts = access.running.control.accounts
    made = await accounts.create_token(who, "ci", kind="user", right=None, lifetime=None)
    assert (await access.get(PODS, made.secret)).status == 200
    await accounts.revoke_token(who, made.token.id)
    assert (await access.get(PODS, made.secret)).is_status(401)


async def test_disabled_user_gets_401_at_once(access: Access, prod: StandIn) -> None:
    token = await access.token("ada", Right(Role.VIEWER))
    assert (await access.get(PODS, token)).status == 200
    owner = await access.app.access("root", Right(Role.OWNER))
    await access.running.control.accounts.set_active(owner, "ada", active=False)
    assert (await access.get(PODS, token)).is_status(401)


async def test_unknown_cluster_and_one_without_access_look_the_same(access: Access, prod: StandIn) -> None:
    here = Reach(ScopeKind.CLUSTER, cluster_id=prod.cluster_id)
    await access.stand_in("other")
    token = await access.token("ada", Right(Role.ADMIN, here))
    hidden = await access.get("/k8s/clusters/other/api", token)
    missing = await access.get("/k8s/clusters/never/api", token)
    assert hidden.is_status(404)
    assert hidden.body.replace(b"other", b"") == missing.body.replace(b"never", b"")
    assert set(hidden.fields) == set(missing.fields)


@pytest.mark.parametrize("name", ["OTHER", "Other", "%6fther", "other%00", "../other", "other;x", "prod%2f..%2fother"])
async def test_user_of_one_cluster_cannot_spell_a_way_into_another(access: Access, prod: StandIn, name: str) -> None:
    other = await access.stand_in("other")
    token = await access.token("ada", Right(Role.ADMIN, Reach(ScopeKind.CLUSTER, cluster_id=prod.cluster_id)))
    for path in (f"/k8s/clusters/{name}/api/v1/pods", f"/k8s/clusters/prod/../{name}/api/v1/pods"):
        answer = await access.get(path, token)
        assert answer.status in (400, 404)
    assert (prod.streams, other.streams) == (0, 0)


async def test_token_limited_to_a_cluster_works_on_that_cluster_only(access: Access, prod: StandIn) -> None:
    other = await access.stand_in("other")
    who = await access.app.access("ada", Right(Role.ADMIN))
    only = Right(Role.DEPLOYER, Reach(ScopeKind.CLUSTER, cluster_id=prod.cluster_id))
    made = await access.running.control.accounts.create_token(who, "ci", kind="user", right=only, lifetime=None)
    assert (await access.get(PODS, made.secret)).status == 200
    assert (await access.get(PODS.replace("prod", "other"), made.secret)).is_status(404)
    assert (await access.get("/k8s/clusters/prod/api/v1/nodes/n1/proxy/pods", made.secret)).is_status(403)
    assert other.streams == 0
    assert prod.sent[0].target.groups[-1] == "towline:role:deployer"


async def test_service_token_is_a_robot_of_its_own(access: Access, prod: StandIn) -> None:
    who = await access.app.access("ada", Right(Role.OWNER))
    right = Right(Role.VIEWER)
    made = await access.running.control.accounts.create_token(who, "ada", kind="service", right=right, lifetime=None)
    assert (await access.get(PODS, made.secret)).status == 200
    assert prod.sent[0].target.user == f"towline:robot:{made.token.id}"


async def test_too_many_unknown_tokens_are_throttled_without_a_retry_after(tmp_path: Path) -> None:
    async with Access.begin(tmp_path, login_per_address=1) as access:
        from towline.control.access import secrets

        codes = [(await access.get(PODS, secrets.mint("twl"))).status for _ in range(5)]
        assert codes[:3] == [401] * 3
        answer = await access.get(PODS, secrets.mint("twl"))
        assert answer.is_status(429)


async def test_requests_of_one_connection_are_judged_one_by_one(access: Access, prod: StandIn) -> None:
    token = await access.token("ada", Right(Role.VIEWER))
    async with await access.client() as client:
        await client.send(request("GET", PODS, token))
        assert (await client.answer())[0] == 200
        await client.send(request("GET", PODS))
        assert (await client.answer())[0] == 401
    assert len(prod.sent) == 1

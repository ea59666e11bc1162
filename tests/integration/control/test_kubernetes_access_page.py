"""The page and the API that say what one may do: who may ask about whom, and that both say what the gate does."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.support.kubernetes import Access, ApiStream, Sent, StandIn
from tests.support.served import https

from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.clusters.models import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = "/clusters/prod/access"
API = "/api/v1/clusters/prod/kubernetes/access"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Access]:
    async with Access.begin(tmp_path_factory.mktemp("access-page")) as access:
        yield access


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(access: Access) -> StandIn:
    made = await access.stand_in("prod")
    async with asyncio.timeout(10):
        while not any(row.capabilities for row in await access.app.rows(Cluster)):
            await asyncio.sleep(0.02)
    await access.token("dora", Right(Role.DEPLOYER, Reach(ScopeKind.NAMESPACE, namespace="shop")))
    return made


@pytest.fixture
def prod(made: StandIn) -> StandIn:
    made.sent.clear()
    made.script, made.refusal, made.streams = StandIn.script, None, 0
    return made


async def somebody(access: Access, name: str, *rights: Right) -> httpx.AsyncClient:
    token = await access.token(name, *rights)
    return https(access.running, headers={"authorization": f"Bearer {token}", "accept": "text/html"}, timeout=20)


def words(page: str) -> str:
    """The text of a page, with single blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("&#39;", "'")))


async def test_nobody_is_told_anything_without_signing_in(access: Access, prod: StandIn) -> None:
    async with https(access.running) as client:
        for path in (PAGE, f"{API}?role=owner", f"{API}?user=dora"):
            assert (await client.get(path)).status_code == 401, path


async def test_cluster_that_one_may_not_see_has_no_such_page(access: Access, prod: StandIn) -> None:
    elsewhere = Right(Role.OWNER, Reach(ScopeKind.CLUSTER, cluster_id="cls_other"))
    async with await somebody(access, "ed", elsewhere) as client:
        assert (await client.get(PAGE)).status_code == 404
        assert (await client.get("/clusters/never/access")).status_code == 404


async def test_only_who_may_read_users_looks_as_another(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "otto", Right(Role.DEPLOYER)) as client:
        for path in (f"{PAGE}?user=dora", f"{PAGE}?role=owner", f"{API}?user=dora", f"{API}?role=owner"):
            assert (await client.get(path)).status_code == 403, path
        shown = (await client.get(PAGE)).text
        assert 'name="user"' not in shown
        assert 'name="role"' not in shown
    on_cluster = Right(Role.ADMIN, Reach(ScopeKind.CLUSTER, cluster_id=prod.cluster_id))
    async with await somebody(access, "adele", on_cluster) as client:
        assert (await client.get(f"{PAGE}?user=dora")).status_code == 403


async def test_admin_sees_what_a_user_and_what_a_role_may_do(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "anna", Right(Role.ADMIN)) as client:
        asked = {"verb": "delete", "resource": "deploy", "namespace": "shop", "user": "dora"}
        told = (await client.get(API, params=asked)).json()
        (cell,) = told["answers"]
        assert (cell["resource"], cell["allowed"], cell["role"]) == ("deployments.apps", True, "deployer")
        assert (cell["where"], told["user"]) == ("namespace shop", "towline:dora")
        (cell,) = (await client.get(API, params=asked | {"namespace": "vault"})).json()["answers"]
        assert (cell["allowed"], cell["role"]) == (False, "")
        role = (await client.get(API, params={"verb": "get", "resource": "pods/log", "role": "viewer"})).json()
        assert (role["answers"][0]["allowed"], role["user"]) == (False, "")
        assert role["groups"] == ["towline:role:viewer"]
        shown = words((await client.get(PAGE, params=asked)).text)
        assert "Yes: dora may delete deployments.apps in namespace shop" in shown
        assert "The role that counts: deployer on namespace shop." in shown
        assert (await client.get(API, params={"user": "dora", "role": "viewer"})).status_code == 422
        assert (await client.get(API, params={"role": "king"})).status_code == 422
        assert (await client.get(API, params={"user": "nobody"})).status_code == 404
        missing = await client.get(PAGE, params={"user": "nobody"})
        assert missing.status_code == 200
        assert "Shown is what you may do yourself" in words(missing.text)
    assert prod.sent == []


async def test_disabled_user_is_said_to_be_one(access: Access, prod: StandIn) -> None:
    await access.token("fay", Right(Role.OPERATOR))
    owner = await access.app.access("boss", Right(Role.OWNER))
    await access.running.control.accounts.set_active(owner, "fay", active=False)
    async with await somebody(access, "anton", Right(Role.ADMIN)) as client:
        assert "fay is disabled" in words((await client.get(PAGE, params={"user": "fay"})).text)


async def test_cells_say_what_the_gate_does(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "vic", Right(Role.VIEWER)) as client:
        for cell in (await client.get(API, params={"namespace": "shop"})).json()["answers"]:
            if cell["verb"] not in ("get", "list") or "." in cell["resource"]:
                continue
            plain, _, sub = cell["resource"].partition("/")
            place = "" if plain in ("nodes", "namespaces", "persistentvolumes") else "/namespaces/shop"
            name = f"/x{f'/{sub}' if sub else ''}" if cell["verb"] == "get" else ""
            asked = await client.get(f"/k8s/clusters/prod/api/v1{place}/{plain}{name}")
            assert (asked.status_code == 200) == cell["allowed"], cell
            if not cell["allowed"]:
                assert cell["rule"] in asked.json()["message"]


async def test_each_refusal_leads_to_the_page_with_its_question(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "rita", Right(Role.VIEWER)) as client:
        for path, question in (
            ("/api/v1/namespaces/shop/pods/x/log", "No: you may not get pods/log in namespace shop"),
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles?watch=1", "Yes: you may watch clusterroles"),
            ("/api/v1/secrets", "No: you may not list secrets"),
            ("/metrics", "No: you may not get /metrics"),
        ):
            refused = await client.get(f"/k8s/clusters/prod{path}")
            if question.startswith("Yes"):
                assert refused.status_code == 200
                continue
            message = refused.json()["message"]
            link = message.rpartition("what you may do: ")[2]
            assert link.startswith(access.running.control.addresses().origin + PAGE), message
            assert message in refused.headers["warning"].replace('\\"', '"')
            shown = await client.get(link.removeprefix(access.running.control.addresses().origin))
            assert question in words(shown.text), link


async def test_cluster_is_asked_as_who_is_signed_in_and_only_about_them(access: Access, prod: StandIn) -> None:
    async def reviews(stream: ApiStream, sent: Sent) -> None:
        said = json.dumps({"status": {"allowed": False, "reason": "no binding"}}).encode()
        await stream.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))

    prod.script = reviews
    async with await somebody(access, "vera", Right(Role.ADMIN)) as client:
        shown = words((await client.get(PAGE, params={"verb": "get", "resource": "nodes"})).text)
        assert "Yes: you may get nodes" in shown
        assert "The cluster's own rules refuse it: no binding." in shown
        (sent,) = prod.sent
        assert sent.line.startswith(b"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        assert sent.target.user == "towline:vera"
        prod.sent.clear()
        await client.get(PAGE, params={"verb": "get", "resource": "nodes", "user": "dora"})
        await client.get(PAGE)
    assert prod.sent == []


@pytest.mark.parametrize("resource", ["<script>alert(1)</script>", "a'b\"c", "../../x", "%2e%2e", "pods/a/b/c", "/"])
async def test_strange_questions_are_answered_and_shown_as_text(access: Access, prod: StandIn, resource: str) -> None:
    async with await somebody(access, f"odd{abs(hash(resource)) % 10**6}", Right(Role.VIEWER)) as client:
        shown: Any = await client.get(PAGE, params={"verb": "get", "resource": resource})
    assert shown.status_code == 200
    assert "<script>alert" not in shown.text


async def test_command_to_copy_is_one_command_whatever_the_address_held(access: Access, prod: StandIn) -> None:
    async with await somebody(access, "cleo", Right(Role.VIEWER)) as client:
        shown = await client.get(PAGE, params={"verb": "get", "resource": "pods; id", "namespace": "shop"})
        plain = await client.get(PAGE)
    assert "towline kube access prod --namespace shop --verb get --resource 'pods; id'" in words(shown.text)
    assert "towline kube access prod<" in plain.text

"""Pages of routes, domains and certificates: who may open them and post to them, and that they say what is."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.control.test_routes import body, cluster
from tests.support.control_app import ControlApp, running_control
from tests.support.gateway import FakeDns, fake_dns, http_target, published
from tests.support.kubernetes import Access, ApiStream, Sent
from tests.support.served import https

from towline.control.access.permissions import Reach, Right, Role, ScopeKind
from towline.control.clusters.models import Cluster

PAGES = (
    "/routes", "/routes/new", "/routes/web", "/routes/web?test=1", "/routes/web/requests", "/routes/web/settings",
    "/clusters/edge-1/routes", "/domains", "/domains?test=1", "/certificates", "/certificates/shop.example.net",
)  # fmt: skip
POSTS = (
    "/routes/accept", "/routes/web/decide", "/routes/new", "/routes/web/settings", "/routes/web/switch",
    "/routes/web/remove", "/clusters/edge-1/routes", "/domains", "/domains/example.net/verify",
    "/domains/example.net/remove", "/certificates", "/certificates/shop.example.net/renew",
    "/certificates/shop.example.net/revoke", "/certificates/shop.example.net/remove",
)  # fmt: skip
OF_ADMINS = POSTS[6:]


@pytest.fixture
async def dns() -> AsyncIterator[FakeDns]:
    async with fake_dns() as server:
        yield server


@pytest.fixture
async def app(tmp_path: Path, dns: FakeDns) -> AsyncIterator[ControlApp]:
    """A control plane with a gateway domain, and a DNS of our own."""
    changes: dict[str, Any] = {"dns_resolvers": [dns.address], "gateway_domain": "apps.example.org"}
    async with running_control(f"sqlite:///{tmp_path / 'towline.sqlite'}", tmp_path, **changes) as running:
        await cluster(running, "edge-1")
        yield running


async def reader(app: ControlApp, name: str, role: Role, reach: Reach | None = None) -> httpx.AsyncClient:
    """A client that asks for pages."""
    client = await app.user(name, role, reach=reach)
    client.headers["accept"] = "text/html"
    return client


def words(page: httpx.Response) -> str:
    """The text of a page, with single blanks."""
    assert page.status_code == 200, page.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text)).replace("&#39;", "'")


def notice(answer: httpx.Response) -> str:
    """What the next page says after a form was posted."""
    assert answer.status_code == 303, answer.text
    return httpx.QueryParams(f"x={answer.cookies['towline_notice']}")["x"]


async def test_nobody_sees_or_changes_anything_without_signing_in(app: ControlApp) -> None:
    client = app.client(accept="text/html")
    for path in PAGES:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"].startswith("/signin?next=")) == (303, True), path
    for path in POSTS:
        assert (await client.post(path)).status_code == 401, path


async def test_a_viewer_looks_and_changes_nothing(app: ControlApp) -> None:
    vera = await reader(app, "vera", Role.VIEWER)
    for path in ("/routes", "/domains", "/certificates", "/clusters/edge-1/routes"):
        page = await vera.get(path)
        assert page.status_code == 200, path
        assert 'method="post"' not in page.text.replace('method="post" action="/signout"', ""), path
        assert "Publish a service" not in page.text
    assert (await vera.get("/routes/new")).status_code == 403
    for path in POSTS:
        assert (await vera.post(path)).status_code == 403, path


async def test_a_deployer_publishes_and_leaves_domains_and_certificates_alone(app: ControlApp) -> None:
    dora = await reader(app, "dora", Role.DEPLOYER)
    assert "Publish a service" in words(await dora.get("/routes"))
    for path in OF_ADMINS:
        assert (await dora.post(path)).status_code == 403, path
    assert "Upload" not in words(await dora.get("/certificates"))
    assert "An administrator adds one" in words(await dora.get("/domains"))


async def test_routes_of_another_place_or_organisation_are_not_there(app: ControlApp) -> None:
    dora = await reader(app, "dora", Role.DEPLOYER)
    made = await dora.post("/api/v1/routes", json=body(host=""))
    assert made.status_code == 201, made.text
    eve = app.client(await app.token("eve", *[], org_id=await app.org("other")), accept="text/html")
    elsewhere = await reader(app, "ed", Role.OWNER, Reach(ScopeKind.CLUSTER, cluster_id="clu_other"))
    for client in (eve, elsewhere):
        for path in ("/routes/web", "/routes/web/settings", "/routes/web/requests"):
            assert (await client.get(path)).status_code in (403, 404), path
    assert "web-edge-1" not in (await elsewhere.get("/routes")).text


async def test_a_service_is_published_changed_and_taken_away_by_forms(app: ControlApp) -> None:
    dora = await reader(app, "dora", Role.DEPLOYER)
    form = await dora.get("/routes/new", params={"cluster": "edge-1", "to": "compose/shop/web:80"})
    assert "web-edge-1.apps.example.org" in form.text and 'value="compose/shop/web:80" selected' in form.text
    typed = {
        "name": "web", "cluster": "edge-1", "to": "", "address": "127.0.0.1:8080", "path": "/", "path_type": "prefix",
        "option-https_redirect": "1", "option-request_timeout": "5", "option-body_limit": "1.5",
        "option-allow": "10.0.0.0/8\r\n192.0.2.1", "option-set_answer_headers": "X-Team: shop\r\nX-Two: 2",
        "visitor": "bob", "visitor_password": "a few words",
    }  # fmt: skip
    made = await dora.post("/routes/new", data=typed)
    assert "published at https://web-edge-1.apps.example.org" in notice(made)
    route = (await dora.get("/api/v1/routes/web", headers={"accept": "application/json"})).json()
    assert route["targets"][0]["to"] == "tcp/127.0.0.1:8080"
    assert route["users"] == ["bob"]
    assert route["options"] == {
        "request_timeout": 5.0, "body_limit": 1572864, "allow": ["10.0.0.0/8", "192.0.2.1/32"],
        "set_answer_headers": {"X-Team": "shop", "X-Two": "2"},
    }  # fmt: skip
    assert "web-edge-1.apps.example.org" in words(await dora.get("/search?q=apps.example"))
    page = words(await dora.get("/routes/web"))
    assert "Seconds until an answer begins 5" in page and "bob" in page and "a few words" not in page
    settings = (await dora.get("/routes/web/settings")).text
    assert "10.0.0.0/8\n192.0.2.1/32" in settings and 'value="1.5"' in settings and "argon2" not in settings
    changed = {
        "host": "web-edge-1.apps.example.org", "path": "/api", "path_type": "exact", "to": "tcp/127.0.0.1:9",
        "clusters": "edge-1", "option-maintenance": "1", "no_passwords": "1",
    }  # fmt: skip
    assert "saved" in notice(await dora.post("/routes/web/settings", data=changed))
    route = (await dora.get("/api/v1/routes/web", headers={"accept": "application/json"})).json()
    assert (route["path"], route["path_type"], route["users"]) == ("/api", "exact", [])
    assert route["options"] == {"maintenance": True, "https_redirect": False}
    assert "switched off" in notice(await dora.post("/routes/web/switch", data={"to": "off"}))
    assert "Off it is switched off" in words(await dora.get("/routes"))
    assert "type web" in notice(await dora.post("/routes/web/remove", data={"confirm": "we"}))
    assert "published no more" in notice(await dora.post("/routes/web/remove", data={"confirm": "web"}))
    assert (await dora.get("/routes/web")).status_code == 404


async def test_what_was_typed_is_kept_when_it_cannot_be_published(app: ControlApp) -> None:
    dora = await reader(app, "dora", Role.DEPLOYER)
    typed = {
        "name": "web", "cluster": "edge-1", "address": "127.0.0.1:80", "host": "shop.nobody.test", "path": "/",
        "option-deny": "10.0.0.0/8", "visitor": "bob", "visitor_password": "a few words",
    }  # fmt: skip
    refused = await dora.post("/routes/new", data=typed)
    assert "no verified domain" in words(refused)
    assert 'value="shop.nobody.test"' in refused.text and "10.0.0.0/8</textarea>" in refused.text
    assert "a few words" not in refused.text
    wrong = await dora.post("/routes/new", data=typed | {"host": "", "option-rate_limit": "many"})
    assert "'many' is not a number" in words(wrong)


async def test_a_conflict_names_both_and_leads_to_the_one_that_holds(app: ControlApp) -> None:
    dora = await reader(app, "dora", Role.DEPLOYER)
    typed = {"name": "web", "cluster": "edge-1", "address": "127.0.0.1:80", "path": "/"}
    await dora.post("/routes/new", data=typed)
    second = typed | {"name": "other", "host": "web-edge-1.apps.example.org"}
    refused = words(await dora.post("/routes/new", data=second))
    assert "other cannot have" in refused and "web answers for" in refused


async def test_a_domain_is_added_proved_and_given_up(app: ControlApp, dns: FakeDns) -> None:
    ada = await reader(app, "ada", Role.ADMIN)
    assert "No domains yet" in words(await ada.get("/domains"))
    assert "set its record" in notice(await ada.post("/domains", data={"name": "Example.net."}))
    page = (await ada.get("/domains")).text
    value = re.search(r"towline-domain=[0-9a-f]+", page)
    assert value and "_towline-challenge.example.net" in page and "Not proved" in page
    assert "example.net" in notice(await ada.post("/domains/example.net/verify"))
    dns.records["_towline-challenge.example.net.", "TXT"] = [f'"{value[0]}"']
    assert "is verified" in notice(await ada.post("/domains/example.net/verify"))
    assert "Verified" in words(await ada.get("/domains"))
    assert "type example.net" in notice(await ada.post("/domains/example.net/remove", data={"confirm": "x"}))
    assert "given up" in notice(await ada.post("/domains/example.net/remove", data={"confirm": "example.net"}))


async def test_the_gateways_own_record_is_shown_and_tested(app: ControlApp, dns: FakeDns) -> None:
    ada = await reader(app, "ada", Role.ADMIN)
    assert "*.apps.example.org" in words(await ada.get("/domains"))
    assert "Does not lead here" in words(await ada.get("/domains?test=1"))


async def test_certificates_say_what_there_is_and_refuse_a_bad_upload(app: ControlApp) -> None:
    ada = await reader(app, "ada", Role.ADMIN)
    assert "No authority is set" in words(await ada.get("/certificates"))
    refused = notice(await ada.post("/certificates", data={"chain": "no PEM", "key": "secret words"}))
    assert "error" in refused and "secret words" not in refused
    assert (await ada.get("/certificates/shop.example.net")).status_code == 404


async def test_a_cluster_says_what_its_sources_may_publish(app: ControlApp) -> None:
    ada = await reader(app, "ada", Role.ADMIN)
    assert "Nothing of edge-1 is public" in words(await ada.get("/clusters/edge-1/routes"))
    saved = await ada.post("/clusters/edge-1/routes", data={"existing": "off", "appearing": "proposals"})
    assert "decided anew" in notice(saved)
    assert '<option value="off" selected>' in (await ada.get("/clusters/edge-1/routes")).text
    assert (await ada.get("/clusters/nowhere/routes")).status_code == 404


async def test_the_way_is_tested_and_requests_are_shown(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'towline.sqlite'}"
    async with published(url, tmp_path) as scene, http_target() as port:
        await scene.agent("edge-1")
        await scene.verify("example.net")
        dora = await reader(scene.app, "dora", Role.DEPLOYER)
        made = {"name": "web", "cluster": "edge-1", "address": f"127.0.0.1:{port}", "host": "shop.example.net"}
        assert "is published" in notice(await dora.post("/routes/new", data=made))
        await scene.settled()
        first = words(await dora.get("/routes/web"))
        assert "Not tested Name leads here" in first and "Nobody asked for anything" in first
        tested = words(await dora.get("/routes/web?test=1"))
        assert "OK Target answers" in tested and "Failed Name leads here" in tested
        await scene.get("shop.example.net", "/hello?secret=1")
        lines = words(await dora.get("/routes/web/requests"))
        assert "/hello" in lines and "secret" not in lines
        assert "2xx answered" in words(await dora.get("/routes/web"))
        vera = await reader(scene.app, "vera", Role.VIEWER)
        assert (await vera.get("/routes/web/requests")).status_code == 403
        assert "Live requests" not in words(await vera.get("/routes/web"))
        assert [row.name for row in await scene.app.rows(Cluster)] == ["edge-1"]


async def test_services_of_a_kubernetes_cluster_are_offered_as_the_reader_may_list_them(tmp_path: Path) -> None:
    services = {
        "items": [
            {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"name": "http", "port": 80}]}},
            {"metadata": {"name": "dns", "namespace": "core"}, "spec": {"ports": [{"port": 53, "protocol": "UDP"}]}},
        ]
    }

    async def script(stream: ApiStream, sent: Sent) -> None:
        said = json.dumps(services["items"][0] if b"/services/web" in sent.line else services).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)
        await stream.write(head + said)

    async with Access.begin(tmp_path) as access:
        prod = await access.stand_in("prod")
        async with asyncio.timeout(10):
            while not any(row.capabilities for row in await access.app.rows(Cluster)):
                await asyncio.sleep(0.02)
        prod.script = script
        token = await access.token("dora", Right(Role.DEPLOYER))
        headers = {"authorization": f"Bearer {token}", "accept": "text/html"}
        async with https(access.running, headers=headers, timeout=20) as client:
            form = (await client.get("/routes/new?cluster=prod&to=service/shop/web:")).text
            assert '<option value="service/shop/web:80" selected>web, port 80 (http)</option>' in form
            assert 'label="Namespace shop"' in form and "core" not in form
            listed = next(sent for sent in prod.sent if b"/api/v1/services" in sent.line)
            assert listed.target.user == "towline:dora"
            shown = (await client.get("/clusters/prod/kubernetes/shop/services/web")).text
            assert "/routes/new?cluster=prod&amp;to=service/shop/web:" in shown
            routes = words(await client.get("/clusters/prod/routes"))
            assert "Nothing of prod is public" in routes and "Ingresses are followed" in routes
        prod.refusal = ("kube_unavailable", "the API server does not answer")
        async with https(access.running, headers=headers, timeout=20) as client:
            form = words(await client.get("/routes/new?cluster=prod"))
            assert "Type the target as an address meanwhile" in form

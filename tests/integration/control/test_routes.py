"""Routes by the API: who may publish what, conflicts, options, and what is kept secret. On both databases."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from tests.support.control_app import ControlApp, running_control

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.domains.models import Domain
from towline.control.ids import new_id
from towline.control.routes import registry as module
from towline.control.routes.models import PublishedRoute
from towline.control.routes.registry import UNKNOWN
from towline.wire import link
from towline.wire.streams import KubeService

BASE = "/api/v1/routes"


async def cluster(app: ControlApp, name: str, org_id: str = "", **labels: str) -> str:
    async with app.control.db.begin() as tx:
        row = await clusters.insert(
            tx, org_id=org_id or app.control.default_org, name=name, labels=labels, created_by="", moment=await tx.now()
        )
        return row.id


async def verify(app: ControlApp, *names: str, org_id: str = "") -> None:
    async with app.control.db.begin() as tx:
        for name in names:
            tx.add(
                Domain(
                    id=new_id("dom"), org_id=org_id or app.control.default_org, name=name, state="verified", token="t",
                    verified_at=await tx.now(), created_at=await tx.now(),
                )
            )  # fmt: skip


def body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "web", "to": "service/shop/web:80", "clusters": ["edge-1"], "host": "shop.example.net", **changes,
    }  # fmt: skip


async def place(app: ControlApp) -> str:
    """A cluster and a verified domain."""
    await verify(app, "example.net")
    return await cluster(app, "edge-1", env="prod")


async def test_nobody_without_a_token_reads_or_changes_routes(control_app: ControlApp) -> None:
    client = control_app.client()
    for path in (BASE, f"{BASE}/web", f"{BASE}/web/check", "/api/v1/clusters/edge-1/gateway", "/api/v1/gateway"):
        assert (await client.get(path)).status_code == 401, path
    for path in (BASE, f"{BASE}/accept", f"{BASE}/web/accept", f"{BASE}/web/refuse"):
        assert (await client.post(path, json=body())).status_code == 401, path
    assert (await client.patch(f"{BASE}/web", json={})).status_code == 401
    assert (await client.patch("/api/v1/clusters/edge-1/gateway", json={})).status_code == 401
    assert (await client.delete(f"{BASE}/web")).status_code == 401


async def test_an_operator_sees_routes_and_publishes_none(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    assert (await dora.post(BASE, json=body())).status_code == 201
    otto = await control_app.user("otto", Role.OPERATOR)
    assert [one["name"] for one in (await otto.get(BASE)).json()["items"]] == ["web"]
    assert (await otto.post(BASE, json=body(name="two"))).status_code == 403
    assert (await otto.patch(f"{BASE}/web", json={"enabled": False})).status_code == 403
    assert (await otto.delete(f"{BASE}/web")).status_code == 403
    assert (await otto.post(f"{BASE}/web/refuse")).status_code == 403


async def test_a_route_is_published_shown_changed_and_taken_away(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    made = await dora.post(BASE, json=body(options={"request_timeout": 30}))
    assert made.status_code == 201, made.text
    assert made.json()["state"] == "active" and made.json()["targets"][0]["to"] == "service/shop/web:80"
    changed = await dora.patch(f"{BASE}/web", json={"host": "new.example.net", "options": {"hsts": 60}})
    assert changed.status_code == 200, changed.text
    assert changed.json()["options"] == {"request_timeout": 30, "hsts": 60}
    back = await dora.patch(f"{BASE}/web", json={"options": {"hsts": None}, "to": "tcp/10.0.0.1:80"})
    assert back.json()["options"] == {"request_timeout": 30}
    assert (await dora.get(f"{BASE}/{made.json()['id']}")).json()["targets"][0]["to"] == "tcp/10.0.0.1:80"
    assert await control_app.control.routes.hosts() == {"new.example.net"}
    assert (await dora.delete(f"{BASE}/web")).status_code == 204
    assert (await dora.get(f"{BASE}/web")).json()["error"]["code"] == "route_not_found"
    assert await control_app.control.routes.hosts() == frozenset()
    actions = [event.action for event in await control_app.rows(AuditEvent) if event.target_kind == "route"]
    assert actions == ["route.publish", "route.change", "route.change", "route.unpublish"]


async def test_a_name_that_is_not_the_organisations_is_refused_with_what_would_help(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    for host, words in (
        ("shop.example.org", "towline domains add shop.example.org"),
        ("towline.test", "server's own name"),
    ):
        answer = await dora.post(BASE, json=body(host=host))
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "host_refused"), host
        assert words in answer.json()["error"]["message"]
    none = await dora.post(BASE, json=body(host=""))
    assert none.status_code == 422 and "gateway_domain" in none.json()["error"]["message"]
    assert await control_app.rows(PublishedRoute) == []


async def test_of_two_routes_with_one_claim_the_first_stays_and_both_are_named(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(BASE, json=body(path="/a"))
    taken = await dora.post(BASE, json=body(name="rival", path="/a/"))
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "host_taken")
    assert "rival" in taken.json()["error"]["message"] and "web" in taken.json()["error"]["message"]
    assert (await dora.post(BASE, json=body(name="exact", path="/a", path_type="exact"))).status_code == 201
    assert (await dora.post(BASE, json=body(name="other", path="/b"))).status_code == 201
    moved = await dora.patch(f"{BASE}/other", json={"path": "/a"})
    assert moved.status_code == 409
    assert (await dora.get(f"{BASE}/other")).json()["path"] == "/b"
    same = await dora.post(BASE, json=body(host="b.example.net"))
    assert (same.status_code, same.json()["error"]["code"]) == (409, "name_taken")


async def test_a_route_of_another_organisation_is_not_named(control_app: ControlApp) -> None:
    await place(control_app)
    other = await control_app.org("other")
    await cluster(control_app, "edge-1", other)
    await verify(control_app, "shop.example.net", org_id=other)
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(BASE, json=body(name="secret-name"))
    eve = await control_app.user("eve", Role.OWNER, org_id=other)
    taken = await eve.post(BASE, json=body(name="mine"))
    assert taken.status_code == 409
    assert "secret-name" not in taken.text and "another organisation" in taken.text
    assert (await eve.get(BASE)).json()["items"] == []
    assert (await eve.get(f"{BASE}/secret-name")).status_code == 404
    assert (await eve.delete(f"{BASE}/secret-name")).status_code == 404


async def test_grants_on_a_part_reach_what_runs_there(control_app: ControlApp) -> None:
    here = await place(control_app)
    await cluster(control_app, "edge-2", env="test")
    nora = await control_app.user("nora", Role.DEPLOYER, reach=Reach(ScopeKind.NAMESPACE, namespace="shop"))
    assert (await nora.post(BASE, json=body())).status_code == 201
    assert (await nora.post(BASE, json=body(name="b", to="service/kube-system/dns:53"))).status_code in (403, 404)
    assert (await nora.post(BASE, json=body(name="c", to="tcp/10.0.0.1:22"))).status_code in (403, 404)
    assert (await nora.patch(f"{BASE}/web", json={"to": "service/kube-system/x:1"})).status_code in (403, 404)
    pete = await control_app.user("pete", Role.DEPLOYER, reach=Reach(ScopeKind.PROJECT, project="blog"))
    made = await pete.post(BASE, json=body(name="blog", to="compose/blog/web:80", host="blog.example.net"))
    assert made.status_code == 201, made.text
    assert [one["name"] for one in (await pete.get(BASE)).json()["items"]] == ["blog"]
    assert (await pete.get(f"{BASE}/web")).status_code == 404
    lena = await control_app.user("lena", Role.DEPLOYER, reach=Reach(ScopeKind.SELECTOR, (("env", "prod"),)))
    assert [one["name"] for one in (await lena.get(BASE)).json()["items"]] == ["blog", "web"]
    both = await lena.post(BASE, json=body(name="two", host="two.example.net", clusters=["edge-1", "edge-2"]))
    assert both.status_code in (403, 404)
    carl = await control_app.user("carl", Role.DEPLOYER, reach=Reach(ScopeKind.CLUSTER, cluster_id=here))
    two = await carl.post(BASE, json=body(name="tcp", to="tcp/10.0.0.1:80", host="tcp.example.net"))
    assert two.status_code == 201, two.text


async def test_passwords_of_visitors_are_sealed_and_never_shown(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    made = await dora.post(BASE, json=body(passwords={"vera": "planted-secret-4711"}))
    assert made.status_code == 201, made.text
    assert made.json()["users"] == ["vera"]
    for answer in (made, await dora.get(f"{BASE}/web"), await dora.get(BASE)):
        assert "argon2" not in answer.text and "planted" not in answer.text
    row = (await control_app.rows(PublishedRoute))[0]
    assert b"vera" not in (row.sealed or b"") and "basic_auth" not in row.options
    entry = control_app.control.gateway.registry._entries.options(row)
    assert entry.basic_auth[0].startswith("vera:$argon2id$")
    kept = await dora.patch(f"{BASE}/web", json={"options": {"hsts": 9}})
    assert kept.json()["users"] == ["vera"]
    none = await dora.patch(f"{BASE}/web", json={"passwords": {}})
    assert none.json()["users"] == []
    assert (await control_app.rows(PublishedRoute))[0].sealed is None


async def test_bad_input_is_refused_by_name(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    for changes in (
        {"to": "web"}, {"host": "10.0.0.1"}, {"path": "x"}, {"name": "-x"}, {"options": {"nope": 1}},
        {"options": {"allow": "not a network"}}, {"clusters": ["nowhere"]}, {"extra": 1}, {"path_type": "regex"},
        {"passwords": {"v": "short"}}, {"host": "*.*.example.net"}, {"path": "/" + "a" * 2000},
    ):  # fmt: skip
        answer = await dora.post(BASE, json=body(**changes))
        assert answer.status_code in (404, 422), (changes, answer.text)
    assert await control_app.rows(PublishedRoute) == []


async def test_the_only_cluster_needs_no_name(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    assert (await dora.post(BASE, json=body(clusters=[]))).status_code == 201
    await cluster(control_app, "edge-2")
    answer = await dora.post(BASE, json=body(name="two", clusters=[], host="two.example.net"))
    assert answer.status_code == 422 and "name the cluster" in answer.text


async def test_a_disabled_route_keeps_its_name_and_wants_no_certificate(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(BASE, json=body())
    await dora.patch(f"{BASE}/web", json={"enabled": False})
    assert await control_app.control.routes.hosts() == frozenset()
    assert (await dora.post(BASE, json=body(name="rival"))).status_code == 409
    await control_app.control.gateway.registry.settled()
    assert len(control_app.control.gateway.registry.table) == 0


async def test_a_removed_cluster_takes_its_routes_from_the_table(control_app: ControlApp) -> None:
    await place(control_app)
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post(BASE, json=body())
    gateway = control_app.control.gateway
    await gateway.registry.settled()
    assert len(gateway.registry.table) == 1
    assert (await ada.delete("/api/v1/clusters/edge-1")).status_code == 204
    await gateway.upkeep.tidy()
    await gateway.registry.settled()
    assert len(gateway.registry.table) == 0
    assert (await control_app.rows(PublishedRoute))[0].state == "refused"


async def test_the_check_of_a_route_says_what_is_missing(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(BASE, json=body())
    found = (await dora.get(f"{BASE}/web/check")).json()
    lights = {light["name"]: light for light in found["lights"]}
    assert found["ok"] is False
    assert lights["route"]["state"] == "ok"
    assert lights["agent"]["state"] == "failed" and "agent doctor" in lights["agent"]["reason"]
    assert lights["target"]["state"] == "unknown"
    assert "certificate" in lights and "name" in lights


async def test_what_no_hint_told_is_read_anew_a_page_at_a_time(
    control_app: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    ids = {}
    for name in ("a", "b", "c"):
        made = await dora.post(BASE, json=body(name=name, host=f"{name}.example.net"))
        ids[name] = made.json()["id"]
    registry = control_app.control.gateway.registry
    registry.pin("pinned.example.com", UNKNOWN)
    await registry.settled()
    kept = registry.table.find("a.example.net", b"/")
    async with control_app.control.db.begin() as tx:
        for name, host in (("b", "x"), ("c", "b"), ("b", "c")):
            values = {"host": f"{host}.example.net", "claim": f"{host}.example.net prefix /"}
            await tx.execute(update(PublishedRoute).where(PublishedRoute.id == ids[name]).values(**values))
    monkeypatch.setattr(module, "PAGE", 1)
    control_app.control.bus.publish("resync")
    await registry.settled()
    found = {host: registry.table.find(f"{host}.example.net", b"/") for host in ("a", "b", "c", "x")}
    assert found["a"] is kept, "an unchanged route stays the same object"
    assert {host: one.id if one else None for host, one in found.items()} == {
        "a": ids["a"], "b": ids["c"], "c": ids["b"], "x": None,
    }  # fmt: skip
    assert registry.find("pinned.example.com", b"/") is UNKNOWN


async def test_names_whose_tls_the_target_ends_want_no_certificate_and_their_light_says_so(
    control_app: ControlApp,
) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    made = {
        "web": body(),
        "db": body(name="db", host="db.example.net", options={"tls_passthrough": True}),
        "dbapi": body(name="dbapi", host="db.example.net", path="/api"),
        "queue": body(name="queue", host="queue.example.net", options={"tcp_port": 5672}),
        "both": body(name="both", host="both.example.net", options={"tcp_port": 5673}),
        "bothweb": body(name="bothweb", host="both.example.net", path="/web"),
    }
    for one in made.values():
        assert (await dora.post(BASE, json=one)).status_code == 201, one
    assert await control_app.control.routes.hosts() == {"shop.example.net", "both.example.net"}
    wanted = {one.name for one in await control_app.control.certificates._wanted()}
    assert {"shop.example.net", "both.example.net"} <= wanted
    assert not {"db.example.net", "queue.example.net"} & wanted
    for name in ("db", "queue"):
        lights = {one["name"]: one for one in (await dora.get(f"{BASE}/{name}/check")).json()["lights"]}
        assert lights["certificate"]["state"] == "ok"
        assert "the target itself ends" in lights["certificate"]["reason"]


async def test_a_route_that_changes_its_host_takes_it_from_nobody(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(BASE, json=body(name="older", host="a.example.net"))
    await dora.post(BASE, json=body(name="younger", host="b.example.net"))
    moved = await dora.patch(f"{BASE}/older", json={"host": "b.example.net"})
    assert (moved.status_code, moved.json()["error"]["code"]) == (409, "host_taken")
    assert (await dora.get(f"{BASE}/younger")).json()["state"] == "active"


async def test_of_two_routes_for_one_port_the_first_stays_until_it_gives_the_port_back(
    control_app: ControlApp,
) -> None:
    here = await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    port = {"tcp_port": 5432}
    assert (await dora.post(BASE, json=body(options=port))).status_code == 201
    taken = await dora.post(BASE, json=body(name="rival", host="b.example.net", options=port))
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "host_taken")
    assert "rival cannot have port 5432: the route web has it already" in taken.json()["error"]["message"]

    ref = await claimed_port(control_app, here)
    (row,) = [one for one in await control_app.rows(PublishedRoute) if one.ref == ref]
    assert (row.state, row.claim, row.port_claim) == ("conflict", None, None)
    assert row.reason == "the route web has port 5432 already; first come stays"
    assert await control_app.control.gateway.upkeep.tidy() == 0

    assert (await dora.patch(f"{BASE}/web", json={"enabled": False})).status_code == 200
    (row,) = [one for one in await control_app.rows(PublishedRoute) if one.ref == ref]
    assert (row.state, row.port_claim) == ("active", 5432)
    back = await dora.patch(f"{BASE}/web", json={"enabled": True})
    assert back.status_code == 409 and "port 5432" in back.json()["error"]["message"]
    assert (await dora.patch(f"{BASE}/web", json={"options": {"tcp_port": 5433}, "enabled": True})).status_code == 200

    row = await dora.post(f"{BASE}/{row.name}/refuse")
    assert row.json()["state"] == "refused"
    assert (await dora.patch(f"{BASE}/web", json={"options": port})).json()["state"] == "active"
    assert (await dora.delete(f"{BASE}/web")).status_code == 204
    assert [one.port_claim for one in await control_app.rows(PublishedRoute)] == [None]


async def appeared(app: ControlApp, cluster_id: str, claim: link.RouteClaim) -> None:
    """Have an agent tell a claim after its whole list, which had none."""
    whole = link.Routes(full=True, sequence=1, sources=("ingress", "httproute", "compose"))
    app.control.gateway.intake.take(cluster_id, "agt_1", whole)
    app.control.gateway.intake.take(cluster_id, "agt_1", link.Routes(full=False, sequence=2, claims=(claim,)))
    assert await app.control.gateway.intake.flush()


async def claimed_port(app: ControlApp, cluster_id: str) -> str:
    """Have an agent claim a name whose requests come by port 5432. Returns: what its source calls it."""
    target = KubeService(namespace="shop", name="db", port="5432")
    claim = link.RouteClaim(
        ref="compose/shop/db/0", source="compose", host="db.example.net", target=target, options={"tcp_port": "5432"}
    )
    await appeared(app, cluster_id, claim)
    return claim.ref


async def test_the_database_gives_no_port_to_two_routes(control_app: ControlApp) -> None:
    await place(control_app)
    dora = await control_app.user("dora", Role.DEPLOYER)
    for name in ("one", "two"):
        await dora.post(BASE, json=body(name=name, host=f"{name}.example.net"))
    with pytest.raises(IntegrityError):
        async with control_app.control.db.begin() as tx:
            await tx.execute(update(PublishedRoute).values(port_claim=5432))


async def test_a_host_below_the_gateways_domain_is_one_organisations(
    prepared_database_url: str, tmp_path: Path
) -> None:
    async with running_control(prepared_database_url, tmp_path, gateway_domain="apps.example.net") as app:
        await cluster(app, "edge-1")
        other = await app.org("other")
        await cluster(app, "edge-1", other)
        dora = await app.user("dora", Role.DEPLOYER)
        eve = await app.user("eve", Role.OWNER, org_id=other)
        shared = body(host="secret-edge-1.apps.example.net", path="/a")
        assert (await dora.post(BASE, json=shared)).status_code == 201
        taken = await eve.post(BASE, json={**shared, "name": "mine", "path": "/b"})
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "host_taken")
        assert "another organisation has routes on secret-edge-1.apps.example.net" in taken.json()["error"]["message"]
        assert "web" not in taken.text and "/a" not in taken.text
        assert (await dora.post(BASE, json={**shared, "name": "two", "path": "/b"})).status_code == 201

        claim = link.RouteClaim(
            ref="ingress/shop/x/0", source="ingress", host=shared["host"], path="/c",
            target=KubeService(namespace="shop", name="x", port="80"),
        )  # fmt: skip
        theirs = next(one.id for one in await app.rows(Cluster) if one.org_id == other)
        await appeared(app, theirs, claim)
        (row,) = [one for one in await app.rows(PublishedRoute) if one.ref == claim.ref]
        assert (row.state, row.claim) == ("conflict", None) and "another organisation" in row.reason
        assert await app.control.gateway.upkeep.tidy() == 0
        for name in ("web", "two"):
            assert (await dora.delete(f"{BASE}/{name}")).status_code == 204
        (row,) = await app.rows(PublishedRoute)
        assert row.state == "active"
        assert (await dora.post(BASE, json=shared)).status_code == 409

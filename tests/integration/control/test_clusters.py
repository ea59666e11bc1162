"""Clusters over the API: lists, selectors, names, and who may do what."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import enrolled, link_listener

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.agents import keys
from towline.control.agents.identity import ServerIdentity
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster, InventoryContainer
from towline.control.db import now
from towline.wire import link

NAMES = ("api-eu", "api-us", "db-eu", "web-eu")


@pytest.fixture
async def fleet(control_app: ControlApp) -> ControlApp:
    """Four clusters with labels, none connected."""
    for name in NAMES:
        kind, region = name.split("-")
        await enrolled(control_app, cluster_name=name, labels={"kind": kind, "region": region})
    return control_app


@pytest.fixture
async def url(control_app: ControlApp) -> AsyncIterator[str]:
    async with link_listener(control_app.control) as address:
        yield address


async def _names(app: ControlApp, query: str, client: httpx.AsyncClient | None = None) -> list[str]:
    answer = await (client or app.joiner).get(f"/api/v1/clusters?{query}")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["items"]]


async def test_clusters_need_a_permission(fleet: ControlApp) -> None:
    for path in ("", "/api-eu", "/api-eu/containers", "/api-eu/projects", "/api-eu/link/doctor"):
        assert (await fleet.client().get(f"/api/v1/clusters{path}")).status_code == 401
    viewer = await fleet.user("vera", Role.VIEWER)
    assert (await viewer.patch("/api/v1/clusters/api-eu", json={})).status_code == 403
    assert (await viewer.delete("/api/v1/clusters/api-eu")).status_code == 403
    events = [event for event in await fleet.rows(AuditEvent) if event.result == "refused"]
    assert len(events) == 2


async def test_clusters_of_another_organisation_do_not_exist(fleet: ControlApp) -> None:
    eve = await fleet.user("eve", Role.OWNER, org_id=await fleet.org("other"))
    assert (await eve.get("/api/v1/clusters")).json()["total"] == 0
    for call in (
        eve.get("/api/v1/clusters/api-eu"),
        eve.patch("/api/v1/clusters/api-eu", json={"name": "x"}),
        eve.delete("/api/v1/clusters/api-eu"),
        eve.get("/api/v1/clusters/api-eu/containers"),
        eve.post("/api/v1/clusters/api-eu/link/test", json={}),
    ):
        assert (await call).status_code == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", list(NAMES)),
        ("sort=-name", list(reversed(NAMES))),
        ("selector=region%3Deu", ["api-eu", "db-eu", "web-eu"]),
        ("selector=region%3Deu,kind!%3Ddb", ["api-eu", "web-eu"]),
        ("selector=kind in (api, web),region%3Deu", ["api-eu", "web-eu"]),
        ("selector=kind notin (api)", ["db-eu", "web-eu"]),
        ("selector=!kind", []),
        ("selector=nothing!%3Dx", list(NAMES)),
        ("search=API", ["api-eu", "api-us"]),
        ("search=us", ["api-us"]),
        ("search=%25", []),
        ("search=_", []),
        ("state=working", list(NAMES)),
        ("state=healthy&state=down", []),
    ],
)
async def test_the_list_is_searched_selected_and_sorted(fleet: ControlApp, query: str, expected: list[str]) -> None:
    assert await _names(fleet, query) == expected


async def test_pages_hold_every_cluster_once(fleet: ControlApp) -> None:
    seen, cursor = [], ""
    for _ in range(4):
        answer = (await fleet.joiner.get(f"/api/v1/clusters?limit=1&sort=-state&cursor={cursor}")).json()
        seen += [one["name"] for one in answer["items"]]
        cursor = answer["next_cursor"]
    assert sorted(seen) == list(NAMES)
    assert cursor is None


@pytest.mark.parametrize(
    "query", ["sort=password", "sort=name;drop", "limit=0", "limit=501", "cursor=abc", "selector=a b", "selector=,"]
)
async def test_senseless_queries_are_refused(fleet: ControlApp, query: str) -> None:
    assert (await fleet.joiner.get(f"/api/v1/clusters?{query}")).status_code == 422


async def test_a_grant_on_labels_shows_those_clusters_alone(fleet: ControlApp) -> None:
    sam = await fleet.user("sam", Role.ADMIN, reach=Reach(ScopeKind.SELECTOR, selector=(("region", "us"),)))
    assert await _names(fleet, "", sam) == ["api-us"]
    assert (await sam.get("/api/v1/clusters/api-eu")).status_code == 404
    assert (await sam.patch("/api/v1/clusters/api-us", json={"description": "x"})).status_code == 200
    # Labels carry grants: changing them could widen one's own.
    assert (await sam.patch("/api/v1/clusters/api-us", json={"labels": {"region": "eu"}})).status_code == 403


async def test_a_cluster_is_renamed_labelled_and_described(fleet: ControlApp) -> None:
    body = {"name": "edge", "labels": {"a": "b"}, "description": "Ümlaut"}
    shown = (await fleet.joiner.patch("/api/v1/clusters/api-eu", json=body)).json()
    assert (shown["name"], shown["labels"], shown["description"]) == ("edge", {"a": "b"}, "Ümlaut")
    assert (await fleet.joiner.get("/api/v1/clusters/api-eu")).status_code == 404
    assert (await fleet.joiner.get(f"/api/v1/clusters/{shown['id']}")).json()["name"] == "edge"
    assert (await fleet.joiner.patch("/api/v1/clusters/edge", json={"name": "db-eu"})).status_code == 409
    assert [event.action for event in await fleet.rows(AuditEvent)].count("cluster.change") == 1


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""}, {"name": "."}, {"name": ".."}, {"name": "-rf"}, {"name": "a;id"}, {"name": "$(id)"},
        {"name": "a\nb"}, {"name": "😀"}, {"name": "A"}, {"name": "x" * 64}, {"labels": {"": "x"}},
        {"labels": {"a": "b c"}}, {"description": "x" * 501}, {"description": "a\x00b"}, {"org_id": "x"},
    ],
)  # fmt: skip
async def test_bad_names_and_labels_are_refused(fleet: ControlApp, body: dict[str, object]) -> None:
    assert (await fleet.joiner.patch("/api/v1/clusters/api-eu", json=body)).status_code == 422


async def test_a_removed_cluster_leaves_its_record_and_nothing_else(fleet: ControlApp) -> None:
    assert (await fleet.joiner.delete("/api/v1/clusters/api-eu")).status_code == 204
    assert await _names(fleet, "") == ["api-us", "db-eu", "web-eu"]
    assert [event.target_name for event in await fleet.rows(AuditEvent) if event.action == "cluster.remove"] == [
        "api-eu"
    ]


async def test_a_report_that_cannot_be_stored_harms_no_other_cluster(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app, cluster_name="good") as good, await enrolled(control_app) as odd:
        for agent in (good, odd):
            await agent.connect(url)
            await agent.synced()
        name = "x\x00\x1b[2J" + "y" * 400
        strange = link.Container(id="c1", name=name, project="p\x00", service="s", restarts=2**62, image="i" * 9000)
        await odd.send(link.Inventory(full=True, containers=(strange,)))
        await odd.send(link.Heartbeat(sent_at=0.0, reconnects=2**62, last_error="\x00" * 900))
        await good.send(link.Facts(hostname="fine"))
        for agent in (good, odd):
            await agent.synced()
        await control_app.control.fleet.reports.flush()
        assert (await control_app.joiner.get("/api/v1/clusters/good")).json()["facts"]["hostname"] == "fine"
        (row,) = await control_app.rows(InventoryContainer)
        assert row.name.startswith("x[2Jy")
        assert (row.project, len(row.name)) == ("p", 255)


async def test_agents_are_told_new_addresses_in_band(control_app: ControlApp, url: str) -> None:
    fleet = control_app.control.fleet
    async with await enrolled(control_app) as agent:
        before = (await agent.connect(url)).trust
        assert before is not None
        old = fleet.identity()
        moved = ServerIdentity(old.origin, (old.origin, "https://new.test"), (*old.fingerprints, "sha256:next"))
        fleet.trust._identity = lambda: moved
        await fleet.trust.refresh()
        told = await agent.next(link.Trust)
        assert told.server_urls == (old.origin, "https://new.test")
        assert told.fingerprints[-1] == "sha256:next"
        assert told.version > before.version
        await fleet.trust.refresh()
        await agent.synced()
        assert agent.received(link.Trust) == []


async def test_an_update_is_passed_on_only_with_a_known_signature(control_app: ControlApp, url: str) -> None:
    release = Ed25519PrivateKey.generate()
    folder = control_app.settings.data_folder / "keys"
    public = keys.pack(release.public_key().public_bytes_raw())
    (folder / "update-1.pub").write_text(public + "\n")
    (folder / "update-2.pub").write_text("no key")
    await control_app.control.fleet.trust.refresh()
    async with await enrolled(control_app, cluster_name="edge") as agent:
        assert (await agent.connect(url)).trust.signing_keys == (public,)
        path = f"/api/v1/clusters/edge/agents/{agent.identity.agent_id}/update"
        manifest = '{"version":"9.0.0","files":[]}'
        signed = keys.pack(release.sign(link.update_text(manifest)))
        forged = keys.pack(Ed25519PrivateKey.generate().sign(link.update_text(manifest)))
        send = control_app.joiner.post
        assert (await send(path, json={"manifest": manifest, "signature": forged})).status_code == 422
        assert (await send(path, json={"manifest": manifest + " ", "signature": signed})).status_code == 422
        assert (await send(path, json={"manifest": manifest, "signature": signed})).status_code == 202
        assert (await agent.next(link.Update)).manifest == manifest
        deployer = await control_app.user("dora", Role.DEPLOYER)
        assert (await deployer.post(path, json={"manifest": manifest, "signature": signed})).status_code == 403


async def test_the_figures_show_links_refusals_and_jobs(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app, cluster_name="edge") as agent:
        await agent.connect(url)
        await agent.send(link.Heartbeat(sent_at=0.0, round_trip=0.02, reconnects=3))
        await agent.next(link.HeartbeatAck)
        text = control_app.control.metrics.render()[0].decode()
        assert "towline_links_up 1.0" in text
        assert 'towline_link_reconnects{cluster="edge"} 3.0' in text
        assert 'towline_link_round_trip_seconds{cluster="edge"}' in text


async def test_old_inventories_tokens_and_agents_are_forgotten(control_app: ControlApp, url: str) -> None:
    async with await enrolled(control_app) as agent:
        await agent.connect(url)
        await agent.send(link.Inventory(full=True, containers=(link.Container(id="c", name="c"),)))
        await agent.synced()
        await control_app.control.fleet.reports.flush()
        await control_app.control.retention.sweep()
        assert len(await control_app.rows(InventoryContainer)) == 1
        agent.cut()
        await agent.ended()
        await asyncio.sleep(0)
    while len(control_app.control.fleet.links):
        await asyncio.sleep(0.01)
    await control_app.control.fleet.reports.flush()
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Cluster).values(last_seen_at=now(-31 * 86400)))
    removed = await control_app.control.retention.sweep()
    assert removed["inventories"] == 1
    assert await control_app.rows(InventoryContainer) == []


async def test_a_role_is_given_on_a_cluster_by_its_name(fleet: ControlApp) -> None:
    admin = await fleet.user("root", Role.ADMIN)
    await fleet.user("bob")
    wanted = {"user": "bob", "role": "operator", "scope": {"kind": "cluster", "cluster": "web-eu"}}
    made = await admin.post("/api/v1/grants", json=wanted)
    assert made.status_code == 201, made.text
    assert made.json()["scope"]["cluster_id"].startswith("clu_")
    wanted["scope"] = {"kind": "cluster", "cluster": "nowhere"}
    assert (await admin.post("/api/v1/grants", json=wanted)).status_code == 404

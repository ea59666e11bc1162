"""What agents' sources claim: proposals, what goes live by itself, grace, conflicts, and links that flap.

Over a real link where the link matters; else what an agent says is handed to the intake. On both databases.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.integration.control.test_routes import cluster, verify
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener

from towline.control.access.permissions import Role
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster
from towline.control.db import now
from towline.control.routes import intake
from towline.control.routes.intake import MOST_KEPT
from towline.control.routes.models import PublishedRoute
from towline.wire import link
from towline.wire.streams import KubeService

BASE = "/api/v1/routes"


def claim(name: str = "web", **changes: Any) -> link.RouteClaim:
    values: dict[str, Any] = {
        "ref": f"ingress/shop/{name}/0/0",
        "source": "ingress",
        "host": f"{name}.example.net",
        "target": KubeService(namespace="shop", name=name, port="80"),
    }
    return link.RouteClaim(**{**values, **changes})


def listed(*claims: link.RouteClaim, **changes: Any) -> link.Routes:
    """A whole list."""
    values: dict[str, Any] = {"full": True, "sequence": 1, "sources": ("ingress", "httproute", "compose")}
    return link.Routes(**{**values, "claims": claims, **changes})


def told(*claims: link.RouteClaim, removed: tuple[str, ...] = ()) -> link.Routes:
    """What changed."""
    return link.Routes(full=False, sequence=2, claims=claims, removed=removed)


async def tell(app: ControlApp, cluster_id: str, *messages: link.Routes, agent: str = "agt_1") -> None:
    """Hand messages to the intake one by one, and have each written."""
    for message in messages:
        app.control.gateway.intake.take(cluster_id, agent, message)
        assert await app.control.gateway.intake.flush()
    await app.control.gateway.registry.settled()


async def states(app: ControlApp) -> dict[str, str]:
    return {row.ref.split("/")[2] if row.ref else row.name: row.state for row in await app.rows(PublishedRoute)}


async def place(app: ControlApp) -> str:
    await verify(app, "example.net")
    return await cluster(app, "edge-1")


def served(app: ControlApp) -> set[str]:
    """The hosts that the edge answers for."""
    return set(app.control.gateway.registry.table.hosts())


async def test_what_was_there_when_a_cluster_joined_is_proposed_and_what_appears_goes_live(
    control_app: ControlApp,
) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(claim("old")), told(claim("new")))
    assert await states(control_app) == {"old": "proposed", "new": "active"}
    assert served(control_app) == {"new.example.net"}
    dora = await control_app.user("dora", Role.DEPLOYER)
    found = {one["host"]: one for one in (await dora.get(BASE, params={"cluster": "edge-1"})).json()["items"]}
    old = found["old.example.net"]
    assert old["existed"] and "when the cluster joined" in old["reason"]
    assert old["name"] == "edge-1.ingress.shop.old.0.0" and old["source"] == "ingress"
    accepted = await dora.post(f"{BASE}/{old['id']}/accept")
    assert (accepted.json()["state"], accepted.json()["decided_by"]) == ("active", "dora")
    await control_app.control.gateway.registry.settled()
    assert served(control_app) == {"new.example.net", "old.example.net"}


async def test_a_source_that_is_followed_later_brings_proposals_not_publications(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(
        control_app, here, listed(sources=("compose",)), told(claim("surprise")),
        listed(claim("surprise"), claim("too")), told(claim("later")),
    )  # fmt: skip
    assert await states(control_app) == {"surprise": "proposed", "too": "proposed", "later": "active"}


async def test_all_proposals_of_a_cluster_are_accepted_at_once(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(*(claim(f"s{number}") for number in range(30))))
    dora = await control_app.user("dora", Role.DEPLOYER)
    assert (await dora.post(f"{BASE}/accept", json={"cluster": "edge-1"})).json() == {"accepted": 30}
    await control_app.control.gateway.registry.settled()
    assert len(served(control_app)) == 30
    assert (await dora.post(f"{BASE}/accept", json={"cluster": "edge-1"})).json() == {"accepted": 0}


async def test_a_refused_claim_stays_refused_when_it_comes_back(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(), told(claim()))
    dora = await control_app.user("dora", Role.DEPLOYER)
    assert (await dora.post(f"{BASE}/edge-1.ingress.shop.web.0.0/refuse")).json()["state"] == "refused"
    await tell(control_app, here, told(removed=(claim().ref,)), told(claim()), listed(claim()))
    assert await states(control_app) == {"web": "refused"}
    assert served(control_app) == set()


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [("automatic", "active", "active"), ("proposals", "proposed", "proposed"), ("off", "refused", "refused")],
)
async def test_each_cluster_has_its_own_setting(control_app: ControlApp, mode: str, before: str, after: str) -> None:
    here = await place(control_app)
    ada = await control_app.user("ada", Role.ADMIN)
    changed = await ada.patch("/api/v1/clusters/edge-1/gateway", json={"existing": mode, "appearing": mode})
    assert changed.status_code == 200, changed.text
    await tell(control_app, here, listed(claim("old")), told(claim("new")))
    assert await states(control_app) == {"old": before, "new": after}
    shown = (await ada.get("/api/v1/clusters/edge-1/gateway")).json()
    assert (shown["existing"], shown["routes"]) == (mode, 2)


async def test_a_change_of_the_setting_is_acted_on_at_once(control_app: ControlApp) -> None:
    here = await place(control_app)
    ada = await control_app.user("ada", Role.ADMIN)
    await tell(control_app, here, listed(claim("old")), told(claim("new")))
    await ada.patch("/api/v1/clusters/edge-1/gateway", json={"appearing": "proposals"})
    assert (await states(control_app))["new"] == "active", "what answers goes on answering"
    await ada.patch("/api/v1/clusters/edge-1/gateway", json={"appearing": "off", "existing": "automatic"})
    assert await states(control_app) == {"old": "active", "new": "refused"}
    otto = await control_app.user("otto", Role.DEPLOYER)
    assert (await otto.patch("/api/v1/clusters/edge-1/gateway", json={"existing": "off"})).status_code == 403


async def test_a_claim_to_a_name_of_nobody_waits_until_its_domain_is_verified(control_app: ControlApp) -> None:
    here = await cluster(control_app, "edge-1")
    await tell(control_app, here, listed(), told(claim()))
    row = (await control_app.rows(PublishedRoute))[0]
    assert row.state == "refused" and "towline domains add" in row.reason
    await verify(control_app, "example.net")
    async with control_app.control.db.begin() as tx:
        await control_app.control.routes.domains_changed(tx, control_app.control.default_org)
    await control_app.control.gateway.registry.settled()
    assert served(control_app) == {"web.example.net"}


async def test_first_come_stays_and_the_next_takes_over_when_it_goes(control_app: ControlApp) -> None:
    here = await place(control_app)
    there = await cluster(control_app, "edge-2")
    await tell(control_app, here, listed(), told(claim()))
    await tell(control_app, there, listed(), told(claim()), agent="agt_2")
    rows = {row.cluster_id: row for row in await control_app.rows(PublishedRoute)}
    assert (rows[here].state, rows[there].state) == ("active", "conflict")
    assert "edge-1.ingress.shop.web.0.0" in rows[there].reason
    await tell(control_app, here, listed(claim()))
    assert {row.cluster_id: row.state for row in await control_app.rows(PublishedRoute)}[here] == "active"
    await tell(control_app, here, told(removed=(claim().ref,)))
    row = (await control_app.rows(PublishedRoute))[0]
    assert (row.cluster_id, row.state) == (there, "active")
    entry = control_app.control.gateway.registry.table.find("web.example.net", b"/")
    assert entry is not None and entry.id == row.id


async def test_a_removed_cluster_gives_its_names_to_who_waits(control_app: ControlApp) -> None:
    here = await place(control_app)
    there = await cluster(control_app, "edge-2")
    await tell(control_app, here, listed(), told(claim()))
    await tell(control_app, there, listed(), told(claim()), agent="agt_2")
    ada = await control_app.user("ada", Role.ADMIN)
    assert (await ada.delete("/api/v1/clusters/edge-1")).status_code == 204
    await control_app.control.gateway.upkeep.tidy()
    await control_app.control.gateway.registry.settled()
    row = (await control_app.rows(PublishedRoute))[0]
    assert (row.cluster_id, row.state) == (there, "active")
    entry = control_app.control.gateway.registry.table.find("web.example.net", b"/")
    assert entry is not None and entry.id == row.id


async def test_what_is_missing_from_a_list_goes_after_its_grace_and_not_before(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(), told(claim("a"), claim("b")))
    await tell(control_app, here, listed(claim("a")))
    assert await states(control_app) == {"a": "active", "b": "leaving"}
    assert served(control_app) == {"a.example.net", "b.example.net"}
    assert await control_app.control.gateway.upkeep.tidy() == 0
    await tell(control_app, here, listed(claim("a"), claim("b")))
    assert await states(control_app) == {"a": "active", "b": "active"}
    await tell(control_app, here, listed(claim("a")))
    await _pass_grace(control_app)
    await control_app.control.gateway.upkeep.tidy()
    await control_app.control.gateway.registry.settled()
    assert await states(control_app) == {"a": "active"}
    assert served(control_app) == {"a.example.net"}


async def test_claims_of_a_source_that_a_list_is_not_about_stay_longer(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(), told(claim("a")), listed(sources=("compose",)))
    row = (await control_app.rows(PublishedRoute))[0]
    assert row.state == "leaving" and not row.missing
    assert row.leaving_at - row.changed_at > timedelta(minutes=30)
    await _pass_grace(control_app)
    await control_app.control.gateway.upkeep.tidy()
    assert await states(control_app) == {"a": "leaving"}
    await control_app.control.gateway.registry.settled()
    assert served(control_app) == set()
    await tell(control_app, here, listed(claim("a")))
    assert await states(control_app) == {"a": "active"}


async def test_a_cluster_that_is_away_for_long_gives_its_names_up_and_gets_them_back(control_app: ControlApp) -> None:
    here = await place(control_app)
    there = await cluster(control_app, "edge-2")
    await tell(control_app, here, listed(), told(claim()))
    await tell(control_app, there, listed(), told(claim()), agent="agt_2")
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Cluster).where(Cluster.id == here).values(last_seen_at=now(-3700), connected=False))
    await control_app.control.gateway.upkeep.tidy()
    rows = {row.cluster_id: row.state for row in await control_app.rows(PublishedRoute)}
    assert rows == {here: "leaving", there: "active"}
    await tell(control_app, there, told(removed=(claim().ref,)))
    await tell(control_app, here, listed(claim()))
    assert [row.state for row in await control_app.rows(PublishedRoute)] == ["active"]


async def test_a_list_in_pieces_counts_when_it_is_whole(control_app: ControlApp) -> None:
    here = await place(control_app)
    intake = control_app.control.gateway.intake
    await tell(control_app, here, listed(claim("a"), claim("b")))
    intake.take(here, "agt_1", listed(claim("a"), sequence=5, more=True))
    await intake.flush()
    assert intake.waiting == 0
    intake.take(here, "agt_1", listed(claim("c"), sequence=6))
    await intake.flush()
    assert await states(control_app) == {"a": "proposed", "b": "proposed", "c": "active"}
    rows = {row.ref: row for row in await control_app.rows(PublishedRoute)}
    assert rows[claim("b").ref].missing and not rows[claim("a").ref].missing
    # A piece that does not follow the one before begins a list of its own.
    intake.take(here, "agt_1", listed(claim("x"), sequence=7, more=True))
    intake.take(here, "agt_1", listed(claim("a"), claim("b"), claim("c"), sequence=9))
    await intake.flush()
    assert set(await states(control_app)) == {"a", "b", "c"}


async def test_nothing_that_an_agent_says_is_believed_unchecked(control_app: ControlApp) -> None:
    here = await place(control_app)
    odd = [
        claim("host", host="10.0.0.1"),
        claim("own", host="towline.test"),
        claim("path", path="no slash"),
        claim("option", options={"allow": "everybody"}),
        claim("target", target=KubeService(namespace="../x", name="web", port="80")),
        claim("problem", problem="port http is not there"),
        claim("nul", notes=("a\0b",), ref="ingress/shop/nul/0/0"),
        claim("caution", caution="its source asks for sign-in"),
        claim("wild", host="*.example.net"),
    ]
    await tell(control_app, here, listed(), told(*odd))
    found = {row.ref.split("/")[2]: row for row in await control_app.rows(PublishedRoute)}
    refused = {name for name, row in found.items() if row.state == "refused"}
    assert refused == {"host", "own", "path", "option", "target", "problem"}
    assert found["caution"].state == "proposed" and "sign-in" in found["caution"].reason
    assert "port http" in found["problem"].reason and "allow" in found["option"].reason
    assert served(control_app) == {"nul.example.net", "*.example.net"}


async def test_a_source_that_is_given_another_name_is_asked_about_again(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(claim()))
    dora = await control_app.user("dora", Role.DEPLOYER)
    await dora.post(f"{BASE}/accept", json={"cluster": "edge-1"})
    await tell(control_app, here, told(claim(path="/x")))
    assert await states(control_app) == {"web": "active"}
    await tell(control_app, here, told(claim(host="other.example.net", path="/x")))
    assert await states(control_app) == {"web": "proposed"}


async def test_a_source_without_a_host_gets_a_name_of_the_gateways_domain(database_url: str, tmp_path: Any) -> None:
    from tests.support.control_app import running_control

    async with running_control(database_url, tmp_path, gateway_domain="apps.example.org") as app:
        here = await cluster(app, "edge-1")
        await tell(app, here, listed(), told(claim("shop", host="")))
        assert served(app) == {"shop-edge-1.apps.example.org"}


async def test_more_claims_than_are_kept_are_left_out_and_counted(control_app: ControlApp) -> None:
    here = await cluster(control_app, "edge-1")
    many = [claim(f"s{number}", host="") for number in range(MOST_KEPT + 3)]
    control_app.control.gateway.intake.take(here, "agt_1", listed(*many))
    pending = control_app.control.gateway.intake._pending[here]
    assert (len(pending.claims), pending.left_out) == (MOST_KEPT, 3)
    control_app.control.gateway.intake._pending.clear()


async def test_agent_that_tells_of_ever_new_claims_fills_no_database(
    control_app: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await place(control_app)
    monkeypatch.setattr("towline.control.routes.writing.MOST_ROUTES", 3)
    for number in range(3):
        await tell(control_app, here, told(claim(f"a{number}"), claim(f"b{number}")))
    assert set(await states(control_app)) == {"a0", "b0", "a1"}
    await tell(control_app, here, told(claim("c"), removed=("ingress/shop/a0/0/0",)))
    assert set(await states(control_app)) == {"c", "b0", "a1"}


async def test_claims_are_put_on_record_once_for_a_batch(control_app: ControlApp) -> None:
    here = await place(control_app)
    await tell(control_app, here, listed(), told(*(claim(f"s{number}") for number in range(50))), listed())
    events = [event for event in await control_app.rows(AuditEvent) if event.action == "route.claim"]
    assert [event.detail.get("added", 0) for event in events] == [50, 0]
    assert events[1].detail["leaving"] == 50 and len(events[0].detail["hosts"]) == 10


# -- over a real link ------------------------------------------------------------------------------


@asynccontextmanager
async def connected(app: ControlApp) -> AsyncIterator[tuple[ScriptedAgent, str]]:
    async with link_listener(app.control) as url, await enrolled(app, cluster_name="edge-1") as agent:
        await agent.connect(url)
        yield agent, url


async def test_a_claim_is_live_within_a_second_after_an_agent_told_it(control_app: ControlApp) -> None:
    await verify(control_app, "example.net")
    async with connected(control_app) as (agent, _):
        await agent.send(listed())
        async with asyncio.timeout(1.0):
            await agent.send(told(claim()))
            while served(control_app) != {"web.example.net"}:
                await asyncio.sleep(0.005)
        async with asyncio.timeout(1.0):
            await agent.send(told(removed=(claim().ref,)))
            while served(control_app):
                await asyncio.sleep(0.005)


async def test_a_link_that_flaps_removes_no_route(control_app: ControlApp) -> None:
    """As an agent does that is cut again and again: in the middle of its list, before it, and right behind it."""
    await verify(control_app, "example.net")
    claims = [claim(f"s{number}") for number in range(40)]
    gone: list[set[str]] = []
    async with connected(control_app) as (agent, url):
        await agent.send(listed(sequence=1))
        await agent.send(told(*claims))
        await agent.synced()
        await control_app.control.gateway.intake.flush()
        await control_app.control.gateway.registry.settled()
        everything = served(control_app)
        assert len(everything) == 40
        for turn in range(12):
            agent.cut()
            await agent.ended()
            await agent.connect(url)
            if turn % 3:
                await agent.send(listed(*claims[:20], sequence=1, more=True))
            if turn % 3 == 2:
                await agent.send(listed(*claims[20:], sequence=2))
                await agent.synced()
            await control_app.control.gateway.intake.flush()
            await control_app.control.gateway.upkeep.tidy()
            await control_app.control.gateway.registry.settled()
            if served(control_app) != everything:
                gone.append(everything - served(control_app))
    assert gone == []
    assert {row.state for row in await control_app.rows(PublishedRoute)} == {"active"}


async def test_an_agent_is_asked_once_for_a_list_when_more_went_away_than_is_remembered(
    control_app: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_REMOVED", 3)
    await verify(control_app, "example.net")
    claims = [claim(f"s{number}") for number in range(5)]
    async with connected(control_app) as (agent, _):
        await agent.send(listed(sequence=1))
        await agent.send(told(*claims))
        await agent.synced()
        await control_app.control.gateway.intake.flush()
        waiting, (here,) = control_app.control.gateway.intake, await control_app.rows(Cluster)
        for one in claims:  # two more than are remembered
            waiting.take(here.id, "", told(removed=(one.ref,)))
        await agent.next(link.Lead)
        assert waiting.counts["lists_asked"] == 1
        await agent.send(listed(sequence=2))
        await agent.synced()
        await waiting.flush()
    assert {row.state for row in await control_app.rows(PublishedRoute)} <= {"leaving"}


async def test_an_agent_that_waits_for_approval_is_heard_once_it_is_let_in(control_app: ControlApp) -> None:
    await verify(control_app, "example.net")
    async with (
        link_listener(control_app.control) as url,
        await enrolled(control_app, cluster_name="edge-1", approval_required=True) as agent,
    ):
        await agent.connect(url)
        await agent.send(listed(claim()))
        await agent.synced()
        assert control_app.control.gateway.intake.waiting == 0
        ada = await control_app.user("ada", Role.ADMIN)
        approved = await ada.post(f"/api/v1/clusters/edge-1/agents/{agent.identity.agent_id}/approve")
        assert approved.status_code == 200, approved.text
        await agent.next(link.Lead)


async def test_an_agent_is_told_whether_to_follow_ingresses(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    async with connected(control_app) as (agent, url):
        answer = await ada.patch("/api/v1/clusters/edge-1/gateway", json={"watch_ingresses": "on"})
        assert answer.status_code == 200
        assert (await agent.next(link.SettingsChanged)).settings.watch_ingresses == "on"
        agent.cut()
        await agent.ended()
        await agent.connect(url)
        assert (await agent.next(link.SettingsChanged)).settings.watch_ingresses == "on"
        await agent.synced()
        await agent.send(link.Heartbeat(sent_at=0.0, is_private=True, gateway_routes=3))
        await agent.next(link.HeartbeatAck)
        await control_app.control.fleet.reports.flush()
        assert (await ada.get("/api/v1/clusters/edge-1/gateway")).json()["is_private"] is True


async def _pass_grace(app: ControlApp) -> None:
    """Let the grace time of every route pass."""
    async with app.control.db.begin() as tx:
        await tx.execute(
            update(PublishedRoute).where(PublishedRoute.leaving_at.is_not(None)).values(leaving_at=now(-1))
        )

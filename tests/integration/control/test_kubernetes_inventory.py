"""What agents tell of Kubernetes clusters, over a real link into both databases, and who sees which part of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.clusters.models import Cluster
from towline.control.db import now
from towline.control.kubernetes.models import KubeCluster, KubeObject
from towline.wire import kube_inventory as wire
from towline.wire import link

BASE = "/api/v1/clusters/prod/kubernetes"
SECTIONS = ("", "/nodes", "/namespaces", "/workloads", "/pods?state=unwell", "/events")
READY = (
    link.Capability(name="compose", ready=False, reason="no Docker"),
    link.Capability(name="kubernetes", ready=True, version="v1.36.3"),
)


def told(**changes: Any) -> link.KubeInventory:
    """A small cluster."""
    values: dict[str, Any] = {
        "full": True,
        "about": wire.About(version="v1.36.3", platform="linux/amd64"),
        "nodes": (
            wire.Node(name="n1", ready=True, capacity=wire.Amounts(cpu=4.0, memory_bytes=2**33, pods=110)),
            wire.Node(name="n2", ready=True, usage=wire.Amounts(cpu=0.5), created_at=1.0),
        ),
        "namespaces": (
            wire.Namespace(name="shop", phase="Active", pods=wire.PodCounts(total=2, running=2, unwell=1)),
            wire.Namespace(name="web", phase="Active", pods=wire.PodCounts(total=5, running=4, pending=1)),
        ),
        "workloads": (
            wire.Workload(kind="Deployment", namespace="web", name="api", state="ready", desired=2, ready=2),
            wire.Workload(kind="Deployment", namespace="shop", name="cart", state="progressing", desired=2, ready=1),
            wire.Workload(kind="CronJob", namespace="shop", name="report", state="scheduled", schedule="@daily"),
        ),
        "pods": (
            wire.Pod(namespace="shop", name="cart-1", phase="Running", reason="CrashLoopBackOff (cart)", restarts=7),
        ),
        "events": (wire.Event(namespace="shop", kind="Pod", name="cart-1", reason="BackOff", count=9, last_at=100.0),),
    }
    return link.KubeInventory(**{**values, **changes})


@pytest.fixture
async def agent(control_app: ControlApp) -> AsyncIterator[ScriptedAgent]:
    """A connected agent of the cluster `prod`."""
    async with link_listener(control_app.control) as url, await enrolled(control_app, cluster_name="prod") as agent:
        agent.capabilities = READY
        await agent.connect(url)
        yield agent


async def _tell(app: ControlApp, agent: ScriptedAgent, *messages: link.KubeInventory) -> None:
    for message in messages:
        await agent.send(message)
    await agent.synced()
    await app.control.kube_intake.flush()
    await app.control.fleet.reports.flush()


async def _get(app: ControlApp, path: str) -> Any:
    found = await app.joiner.get(BASE + path)
    assert found.status_code == 200, found.text
    return found.json()


async def test_the_inventory_needs_a_permission(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, told())
    eve = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    nobody = await control_app.user(
        "ned", Role.VIEWER, reach=Reach(ScopeKind.NAMESPACE, cluster_id="clu_x", namespace="web")
    )
    project = await control_app.user("pia", Role.VIEWER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    for path in SECTIONS:
        assert (await control_app.client().get(BASE + path)).status_code == 401
        for client in (eve, nobody, project):
            answer = await client.get(BASE + path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "cluster_not_found")


async def test_a_cluster_without_kubernetes_is_unknown(control_app: ControlApp, agent: ScriptedAgent) -> None:
    shown = await _get(control_app, "")
    assert (shown["state"], shown["as_of"], shown["version"]) == ("unknown", None, "")
    assert (await _get(control_app, "/pods"))["items"] == []


async def test_the_overview_counts_and_names(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, told())
    shown = await _get(control_app, "")
    assert (shown["state"], shown["version"], shown["age"]) == ("live", "v1.36.3", 0.0)
    assert shown["nodes"] == {
        "total": 2, "ready": 2, "unwell": 0,
        "capacity": {"cpu": 4.0, "memory_bytes": 2**33, "pods": 110, "storage_bytes": 0},
        "allocatable": {"cpu": 0.0, "memory_bytes": 0, "pods": 0, "storage_bytes": 0},
        "usage": {"cpu": 0.5, "memory_bytes": 0, "pods": 0, "storage_bytes": 0},
    }  # fmt: skip
    assert shown["pods"] == {"total": 7, "running": 6, "pending": 1, "succeeded": 0, "failed": 0, "unwell": 1}
    assert shown["workloads"]["kinds"]["Deployment"] == {"total": 2, "unwell": 0}
    assert (shown["namespaces"], shown["events"]) == (2, 1)
    assert [(one["kind"], one["name"], one["reason"]) for one in shown["unwell"]] == [
        ("Pod", "cart-1", "CrashLoopBackOff (cart)")
    ]


async def test_changes_are_applied_to_what_was_known(control_app: ControlApp, agent: ScriptedAgent) -> None:
    gone = (wire.Reference(section="pods", key="shop/cart-1"), wire.Reference(section="nodes", key="n2"))
    fresh = wire.Pod(namespace="web", name="api-1", phase="Pending", reason="Unschedulable: no room")
    await _tell(control_app, agent, told())
    await _tell(control_app, agent, link.KubeInventory(full=False, removed=gone, pods=(fresh,)))
    assert [one["name"] for one in (await _get(control_app, "/pods?state=unwell"))["items"]] == ["api-1"]
    assert [one["name"] for one in (await _get(control_app, "/nodes"))["items"]] == ["n1"]
    assert (await _get(control_app, ""))["version"] == "v1.36.3"
    await _tell(control_app, agent, told(pods=(), events=()))
    assert (await _get(control_app, "/pods"))["total"] == 0
    assert (await _get(control_app, "/nodes"))["total"] == 2


async def test_what_arrives_in_parts_between_two_writes_is_whole(control_app: ControlApp, agent: ScriptedAgent) -> None:
    many = tuple(wire.Workload(kind="Deployment", namespace="web", name=f"app-{n:04}") for n in range(1200))
    parts = [link.KubeInventory(full=False, workloads=many[at : at + 400]) for at in (0, 400, 800)]
    await _tell(control_app, agent, told(workloads=()), *parts)
    assert (await _get(control_app, "/workloads"))["total"] == 1200
    seen, cursor = [], ""
    while cursor is not None:
        found = await _get(control_app, f"/workloads?limit=500&sort=-name&cursor={cursor}")
        seen += [one["name"] for one in found["items"]]
        cursor = found["next_cursor"]
    assert seen == [one.name for one in reversed(many)]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/workloads", ["api", "cart", "report"]),
        ("/workloads?kind=Deployment&sort=-name", ["cart", "api"]),
        ("/workloads?namespace=shop", ["cart", "report"]),
        ("/workloads?state=progressing&state=scheduled", ["cart", "report"]),
        ("/workloads?search=CAR", ["cart"]),
        ("/workloads?search=%25", []),
        ("/namespaces?sort=-pods", ["web", "shop"]),
        ("/nodes?search=n2", ["n2"]),
        ("/pods?search=crashloop", ["cart-1"]),
        ("/pods?namespace=web", []),
        ("/events?kind=Pod", ["cart-1"]),
    ],
)
async def test_lists_are_searched_filtered_and_sorted(
    control_app: ControlApp, agent: ScriptedAgent, path: str, names: list[str]
) -> None:
    await _tell(control_app, agent, told())
    assert [one["name"] for one in (await _get(control_app, path))["items"]] == names


@pytest.mark.parametrize("path", ["/pods?state=well", "/nodes?sort=secret", "/events?limit=501", "/workloads?cursor=x"])
async def test_senseless_lists_are_refused(control_app: ControlApp, agent: ScriptedAgent, path: str) -> None:
    assert (await control_app.joiner.get(BASE + path)).status_code == 422


async def test_a_grant_on_a_namespace_shows_it_alone(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, told())
    reach = Reach(ScopeKind.NAMESPACE, cluster_id=agent.identity.cluster_id, namespace="web")
    wes = await control_app.user("wes", Role.VIEWER, reach=reach)
    shown = (await wes.get(BASE)).json()
    assert (shown["restricted"], shown["nodes"], shown["namespaces"]) == (True, None, 1)
    assert shown["pods"]["total"] == 5
    assert shown["unwell"] == []
    assert shown["events"] == 0
    assert [one["name"] for one in (await wes.get(BASE + "/workloads")).json()["items"]] == ["api"]
    assert (await wes.get(BASE + "/pods")).json()["total"] == 0
    assert (await wes.get(BASE + "/workloads?namespace=shop")).json()["total"] == 0
    assert (await wes.get(BASE + "/nodes")).status_code == 403


async def test_the_last_known_state_stays_when_the_agent_goes_away(
    control_app: ControlApp, agent: ScriptedAgent
) -> None:
    await _tell(control_app, agent, told())
    agent.cut()
    await agent.ended()
    await until(lambda: not control_app.control.fleet.links.is_connected(agent.identity.cluster_id))
    await control_app.control.fleet.reports.flush()
    async with control_app.control.db.begin() as tx:
        await tx.execute(update(Cluster).values(last_seen_at=now(-3600)))
    shown = await _get(control_app, "")
    assert (shown["state"], shown["connected"], shown["reason"]) == ("away", False, "the agent is away")
    assert 3590 < shown["age"] < 3700
    assert shown["pods"]["total"] == 7


async def test_an_api_server_that_is_away_shows_since_when(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, told())
    about = wire.About(away_since=1_700_000_000.0, away_reason="connection refused")
    await _tell(control_app, agent, link.KubeInventory(full=False, about=about))
    shown = await _get(control_app, "")
    assert (shown["state"], shown["version"]) == ("away", "v1.36.3")
    assert shown["as_of"].startswith("2023-11-14T22:13:20")
    health = (await control_app.joiner.get("/api/v1/clusters/prod")).json()["health"]
    assert health["state"] == "degraded"
    assert "The API server does not answer the agent" in health["reason"]


async def test_health_names_what_is_unwell_gravest_first(control_app: ControlApp, agent: ScriptedAgent) -> None:
    broken = wire.Node(name="n9", trouble="not ready: KubeletNotReady")
    degraded = wire.Workload(
        kind="Deployment", namespace="web", name="api", state="degraded", reason="ProgressDeadlineExceeded"
    )
    await _tell(control_app, agent, told(nodes=(broken,), workloads=(degraded,)))
    health = (await control_app.joiner.get("/api/v1/clusters/prod")).json()["health"]
    assert health["state"] == "degraded"
    assert health["reason"] == (
        "3 things are not well: node n9: not ready: KubeletNotReady; "
        "deployment web/api: ProgressDeadlineExceeded; pod shop/cart-1: CrashLoopBackOff (cart)"
    )
    await _tell(control_app, agent, told(pods=()))
    health = (await control_app.joiner.get("/api/v1/clusters/prod")).json()["health"]
    assert (health["state"], health["reason"]) == ("healthy", "")


async def test_missing_rights_are_shown_in_words(control_app: ControlApp, agent: ScriptedAgent) -> None:
    missing = (wire.Missing(kind="nodes", reason="nodes is forbidden"),)
    await _tell(control_app, agent, told(about=wire.About(namespaces=("web",), missing=missing)))
    shown = await _get(control_app, "")
    assert (shown["state"], shown["reason"]) == ("partial", "the agent may not read nodes")
    assert shown["namespaces_read"] == ["web"]
    assert shown["missing"] == [{"kind": "nodes", "namespace": "", "reason": "nodes is forbidden"}]


async def test_text_of_clusters_is_made_fit(control_app: ControlApp, agent: ScriptedAgent) -> None:
    rough = wire.Pod(namespace="web", name="a\x00\x1b[31m", reason="bad\x00" * 400, restarts=2**80, since=1e300)
    await _tell(control_app, agent, told(pods=(rough,)))
    (shown,) = (await _get(control_app, "/pods"))["items"]
    assert shown["name"] == "a[31m"
    assert shown["since"] is None


async def test_no_agent_fills_the_database(
    control_app: ControlApp, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(wire.MOST_ENTRIES, "events", 10)
    events = tuple(
        wire.Event(namespace="web", kind="Pod", name=f"p{n}", reason="Failed", last_at=float(n + 1)) for n in range(50)
    )
    await _tell(control_app, agent, told(events=events))
    found = await _get(control_app, "/events")
    assert [one["name"] for one in found["items"]] == [f"p{n}" for n in range(49, 39, -1)]


async def test_pages_hear_of_changes(control_app: ControlApp, agent: ScriptedAgent) -> None:
    async with control_app.control.bus.subscribe("kubernetes") as hints:
        await _tell(control_app, agent, told())
        hint = await anext(hints)
    assert hint.ids["cluster_id"] == agent.identity.cluster_id
    assert "pods" in hint.ids["sections"].split(",")


async def test_a_removed_cluster_takes_its_inventory_along(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, told())
    assert (await control_app.joiner.delete("/api/v1/clusters/prod")).status_code == 204
    control_app.control.kube_intake.take(agent.identity.cluster_id, control_app.control.default_org, told())
    assert await control_app.control.kube_intake.flush()
    assert await control_app.rows(KubeObject) == []
    assert await control_app.rows(KubeCluster) == []


async def test_what_is_known_of_clusters_that_stay_away_is_forgotten(
    control_app: ControlApp, agent: ScriptedAgent
) -> None:
    await _tell(control_app, agent, told())
    control = control_app.control
    assert (await control.retention.sweep())["kubernetes_inventories"] == 0
    agent.cut()
    await agent.ended()
    await until(lambda: not control.fleet.links.is_connected(agent.identity.cluster_id))
    await control.fleet.reports.flush()
    async with control.db.begin() as tx:
        await tx.execute(update(Cluster).values(last_seen_at=now(-31 * 86400)))
    assert (await control.retention.sweep())["kubernetes_inventories"] > 0
    assert await control_app.rows(KubeObject) == []

"""The history of usage over a real link into both databases: who sees what, what is kept, what is a gap."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.clusters.models import Cluster
from towline.control.usage import packing, repository, rollup
from towline.control.usage.known import STEP, Minute
from towline.control.usage.models import UsageBlock
from towline.control.usage.packing import Point, one
from towline.control.usage.rollup import KEEP_LONG, KEEP_SHORT, LONG_STEP, floor
from towline.wire import kube_inventory as inventory
from towline.wire import link
from towline.wire.kube_usage import Kind, Series

BASE = "/api/v1/clusters/prod/usage"
PAGE = {"accept": "text/html"}
READY = (link.Capability(name="kubernetes", ready=True, version="v1.36.3"),)
NAMES = (
    Series(0, "cluster", "", ""),
    Series(1, "node", "", "n1"),
    Series(2, "namespace", "", "shop"),
    Series(3, "namespace", "", "web"),
    Series(4, "pod", "shop", "cart-1"),
    Series(5, "pod", "web", "api-1"),
)
USED = {0: (20_000, 4096), 1: (20_000, 4096), 2: (5_000, 1024), 3: (2_500, 512), 4: (5_000, 1024), 5: (2_500, 512)}


def sample(sequence: int = 1, **changes: Any) -> link.KubeUsage:
    """A first sample of a small cluster."""
    values = tuple(number for key, used in USED.items() for number in (key, *used))
    return link.KubeUsage(
        **{"sequence": sequence, "full": True, "source": "metrics", "named": NAMES, "values": values, **changes}
    )


@pytest.fixture
async def agent(control_app: ControlApp) -> AsyncIterator[ScriptedAgent]:
    """A connected agent of the cluster `prod`, which has told two namespaces and a node."""
    async with link_listener(control_app.control) as url, await enrolled(control_app, cluster_name="prod") as agent:
        agent.capabilities = READY
        await agent.connect(url)
        told = link.KubeInventory(
            full=True, about=inventory.About(version="v1.36.3", metrics=True),
            nodes=(inventory.Node(name="n1", ready=True, capacity=inventory.Amounts(cpu=4.0, memory_bytes=2**33)),),
            namespaces=(inventory.Namespace(name="shop"), inventory.Namespace(name="web")),
        )  # fmt: skip
        await agent.send(told)
        await agent.synced()
        await control_app.control.kube_intake.flush()
        await control_app.control.fleet.reports.flush()
        yield agent


async def _tell(app: ControlApp, agent: ScriptedAgent, *messages: link.KubeUsage) -> None:
    """Send samples, and have the present minute written as if it had ended."""
    for message in messages:
        await agent.send(message)
    await agent.synced()
    await _written(app)


async def _written(app: ControlApp) -> None:
    intake = app.control.usage.intake
    for found in intake._clusters.values():
        ended = found.known.close()
        if ended is not None:
            found.ended.append(ended)
    await intake.flush()
    assert intake.waiting == 0


async def _keep(app: ControlApp, agent: ScriptedAgent, kind: Kind, name: str, points: dict[int, Point]) -> None:
    """Have minutes written that are over: by their age in minutes."""
    now = floor(app.control.clock.now().timestamp(), STEP)
    async with app.control.db.begin() as tx:
        for age, point in points.items():
            blocks: dict[str, Any] = {kind: list(packing.pack({name: point}))}
            await repository.write(tx, agent.identity.cluster_id, STEP, now - age * STEP, blocks)


async def _get(app: ControlApp, query: str = "") -> Any:
    found = await app.joiner.get(BASE + query)
    assert found.status_code == 200, found.text
    return found.json()


async def test_usage_needs_a_permission(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    eve = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    ned = await control_app.user(
        "ned", Role.VIEWER, reach=Reach(ScopeKind.NAMESPACE, cluster_id="clu_x", namespace="web")
    )
    for kind in ("cluster", "node", "namespace", "pod"):
        assert (await control_app.client().get(f"{BASE}?kind={kind}")).status_code == 401
        for client in (eve, ned):
            assert (await client.get(f"{BASE}?kind={kind}")).status_code == 404


async def test_who_sees_one_namespace_sees_nothing_of_the_others(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    reach = Reach(ScopeKind.NAMESPACE, cluster_id=agent.identity.cluster_id, namespace="web")
    wanda = await control_app.user("wanda", Role.VIEWER, reach=reach)
    for kind in ("cluster", "node"):
        assert (await wanda.get(f"{BASE}?kind={kind}")).status_code == 403
    shown = {kind: (await wanda.get(f"{BASE}?kind={kind}")).json() for kind in ("namespace", "pod")}
    assert [one["name"] for one in shown["namespace"]["series"]] == ["web"]
    assert [(one["namespace"], one["name"]) for one in shown["pod"]["series"]] == [("web", "api-1")]
    for query in ("kind=pod&namespace=shop", "kind=pod&namespace=shop&name=cart-1", "kind=namespace&name=shop"):
        assert (await wanda.get(f"{BASE}?{query}")).json()["series"] == []


async def test_a_cluster_that_told_nothing_is_unknown(control_app: ControlApp, agent: ScriptedAgent) -> None:
    shown = await _get(control_app)
    assert (shown["state"], shown["series"], shown["total"]) == ("unknown", [], 0)


async def test_a_cluster_without_metrics_says_so_and_shows_no_zero(
    control_app: ControlApp, agent: ScriptedAgent
) -> None:
    why = "this cluster serves no metrics API"
    await _tell(control_app, agent, link.KubeUsage(sequence=1, full=True, source="none", reason=why))
    shown = await _get(control_app)
    assert (shown["state"], shown["reason"], shown["series"]) == ("unknown", why, [])


async def test_samples_of_a_minute_become_a_point(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    shown = await _get(control_app, "?kind=pod&namespace=shop&name=cart-1")
    assert (shown["state"], shown["source"], shown["step"]) == ("measured", "metrics", 60)
    (series,) = shown["series"]
    assert series["cpu"] == {"min": 0.5, "avg": 0.5, "max": 0.5}
    assert series["memory_bytes"] == {"min": 2.0**20, "avg": 2.0**20, "max": 2.0**20}
    assert sum(point is not None for point in series["points"]) == 1
    assert 60 <= len(series["points"]) <= 62


async def test_series_are_ordered_and_counted(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    shown = await _get(control_app, "?kind=pod&limit=1")
    assert (shown["total"], [one["name"] for one in shown["series"]]) == (2, ["cart-1"])
    assert [one["name"] for one in (await _get(control_app, "?kind=pod&sort=name"))["series"]] == ["cart-1", "api-1"]
    assert [one["name"] for one in (await _get(control_app, "?kind=pod&namespace=web"))["series"]] == ["api-1"]
    assert [one["name"] for one in (await _get(control_app, "?kind=node"))["series"]] == ["n1"]


async def test_deltas_are_applied_and_what_is_gone_ends(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    change = link.KubeUsage(sequence=2, source="metrics", gone=(4,), values=(5, 9_000, 512))
    known = control_app.control.usage.intake._clusters[agent.identity.cluster_id].known
    known._sampled -= 60  # as if some time had passed since the first sample
    await _tell(control_app, agent, change)
    found = await _get(control_app, "?kind=pod&sort=name")
    assert {one["name"]: one["cpu"]["avg"] for one in found["series"]}["api-1"] == 0.9


async def test_a_missing_message_makes_the_agent_tell_everything_again(
    control_app: ControlApp, agent: ScriptedAgent
) -> None:
    await _tell(control_app, agent, sample())
    await agent.send(link.KubeUsage(sequence=5, source="metrics", values=(5, 1, 1)))
    await agent.next(link.Lead)
    assert control_app.control.usage.intake.counts["broken"] == 1


async def test_time_without_samples_is_a_gap(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _keep(control_app, agent, "node", "n1", {10: one(100, 100), 9: one(200, 100), 4: one(300, 100)})
    (series,) = (await _get(control_app, "?kind=node&name=n1"))["series"]
    points = [None if point is None else point["cpu"]["avg"] for point in series["points"]]
    measured = [at for at, point in enumerate(points) if point is not None]
    assert [points[at] for at in measured] == [0.01, 0.02, 0.03]
    assert [at - measured[0] for at in measured] == [0, 1, 6]


async def test_minutes_become_points_of_five_minutes_once(control_app: ControlApp, agent: ScriptedAgent) -> None:
    end = floor(control_app.control.clock.now().timestamp(), LONG_STEP)
    async with control_app.control.db.begin() as tx:
        for minute, cpu in enumerate((100, 200, 600)):
            point = Point(2, cpu, cpu - 50, cpu + 50, 10, 10, 10)
            await repository.write(
                tx,
                agent.identity.cluster_id,
                STEP,
                end - LONG_STEP + minute * STEP,
                {"node": list(packing.pack({"n1": point}))},
            )
        assert await rollup.roll(tx, agent.identity.cluster_id, end) == 1
        assert await rollup.roll(tx, agent.identity.cluster_id, end) == 0
    (series,) = (await _get(control_app, "?kind=node&step=300"))["series"]
    (point,) = [point for point in series["points"] if point is not None]
    assert point["cpu"] == {"min": 0.005, "avg": 0.03, "max": 0.065}


async def test_a_day_is_kept_and_no_more(control_app: ControlApp, agent: ScriptedAgent) -> None:
    now = floor(control_app.control.clock.now().timestamp(), LONG_STEP)
    blocks = {"node": list(packing.pack({"n1": one(1, 1)}))}
    async with control_app.control.db.begin() as tx:
        for step, age in (
            (STEP, KEEP_SHORT - 600),
            (STEP, KEEP_SHORT + 600),
            (LONG_STEP, KEEP_LONG - 900),
            (LONG_STEP, KEEP_LONG + 900),
        ):
            await repository.write(tx, agent.identity.cluster_id, step, now - age, blocks)
    await control_app.control.retention.sweep()
    async with control_app.control.db.read() as tx:
        kept = {(row[0], now - row[1]) for row in await tx.execute(select(UsageBlock.step, UsageBlock.begins))}
    assert kept == {(STEP, KEEP_SHORT - 600), (LONG_STEP, KEEP_SHORT + 600), (LONG_STEP, KEEP_LONG - 900)}


async def test_a_cluster_that_is_removed_takes_its_history_along(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    async with control_app.control.db.begin() as tx:
        await tx.delete(await tx.get(Cluster, agent.identity.cluster_id))
    async with control_app.control.db.read() as tx:
        assert await tx.scalar(select(func.count()).select_from(UsageBlock)) == 0


@pytest.mark.parametrize(
    "query",
    ["from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "step=7", "step=301", "kind=pod&name=a", "limit=0",
     "limit=101", "kind=container", "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z", "step=60&from=DAY"],
)  # fmt: skip
async def test_questions_that_make_no_sense_are_refused(
    control_app: ControlApp, agent: ScriptedAgent, query: str
) -> None:
    day_ago = control_app.control.clock.now() - timedelta(hours=23)
    query = query.replace("DAY", day_ago.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert (await control_app.joiner.get(f"{BASE}?{query}")).status_code in (400, 422)


async def test_what_waits_is_written_when_the_database_works_again(
    control_app: ControlApp, agent: ScriptedAgent
) -> None:
    intake = control_app.control.usage.intake
    await _tell(control_app, agent, sample())
    intake._clusters[agent.identity.cluster_id].ended.append(Minute(60, {"node": {"old": one(1, 1)}}))
    assert intake.waiting == 1
    await intake.flush()
    async with control_app.control.db.read() as tx:
        begins = set((await tx.scalars(select(UsageBlock.begins).where(UsageBlock.kind == "node"))).all())
    assert 60 in begins


# -- pages --------------------------------------------------------------------------------------

PAGES = ("/clusters/prod/usage", "/clusters/prod/usage?namespace=web&range=24h", "/clusters/prod/nodes/n1?range=6h")


async def test_pages_of_usage_need_a_sign_in(control_app: ControlApp, agent: ScriptedAgent) -> None:
    eve = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    for path in PAGES:
        assert (await control_app.client().get(path, headers=PAGE)).status_code == 303
        assert (await eve.get(path, headers=PAGE)).status_code == 404


async def test_pages_draw_what_was_measured_and_its_gaps(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    await _keep(control_app, agent, "cluster", "", {5: one(100, 100)})
    await _keep(control_app, agent, "node", "n1", {6: one(100, 100)})
    await _keep(control_app, agent, "namespace", "web", {7: one(100, 100)})
    for path in PAGES:
        page = await control_app.joiner.get(path, headers=PAGE)
        assert page.status_code == 200, page.text
        assert 'class="line"' in page.text
        assert 'class="gap"' in page.text
        assert "not measured for" in page.text
    overview = await control_app.joiner.get("/clusters/prod", headers=PAGE)
    assert 'id="cluster-cpu"' in overview.text


async def test_pages_say_when_nobody_measures(control_app: ControlApp, agent: ScriptedAgent) -> None:
    why = "this cluster serves no metrics API"
    await _tell(control_app, agent, link.KubeUsage(sequence=1, full=True, source="none", reason=why))
    for path in (*PAGES, "/clusters/prod"):
        page = await control_app.joiner.get(path, headers=PAGE)
        assert why in page.text
        assert 'class="line"' not in page.text


async def test_who_sees_one_namespace_gets_its_page_alone(control_app: ControlApp, agent: ScriptedAgent) -> None:
    await _tell(control_app, agent, sample())
    reach = Reach(ScopeKind.NAMESPACE, cluster_id=agent.identity.cluster_id, namespace="web")
    wanda = await control_app.user("wanda", Role.VIEWER, reach=reach)
    now = floor(control_app.control.clock.now().timestamp(), STEP)
    blocks = {"pod": list(packing.pack({"shop/cart-1": one(1, 1), "web/api-1": one(1, 1)}))}
    async with control_app.control.db.begin() as tx:
        await repository.write(tx, agent.identity.cluster_id, STEP, now - 5 * STEP, blocks)
    page = await wanda.get("/clusters/prod/usage", headers=PAGE)
    assert page.status_code == 200
    assert "api-1" in page.text
    assert "cart-1" not in page.text
    assert (await wanda.get("/clusters/prod/nodes/n1", headers=PAGE)).status_code == 403

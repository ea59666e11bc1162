"""What the surface knows of the cluster, on a played API server: pages, changes, events, rights and freshness."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.played_api import Played, PlayedApi, change, page, refusal, thing, watch

from towline.agent.errors import PolicyRefused
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.watches import State
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import cluster
from towline.agent.surface.cache import IDLE_SECONDS, LOOK_INTERVAL, ClusterCache
from towline.agent.surface.cluster import Row
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.selectors import EVERYTHING, parse
from towline.agent.surface.shelf import Shelf
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.kube.troubles import HEALTHY_RUN

PATHS = {sort.source.kind: f"{sort.source.group}/{sort.source.kind}" for sort in cluster.SORTS}
EVENTS = "/api/v1/events"


def pod(name: str, *, waiting: str = "", phase: str = "Running", **more: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return thing(
        name,
        spec={"nodeName": "n1", "containers": [{"name": "app", "image": "shop:1"}]},
        status={
            "phase": phase,
            "podIP": "10.1.2.3",
            "containerStatuses": [{"name": "app", "ready": not waiting, "restartCount": 2, "state": state}],
        },
        **more,
    )


def labelled(name: str, **labels: str) -> dict[str, Any]:
    return pod(name, metadata={"labels": labels})


class Bench:
    """A cache over a script; kinds without one are empty."""

    def __init__(self, folder: Path = Path("/nowhere"), **script: list[Played]) -> None:
        self.clock = SimulatedClock()
        answers = {path: [page([]), watch()] for path in (*PATHS.values(), EVENTS)}
        self.server = PlayedApi(answers | {PATHS.get(kind, EVENTS): found for kind, found in script.items()})
        self.owner = TaskOwner("test")
        self.policy = LocalPolicy()
        api = Api(self.server.credentials(self.clock), connect=self.server.connect)
        self.cache = ClusterCache(
            api, lambda: self.policy, self.owner, service_account=folder, clock=self.clock, draw=lambda: 0.5
        )
        self.changes: list[tuple[str, str, str]] = []
        self.events: list[dict[str, Any]] = []

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.owner.close()

    def listen(self) -> None:
        self.cache.listen(self._changed, self.events.append)

    def _changed(self, what: str, name: str, row: Row) -> None:
        self.changes.append((what, name, row.key))

    async def pods(self) -> Shelf:
        return await self.cache.shelf(cluster.PODS)


def shown(shelf: Shelf, **asked: Any) -> list[str]:
    rows, _, _ = shelf.page(**{"selector": EVERYTHING, "limit": 100, **asked})
    return [row.name for row in rows]


async def test_pod_is_told_with_health_and_its_reason() -> None:
    async with Bench(pods=[page([pod("a", waiting="CrashLoopBackOff")]), watch()]) as bench:
        rows, _, _ = (await bench.pods()).page(selector=EVERYTHING, limit=1)

    told = msgspec.json.decode(rows[0].shown)
    assert told["healthy"] is False
    assert "CrashLoopBackOff" in told["reason"]
    assert told["containers"] == [
        {
            "name": "app",
            "image": "shop:1",
            "state": "waiting",
            "reason": "CrashLoopBackOff",
            "ready": False,
            "restarts": 2,
        }
    ]
    assert (told["node"], told["ip"], told["phase"], told["ready"]) == ("n1", "10.1.2.3", "Running", 0)
    assert rows[0].containers == ("app",)


async def test_pod_that_ends_again_and_again_is_well_again_when_it_ran_for_long_enough() -> None:
    began = "2026-01-01T00:00:00Z"
    looping = pod("a")
    last = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": began, "finishedAt": began}}
    looping["status"]["containerStatuses"][0] |= {"state": {"running": {"startedAt": began}}, "lastState": last}
    async with Bench(pods=[page([looping]), watch()]) as bench:
        shelf = await bench.pods()
        told = msgspec.json.decode(shelf.rows["web/a"].shown)
        bench.listen()
        await bench.clock.advance(HEALTHY_RUN + 2 * LOOK_INTERVAL)
        later = msgspec.json.decode(shelf.rows["web/a"].shown)

    assert (told["healthy"], told["reason"]) == (False, "Restarting (app): last end: exit code 3")
    assert (later["healthy"], later["reason"]) == (True, "")
    assert bench.changes == [("changed", "pod", "web/a")]
    assert "until" not in told


async def test_pages_go_on_behind_the_last_key_even_when_it_is_gone() -> None:
    pods = [pod(name) for name in "abcde"]
    async with Bench(pods=[page(pods), watch()]) as bench:
        shelf = await bench.pods()
        first, last, more = shelf.page(selector=EVERYTHING, limit=2)
        shelf.remove(last)
        second, end, none = shelf.page(selector=EVERYTHING, behind=last, limit=9)

    assert ([row.name for row in first], last, more) == (["a", "b"], "web/b", 3)
    assert ([row.name for row in second], end, none) == (["c", "d", "e"], "", 0)


async def test_labels_and_namespaces_choose() -> None:
    other = thing("z", namespace="shop")
    async with Bench(pods=[page([labelled("a", app="x"), labelled("b", app="y"), other]), watch()]) as bench:
        shelf = await bench.pods()

        assert shown(shelf, selector=parse("app=y")) == ["b"]
        assert shown(shelf, selector=parse("!app")) == ["z"]
        assert shown(shelf, namespace="shop") == ["z"]
        assert shown(shelf, namespace="shop", selector=parse("app")) == []


async def test_only_what_happens_after_the_list_is_a_change() -> None:
    events = [change("ADDED", pod("b")), change("MODIFIED", pod("b", phase="Failed")), change("DELETED", pod("a"))]
    async with Bench(pods=[page([pod("a")]), watch(*events)]) as bench:
        bench.listen()
        await bench.pods()
        await bench.clock.advance(0)

        assert bench.changes == [("added", "pod", "web/b"), ("changed", "pod", "web/b"), ("removed", "pod", "web/a")]


async def test_change_that_shows_nothing_new_is_not_told() -> None:
    async with Bench(pods=[page([pod("a", version="1")]), watch(change("MODIFIED", pod("a", version="2")))]) as bench:
        bench.listen()
        await bench.pods()
        await bench.clock.advance(0)

        assert bench.changes == []


async def test_event_of_the_cluster_is_told_when_it_is_news() -> None:
    def event(name: str, stamp: str) -> dict[str, Any]:
        about = {"kind": "Pod", "namespace": "web", "name": "a"}
        return thing(name, type="Warning", reason="BackOff", message="no", involvedObject=about, lastTimestamp=stamp)

    old, new = event("old", "2025-12-31T23:00:00Z"), event("new", "2026-01-01T00:00:00Z")
    async with Bench(events=[page([old]), watch(change("ADDED", new))]) as bench:
        bench.listen()
        await bench.pods()
        await bench.clock.advance(0)

        assert [(each["reason"], each["at"]) for each in bench.events] == [("BackOff", 1767225600.0)]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_event_is_news_by_the_clusters_clock_and_not_by_ours(jump: float) -> None:
    def event(name: str, stamp: str) -> dict[str, Any]:
        about = {"kind": "Pod", "namespace": "web", "name": name}
        return thing(name, type="Warning", reason="BackOff", message="no", involvedObject=about, lastTimestamp=stamp)

    dated = page([event("old", "2026-01-01T11:00:00Z"), event("new", "2026-01-01T12:00:09Z")],
                 Date="Thu, 01 Jan 2026 12:00:10 GMT")  # fmt: skip
    late = watch(change("ADDED", event("late", "2026-01-01T11:30:00Z")))
    async with Bench(events=[dated, late]) as bench:
        bench.clock.jump(jump)
        bench.listen()
        await bench.pods()
        await bench.clock.advance(0)

        assert [each["name"] for each in bench.events] == ["new", "late"]


async def test_kind_that_a_starting_api_server_refused_is_read_soon_and_one_without_rights_seldom() -> None:
    no = refusal(403, "Forbidden", "no")
    async with Bench(pods=[no, no, page([pod("a")]), watch()], services=[no] * 500) as bench:
        bench.listen()
        with pytest.raises(SurfaceError):
            await bench.pods()
        await bench.clock.advance(10)
        assert shown(await bench.pods()) == ["a"]
        before = len(bench.server.asked(PATHS["services"]))
        await bench.clock.advance(6000)
        assert len(bench.server.asked(PATHS["services"])) - before <= 210


async def test_rows_outlast_the_refusals_of_an_api_server_that_starts() -> None:
    no = refusal(403, "Forbidden", "not yet")
    script = [page([pod("a")]), watch(end="cut"), no, no, no, watch(change("ADDED", pod("b")))]
    async with Bench(pods=script) as bench:
        bench.listen()
        await bench.pods()
        await bench.clock.advance(20)

        assert shown(await bench.pods()) == ["a", "b"]
        assert bench.changes == [("added", "pod", "web/b")]


async def test_rows_stay_with_their_age_while_the_api_server_is_away() -> None:
    gone = watch(end="cut")
    async with Bench(pods=[page([pod("a")]), gone, refusal(503, "Unavailable", "not now")]) as bench:
        await bench.pods()
        await bench.clock.advance(20)
        shelf = await bench.pods()

        assert shown(shelf) == ["a"]
        assert shelf.freshness.state is State.AWAY
        assert shelf.freshness.age > 0
        assert bench.cache.standing()["state"] == "away"


async def test_watch_that_is_open_makes_the_age_nothing() -> None:
    async with Bench(pods=[page([pod("a")]), watch()]) as bench:
        shelf = await bench.pods()
        await bench.clock.advance(100)

        assert shelf.freshness.age == 0.0
        assert bench.cache.standing() == {"state": "connected", "reason": ""}


async def test_question_is_unavailable_at_once_when_nothing_was_ever_read() -> None:
    async with Bench(pods=[refusal(503, "Unavailable", "etcd is away")]) as bench:
        with pytest.raises(SurfaceError, match="etcd is away") as caught:
            await bench.pods()

    assert caught.value.status == 503


async def test_kind_that_may_not_be_read_is_forbidden_and_others_are_not() -> None:
    async with Bench(pods=[refusal(403, "Forbidden", "pods is forbidden")]) as bench:
        with pytest.raises(SurfaceError) as caught:
            await bench.pods()
        nodes = await bench.cache.shelf(cluster.NODES)

    assert caught.value.status == 403
    assert shown(nodes) == []


async def test_agent_that_may_read_its_own_namespace_alone_tells_that_one(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("web\n")
    async with Bench(tmp_path, pods=[refusal(403, "Forbidden", "pods is forbidden")] * 9) as bench:
        bench.server.script["/api/v1/namespaces/web/pods"] = [page([pod("a")]), watch()]
        shelf = await bench.pods()

        assert shown(shelf) == ["a"]
        assert shelf.freshness.namespaces == ("web",)
        assert shelf.freshness.state is State.FOLLOWING


async def test_agent_that_may_read_everything_after_all_does_and_takes_nothing_away_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("web\n")
    other = thing("b", namespace="shop")
    allowed = [refusal(403, "Forbidden", "no"), page([]), page([pod("a"), other]), watch()]
    async with Bench(tmp_path, pods=allowed) as bench:
        bench.server.script["/api/v1/namespaces/web/pods"] = [page([pod("a"), pod("gone")]), watch()]
        bench.listen()
        await bench.pods()
        await bench.clock.advance(10)
        shelf = await bench.pods()

        assert shown(shelf) == ["b", "a"]
        assert shelf.freshness.namespaces == ()
        assert bench.changes == [("added", "pod", "shop/b"), ("removed", "pod", "web/gone")]


async def test_agent_that_may_not_even_read_its_own_namespace_says_so(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("web\n")
    no = [refusal(403, "Forbidden", "pods is forbidden")] * 9
    async with Bench(tmp_path, pods=no) as bench:
        bench.server.script["/api/v1/namespaces/web/pods"] = list(no)
        with pytest.raises(SurfaceError) as caught:
            await bench.pods()

    assert caught.value.status == 403


async def test_namespaces_that_the_policy_names_are_read_one_by_one() -> None:
    async with Bench() as bench:
        bench.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("web", "shop")))
        bench.server.script["/api/v1/namespaces/web/pods"] = [page([pod("a")]), watch()]
        bench.server.script["/api/v1/namespaces/shop/pods"] = [page([thing("b", namespace="shop")]), watch()]
        shelf = await bench.pods()

        assert shown(shelf) == ["b", "a"]
        assert shelf.freshness.namespaces == ("web", "shop")
        assert bench.server.asked("/api/v1/pods") == []


async def test_namespaces_that_the_policy_leaves_out_are_never_told() -> None:
    found = page([pod("a"), thing("b", namespace="kube-system")])
    async with Bench(pods=[found, watch()]) as bench:
        bench.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("w*",)))

        assert shown(await bench.pods()) == ["a"]


async def test_nothing_is_told_when_the_policy_forbids_it() -> None:
    async with Bench() as bench:
        bench.policy = LocalPolicy(kubernetes=KubernetesRules(enabled=False))
        with pytest.raises(PolicyRefused):
            await bench.pods()

    assert bench.server.dials == 0


async def test_following_ends_when_nobody_asks_any_more_and_begins_anew() -> None:
    async with Bench(pods=[page([pod("a")]), watch(), page([pod("b")]), watch()]) as bench:
        await bench.pods()
        await bench.clock.advance(IDLE_SECONDS + LOOK_INTERVAL)
        assert not bench.cache.is_followed

        for path in (*PATHS.values(), EVENTS):
            bench.server.script[path] = bench.server.script[path] or [page([]), watch()]
        assert shown(await bench.pods()) == ["b"]


async def test_following_goes_on_while_somebody_listens() -> None:
    async with Bench() as bench:
        bench.listen()
        await bench.pods()
        await bench.clock.advance(3 * IDLE_SECONDS)

        assert bench.cache.is_followed


async def test_policy_that_changes_begins_a_cache_anew() -> None:
    async with Bench(pods=[page([pod("a")]), watch(), page([pod("a")]), watch()]) as bench:
        await bench.pods()
        bench.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("x*",)))
        for path in (*PATHS.values(), EVENTS):
            bench.server.script[path] = bench.server.script[path] or [page([]), watch()]

        assert shown(await bench.pods()) == []

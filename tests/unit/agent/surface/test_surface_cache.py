"""What the surface knows of the cluster, on a played API server: pages, changes, events, rights and freshness."""

from typing import Any

import msgspec
import pytest
from tests.support.played_api import Played, PlayedApi, change, page, refusal, thing, watch

from towline.agent.errors import PolicyRefused
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.watches import State
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import cluster
from towline.agent.surface.cache import IDLE_SECONDS, LOOK_INTERVAL, ClusterCache, Shelf
from towline.agent.surface.cluster import Row
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.selectors import EVERYTHING, parse
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner

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

    def __init__(self, **script: list[Played]) -> None:
        self.clock = SimulatedClock()
        answers = {path: [page([]), watch()] for path in (*PATHS.values(), EVENTS)}
        self.server = PlayedApi(answers | {PATHS.get(kind, EVENTS): found for kind, found in script.items()})
        self.owner = TaskOwner("test")
        self.policy = LocalPolicy()
        api = Api(self.server.credentials(self.clock), connect=self.server.connect)
        self.cache = ClusterCache(api, lambda: self.policy, self.owner, clock=self.clock, draw=lambda: 0.5)
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

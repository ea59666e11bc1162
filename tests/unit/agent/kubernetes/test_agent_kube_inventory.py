"""The whole inventory on a played API server: what is told first, what then, and what when rights are missing."""

from typing import Any

import pytest
from tests.support.played_api import Played, PlayedApi, answer, change, expired, page, refusal, thing, watch

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.book import PART_BYTES, Book, in_parts
from towline.agent.kubernetes.event_table import EventTable
from towline.agent.kubernetes.inventory import VERSION_PATH, KubernetesInventory
from towline.agent.kubernetes.usage import METRICS
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.aio.clock import SimulatedClock
from towline.aio.streams import Broken
from towline.aio.tasks import TaskOwner
from towline.kube import objects
from towline.kube.troubles import HEALTHY_RUN
from towline.wire import kube_inventory as wire
from towline.wire import link

PATHS = {
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "pods": "/api/v1/pods",
    "events": "/api/v1/events",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "jobs": "/apis/batch/v1/jobs",
    "cronjobs": "/apis/batch/v1/cronjobs",
}
STAMP = "2026-01-01T00:00:00Z"
"""When the simulated clock begins."""


def pod(name: str, *, phase: str = "Running", waiting: str = "", ready: bool = True, **more: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return thing(
        name,
        spec={"nodeName": "n1"},
        status={
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": STAMP}],
            "containerStatuses": [{"name": "app", "ready": ready, "restartCount": 4, "state": state}],
        },
        **more,
    )


def node(name: str = "n1") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "resourceVersion": "1"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}],
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "3500m", "memory": "7Gi", "pods": "110"},
        },
    }


def warning(name: str, reason: str = "BackOff", *, about: str = "sick", count: int = 1) -> dict[str, Any]:
    involved = {"kind": "Pod", "namespace": "web", "name": about}
    return thing(name, type="Warning", reason=reason, count=count, lastTimestamp=STAMP, involvedObject=involved)


DEPLOYMENT = thing("api", spec={"replicas": 3}, status={"readyReplicas": 3, "updatedReplicas": 3})
NAMESPACE = {"metadata": {"name": "web", "resourceVersion": "1"}, "status": {"phase": "Active"}}
OWNED = {"metadata": {"ownerReferences": [{"kind": "ReplicaSet", "name": "api-7d9f", "controller": True}]}}


TOLD = (*wire.SECTIONS, "removed")
NO_RULES = KubernetesRules()


class Session:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[link.KubeInventory] = []
        self.broken = False

    async def send(self, message: link.KubeInventory) -> None:
        if self.broken:
            raise Broken("gone")
        self.sent.append(message)


class Play:
    """An inventory that follows a played cluster."""

    def __init__(self, rules: KubernetesRules = NO_RULES, **script: list[Played]) -> None:
        self.clock = SimulatedClock()
        by_path = {PATHS[kind]: script.get(kind, [page([]), watch()]) for kind in PATHS}
        by_path[VERSION_PATH] = [answer({"gitVersion": "v1.36.3", "platform": "linux/amd64"})]
        by_path |= {path: answers for path, answers in script.items() if path.startswith("/")}
        self.server = PlayedApi(by_path)
        self.policy = LocalPolicy(kubernetes=rules)
        credentials = self.server.credentials(self.clock)
        api = Api(credentials, connect=self.server.connect)
        self.inventory = KubernetesInventory(
            credentials, lambda: self.policy, api=api, clock=self.clock, draw=lambda: 0.5
        )
        self.session: Any = Session()
        self.owner = TaskOwner("test")

    async def __aenter__(self) -> "Play":
        self.inventory.teller.connected(self.session)
        self.owner.spawn("inventory", self.inventory.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.owner.close()

    async def told(self, seconds: float = 5.0) -> link.KubeInventory:
        """Let time pass in small steps; return all that was told meanwhile, as one."""
        before = len(self.session.sent)
        for _ in range(int(seconds * 4)):
            await self.clock.advance(0.25)
        found = self.session.sent[before:]
        return link.KubeInventory(
            full=any(one.full for one in found),
            about=next((one.about for one in reversed(found) if one.about is not None), None),
            **{
                name: tuple(entry for one in found for entry in getattr(one, name))
                for name in (*wire.SECTIONS, "removed")
            },
        )


async def test_everything_is_told_once_when_everything_was_read() -> None:
    script = {
        "nodes": [page([node()]), watch()],
        "namespaces": [page([NAMESPACE]), watch()],
        "deployments": [page([DEPLOYMENT]), watch()],
        "pods": [page([pod("well"), pod("sick", waiting="ImagePullBackOff", **OWNED)]), watch()],
        "events": [page([warning("e1"), warning("e2", count=4)]), watch()],
        f"{METRICS}/nodes": [
            answer({"items": [{"metadata": {"name": "n1"}, "usage": {"cpu": "250m", "memory": "1Gi"}}]})
        ],
    }
    async with Play(**script) as play:
        told = await play.told()
        assert told.full
        assert told.about is not None
        assert (told.about.version, told.about.metrics, told.about.missing) == ("v1.36.3", True, ())
        assert [(one.name, one.ready, one.trouble) for one in told.nodes][-1] == (
            "n1", True, "DiskPressure",
        )  # fmt: skip
        assert told.nodes[-1].capacity == wire.Amounts(cpu=4.0, memory_bytes=8 * 2**30, pods=110)
        assert told.namespaces[-1].pods == wire.PodCounts(total=2, running=2, unwell=1)
        (sick,) = told.pods
        assert (sick.name, sick.reason, sick.owner_kind, sick.owner) == (
            "sick", "ImagePullBackOff (app)", "Deployment", "api",
        )  # fmt: skip
        assert (sick.node, sick.restarts) == ("n1", 4)
        assert [(one.reason, one.count) for one in told.events] == [("BackOff", 5)]
        assert [(one.kind, one.state, one.ready) for one in told.workloads] == [("Deployment", "ready", 3)]


async def test_nothing_is_told_before_the_pods_were_read_too() -> None:
    async with Play(pods=[Played(b"", "hold")], deployments=[page([DEPLOYMENT]), watch()]) as play:
        await play.told(20.0)
        assert play.session.sent == []


async def test_only_what_changed_is_told_afterwards() -> None:
    script = {"pods": [page([pod("a"), pod("b")]), watch(change("MODIFIED", pod("a", waiting="ErrImagePull")))]}
    async with Play(**script) as play:
        await play.told()
        assert not (await play.told(30.0)).pods
        assert sum(len(one.pods) for one in play.session.sent) == 1


async def test_a_pod_that_recovered_is_removed() -> None:
    sick, well = pod("a", waiting="ErrImagePull"), pod("a")
    script = {"pods": [page([sick]), watch(end="cut"), watch(change("MODIFIED", well))]}
    async with Play(**script) as play:
        told = await play.told(20.0)
        assert wire.Reference(section="pods", key="web/a") in told.removed


async def test_a_pod_that_is_merely_not_ready_is_told_after_a_while() -> None:
    async with Play(pods=[page([pod("slow", ready=False)]), watch()]) as play:
        assert not (await play.told(25.0)).pods
        assert [one.name for one in (await play.told(20.0)).pods] == ["slow"]


async def test_a_pod_that_ends_again_and_again_is_told_while_it_runs_and_until_it_ran_for_long_enough() -> None:
    last = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": STAMP, "finishedAt": STAMP}}
    looping = pod("sick")
    looping["status"]["containerStatuses"][0] |= {"state": {"running": {"startedAt": STAMP}}, "lastState": last}
    async with Play(pods=[page([looping, pod("fine")]), watch()]) as play:
        (told,) = (await play.told()).pods
        assert told.reason == "Restarting (app): last end: exit code 3"
        assert told.crash == wire.Crash(container="app", reason="Error", exit_code=3, runs=True)
        await play.clock.advance(HEALTHY_RUN - 20)
        assert not (await play.told()).removed
        assert (await play.told(20.0)).removed == (wire.Reference(section="pods", key="web/sick"),)


async def test_what_a_new_list_does_not_hold_is_gone() -> None:
    script = {"deployments": [page([DEPLOYMENT]), watch(expired(), end="clean"), page([]), watch()]}
    async with Play(**script) as play:
        told = await play.told(20.0)
        assert wire.Reference(section="workloads", key="Deployment/web/api") in told.removed or not told.workloads


async def test_a_new_link_is_told_everything_again() -> None:
    async with Play(deployments=[page([DEPLOYMENT]), watch()]) as play:
        await play.told()
        play.session.broken = True
        play.inventory.teller.disconnected()
        play.session = Session()
        play.inventory.teller.connected(play.session)
        told = await play.told()
        assert told.full
        assert len(told.workloads) == 1


async def test_without_rights_on_everything_the_agent_says_so_once_and_does_not_loop() -> None:
    no = refusal(403, "Forbidden", "nodes is forbidden")
    async with Play(nodes=[no] * 20, namespaces=[no] * 20, deployments=[page([DEPLOYMENT]), watch()]) as play:
        told = await play.told(60.0)
        assert told.about is not None
        assert [(one.kind, one.reason) for one in told.about.missing] == [
            ("namespaces", "nodes is forbidden"), ("nodes", "nodes is forbidden"),
        ]  # fmt: skip
        assert len(told.workloads) == 1
        assert len(play.server.asked(PATHS["nodes"])) <= 10


async def test_a_namespaced_agent_reads_the_namespaces_of_its_policy() -> None:
    def denied() -> list[Played]:
        return [refusal(403, "Forbidden", "no") for _ in range(9)]

    here = "/apis/apps/v1/namespaces/web/deployments"
    script: dict[str, Any] = {kind: denied() for kind in PATHS}
    script |= {here: [page([DEPLOYMENT]), watch()], "/api/v1/namespaces/web/pods": [page([pod("a")]), watch()]}
    async with Play(KubernetesRules(namespaces=("web",)), **script) as play:
        told = await play.told(10.0)
        assert told.about is not None
        assert told.about.namespaces == ("web",)
        assert [one.name for one in told.workloads] == ["api"]
        assert told.namespaces[-1].pods.total == 1
        assert {one.kind for one in told.about.missing} >= {"nodes", "namespaces"}
        assert "deployments" not in {one.kind for one in told.about.missing}


async def test_the_policy_of_the_host_hides_namespaces() -> None:
    script = {
        "pods": [page([pod("x", waiting="ErrImagePull", metadata={"namespace": "hidden"})]), watch()],
        "namespaces": [page([NAMESPACE, {"metadata": {"name": "hidden"}}]), watch()],
    }
    async with Play(KubernetesRules(namespaces=("we*",)), **script) as play:
        told = await play.told()
        assert not told.pods
        assert {one.name for one in told.namespaces} == {"web"}


async def test_a_policy_that_forbids_it_takes_everything_back() -> None:
    async with Play(deployments=[page([DEPLOYMENT]), watch()]) as play:
        assert (await play.told()).workloads
        play.policy = LocalPolicy(kubernetes=KubernetesRules(enabled=False))
        told = await play.told(45.0)
        assert told.full
        assert not told.workloads
        assert told.about is not None
        assert "policy" in told.about.away_reason


async def test_an_api_server_that_is_away_is_told_with_the_moment() -> None:
    script = {kind: [page([]), watch(end="cut")] + [refusal(503, "", "etcd is down")] * 40 for kind in PATHS}
    async with Play(**script) as play:
        told = await play.told(40.0)
        assert told.about is not None
        assert told.about.away_since > 0
        assert "etcd is down" in told.about.away_reason


async def test_pods_that_are_well_change_counts_alone() -> None:
    script = {
        "namespaces": [page([NAMESPACE]), watch()],
        "pods": [page([pod("a")]), watch(end="cut"), watch(change("ADDED", pod("b")))],
    }
    async with Play(**script) as play:
        told = await play.told(20.0)
        assert told.namespaces[-1].pods == wire.PodCounts(total=2, running=2)
        assert not told.pods


async def test_namespaces_that_may_not_be_read_are_known_by_their_pods() -> None:
    denied = refusal(403, "Forbidden", "no")
    async with Play(namespaces=[denied], pods=[page([pod("a"), pod("b")]), watch()]) as play:
        told = await play.told(10.0)
        assert [(one.name, one.phase, one.pods.running) for one in told.namespaces] == [("web", "", 2)]


async def test_counts_follow_pods_that_move_on_and_go() -> None:
    moved = [change("MODIFIED", pod("a")), change("DELETED", pod("b"))]
    script = {
        "namespaces": [page([NAMESPACE]), watch()],
        "pods": [page([pod("a", phase="Pending"), pod("b")]), watch(end="cut"), watch(*moved)],
    }
    async with Play(**script) as play:
        told = await play.told(20.0)
        assert told.namespaces[-1].pods == wire.PodCounts(total=1, running=1)


async def test_a_policy_that_forbids_it_from_the_beginning_is_told_once() -> None:
    async with Play(KubernetesRules(enabled=False)) as play:
        await play.told(120.0)
        assert [(one.full, bool(one.about and one.about.away_since)) for one in play.session.sent] == [(True, True)]
        assert play.server.requests == []


# -- the book and the events ---------------------------------------------------------------------


def _workload(number: int, **more: Any) -> wire.Workload:
    return wire.Workload(kind="Deployment", namespace="web", name=f"app-{number}", **more)


def test_messages_are_cut_below_the_limit_and_only_the_first_is_full() -> None:
    book = Book(lambda: None)
    for number in range(5000):
        book.put("workloads", _workload(number, reason="x" * 200))
    parts = in_parts(book.snapshot())
    assert [part.full for part in parts] == [True] + [False] * (len(parts) - 1)
    assert sum(len(part.workloads) for part in parts) == 5000
    assert max(len(link.encode(part)) for part in parts) < PART_BYTES + 4096 < link.MAX_MESSAGE_BYTES


def test_a_flood_of_changes_of_one_object_is_one_entry() -> None:
    book = Book(lambda: None)
    for number in range(10_000):
        book.put("workloads", _workload(1, ready=number))
    taken = book.take()
    assert taken is not None
    assert [one.ready for one in taken.workloads] == [9999]
    assert book.take() is None


def test_entries_beyond_the_limit_wait_until_there_is_room() -> None:
    book = Book(lambda: None)
    most = wire.MOST_ENTRIES["nodes"]
    kept = [book.put("nodes", wire.Node(name=f"n{number}")) for number in range(most + 3)]
    assert kept == [True] * most + [False] * 3
    assert book.left_out["nodes"] == 3
    book.put("nodes", wire.Node(name=f"n{most + 1}", ready=True))
    book.remove("nodes", f"n{most}")
    book.forget_changes()
    book.remove("nodes", "n0")
    told = book.take()
    assert told is not None
    assert [(one.name, one.ready) for one in told.nodes] == [(f"n{most + 1}", True)]
    assert [one.key for one in told.removed] == ["n0"]
    assert book.left_out["nodes"] == 1


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towline.agent.kubernetes.book.MOST_WAITING", 2)
    book = Book(lambda: None)
    for number in range(wire.MOST_ENTRIES["nodes"] + 9):
        book.put("nodes", wire.Node(name=f"n{number}"))
    assert book.left_out["nodes"] == 2


def _event(name: str, reason: str, *, count: int = 1, about: str = "p", at: str = STAMP) -> objects.Event:
    involved = objects.Involved(kind="Pod", namespace="web", name=about)
    return objects.Event(
        metadata=objects.Metadata(name=name, namespace="web"), type="Warning", reason=reason, count=count,
        involved_object=involved, last_timestamp=at,
    )  # fmt: skip


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_warnings_outlast_a_wall_clock_that_jumps(jump: float) -> None:
    dated = page([warning("e1")], Date="Thu, 01 Jan 2026 00:00:10 GMT")
    async with Play(events=[dated, watch(end="cut"), watch(change("ADDED", warning("e2", about="other")))]) as play:
        play.clock.jump(jump)
        assert {one.name for one in (await play.told()).events} == {"sick", "other"}
        play.clock.jump(-2 * jump)
        assert not (await play.told(60)).removed
        await play.clock.advance(3600)
        assert {one.name for one in play.inventory.teller.book.snapshot().events} == set()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([_event("a", "Failed")], 1),
        ([_event("a", "Unhealthy")], 0),
        ([_event("a", "Unhealthy", count=3)], 1),
        ([_event("a", "DNSConfigForming", count=99)], 0),
        ([_event("a", "Failed", at="2025-12-31T22:00:00Z")], 0),
        ([_event(f"e{number}", "Failed", about=f"p{number}") for number in range(600)], wire.MOST_ENTRIES["events"]),
    ],
)
def test_events_that_matter_are_told(found: list[objects.Event], told: int) -> None:
    book = Book(lambda: None)
    table = EventTable(book, lambda _: True, SimulatedClock().now().timestamp)
    for one in found:
        table.put(one)
    assert len(book.snapshot().events) == told


async def test_events_are_taken_back_when_they_grow_old() -> None:
    book, clock = Book(lambda: None), SimulatedClock()
    table = EventTable(book, lambda _: True, lambda: clock.now().timestamp())
    table.put(_event("a", "Failed"))
    table.forget_old()
    assert len(book.snapshot().events) == 1
    clock.jump(3601)
    table.forget_old()
    assert not book.snapshot().events

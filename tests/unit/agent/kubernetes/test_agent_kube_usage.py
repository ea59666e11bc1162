"""Samples of usage on a played API server: what is told, what is a gap, and what is said where nobody measures."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.played_api import Played, PlayedApi, answer, refusal

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import usage_reading
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import ApiServer
from towline.agent.kubernetes.kubelets import RENEW_AFTER, Account, KubeletReader
from towline.agent.kubernetes.usage import METRICS, UsageSampler, UsageTeller
from towline.agent.kubernetes.usage_book import WHOLE_AFTER, UsageBook
from towline.agent.kubernetes.usage_reading import CLUSTER, Key, Reading, Used
from towline.aio.clock import SimulatedClock
from towline.aio.streams import Broken, ByteStream
from towline.wire import link
from towline.wire.kube_usage import MOST_IN_PART, MOST_SERIES

NODES, PODS = f"{METRICS}/nodes", f"{METRICS}/pods"


def node(name: str, cpu: str = "250m", memory: str = "1Gi", window: str = "15s") -> dict[str, Any]:
    return {"metadata": {"name": name}, "window": window, "usage": {"cpu": cpu, "memory": memory}}


def pod(namespace: str, name: str, *usages: tuple[str, str]) -> dict[str, Any]:
    containers = [{"name": f"c{n}", "usage": {"cpu": cpu, "memory": memory}} for n, (cpu, memory) in enumerate(usages)]
    return {"metadata": {"namespace": namespace, "name": name}, "containers": containers}


def items(*found: dict[str, Any]) -> Played:
    return answer({"items": list(found)})


def sampler(script: dict[str, list[Played]], *, only: str = "", named: tuple[str, ...] = ()) -> UsageSampler:
    clock = SimulatedClock()
    server = PlayedApi(script)
    api = Api(server.credentials(clock), connect=server.connect)
    return UsageSampler(
        api, UsageTeller(), allowed=lambda namespace: not only or namespace == only, named=lambda: named,
        read=lambda reading: None, clock=clock,
    )  # fmt: skip


async def test_nodes_pods_and_their_sums_are_measured() -> None:
    pods = items(
        pod("web", "a", ("100m", "1Mi"), ("50m", "2Mi")), pod("web", "b", ("1", "4Mi")), pod("db", "c", ("0", "0"))
    )
    reading = await sampler({NODES: [items(node("n1"), node("n2", "1500m", "2Gi"))], PODS: [pods]}).sample()
    assert (reading.source, reading.reason, reading.window) == ("metrics", "", 15.0)
    assert reading.used == {
        CLUSTER: (1.75, 3 * 2**30),
        ("node", "", "n1"): (0.25, 2**30),
        ("node", "", "n2"): (1.5, 2 * 2**30),
        ("namespace", "", "db"): (0.0, 0.0),
        ("namespace", "", "web"): (pytest.approx(1.15), 7 * 2**20),
        ("pod", "db", "c"): (0.0, 0.0),
        ("pod", "web", "a"): (pytest.approx(0.15), 3 * 2**20),
        ("pod", "web", "b"): (1.0, 4 * 2**20),
    }


async def test_what_is_not_measured_is_not_zero() -> None:
    half = pod("web", "half", ("100m", "1Mi"))
    half["containers"].append({"name": "young"})
    broken = node("n1")
    broken["usage"] = {"cpu": "no amount", "memory": "1"}
    reading = await sampler({NODES: [items(broken)], PODS: [items(half, pod("web", "none"))]}).sample()
    assert reading.used == {}


async def test_a_cluster_without_metrics_is_unknown_with_the_reason() -> None:
    reading = await sampler({}).sample()
    assert (reading.source, reading.used) == ("none", {})
    assert reading.reason == "this cluster serves no metrics API"


async def test_a_metrics_server_that_is_down_is_unknown_with_its_words() -> None:
    reading = await sampler({NODES: [refusal(503, message="service unavailable")]}).sample()
    assert reading.reason == "the metrics API is not ready: service unavailable"


async def test_namespaces_that_the_policy_keeps_are_not_told() -> None:
    pods = items(pod("web", "a", ("1", "1Mi")), pod("secret", "b", ("1", "1Mi")))
    reading = await sampler({NODES: [items(node("n1"))], PODS: [pods]}, only="web").sample()
    assert {key for key in reading.used if key[0] != "node"} == {CLUSTER, ("namespace", "", "web"), ("pod", "web", "a")}


async def test_an_agent_of_some_namespaces_asks_for_them_one_by_one() -> None:
    script = {
        NODES: [refusal(403, message="nodes is forbidden")],
        PODS: [refusal(403)],
        f"{METRICS}/namespaces/web/pods": [items(pod("web", "a", ("1", "1Mi")))],
    }
    reading = await sampler(script, named=("web",)).sample()
    assert reading.used == {("namespace", "", "web"): (1.0, 2**20), ("pod", "web", "a"): (1.0, 2**20)}
    assert reading.reason == "nodes are not measured: nodes is forbidden"


async def test_pods_beyond_the_limit_are_counted_and_stay_in_the_sums() -> None:
    most = MOST_SERIES["pod"]
    pods = {("web", f"p{number:05}"): (1.0, 1024.0) for number in range(most + 3)}
    reading = usage_reading.gather("metrics", {}, pods, allowed=lambda _: True)
    assert reading.left_out == 3
    assert reading.used["namespace", "", "web"][0] == most + 3
    assert ("pod", "web", f"p{most:05}") not in reading.used


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("15.25s", 15.25), ("1m0s", 60), ("2m", 120), ("1h0m0s", 0), ("", 0), (None, 0)]
)
def test_windows_are_read_as_go_writes_them(text: str | None, seconds: float) -> None:
    assert usage_reading.seconds(text) == seconds


# -- telling ------------------------------------------------------------------------------------


class Session:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[link.KubeUsage] = []
        self.broken = False

    async def send(self, message: link.KubeUsage) -> None:
        if self.broken:
            raise Broken("gone")
        self.sent.append(message)


def reading(**used: float) -> Reading:
    return Reading(source="metrics", used={("pod", "web", name): (cpu, 1024.0) for name, cpu in used.items()})


def applied(messages: list[link.KubeUsage]) -> dict[str, int]:
    """Return CPU by name, as the other end understands the messages."""
    names: dict[int, str] = {}
    cpu: dict[int, int] = {}
    for message in messages:
        if message.full:
            names, cpu = {}, {}
        names |= {one.number: one.name for one in message.named}
        cpu |= dict(zip(message.values[::3], message.values[1::3], strict=True))
        for number in message.gone:
            del names[number], cpu[number]
    return {names[number]: cpu[number] for number in cpu}


async def test_only_what_changed_is_told_after_the_first_sample() -> None:
    teller, session = UsageTeller(), Session()
    teller.connected(session)
    for one in (reading(a=1, b=2), reading(a=1, b=2.5), reading(b=2.5, c=1)):
        await teller.tell(one)
    first, second, third = session.sent
    assert (first.full, second.full, first.sequence, third.sequence) == (True, False, 1, 3)
    assert (second.named, second.values) == ((), (1, 25_000, 1))
    assert (third.gone, [one.name for one in third.named]) == ((0,), ["c"])


async def test_a_link_that_broke_or_is_new_hears_everything_again() -> None:
    teller, session = UsageTeller(), Session()
    teller.connected(session)
    await teller.tell(reading(a=1))
    session.broken = True
    await teller.tell(reading(a=2))
    session.broken = False
    await teller.tell(reading(a=2))
    teller.connected(session)
    await teller.tell(reading(a=2))
    assert [(one.full, one.sequence) for one in session.sent] == [(True, 1), (True, 3), (True, 1)]


async def test_without_a_link_nothing_is_kept() -> None:
    teller, session = UsageTeller(), Session()
    await teller.tell(reading(a=1))
    teller.connected(session)
    assert session.sent == []


def test_five_thousand_pods_fit_into_messages_that_the_link_takes() -> None:
    used: dict[Key, Used] = {("pod", "n" * 63, f"{'p' * 240}-{number:05}"): (64.0, 2.0**40) for number in range(5000)}
    messages = UsageBook().take(Reading(source="metrics", used=used))
    assert len(messages) == -(-5000 // MOST_IN_PART)
    assert [one.full for one in messages] == [True, False, False, False]
    assert [one.more for one in messages] == [True, True, True, False]
    assert max(len(link.encode(one)) for one in messages) < link.MAX_MESSAGE_BYTES


def test_everything_is_told_again_now_and_then() -> None:
    book = UsageBook()
    full = [book.take(reading(a=1))[0].full for _ in range(WHOLE_AFTER + 1)]
    assert [number for number, one in enumerate(full) if one] == [0, WHOLE_AFTER]


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=6), min_size=1, max_size=8))
def test_the_other_end_knows_after_each_sample_what_was_measured(samples: list[dict[str, int]]) -> None:
    book = UsageBook()
    messages: list[link.KubeUsage] = []
    for sample in samples:
        messages += book.take(reading(**sample))
        assert applied(messages) == {name: cpu * 10_000 for name, cpu in sample.items()}


# -- kubelets -----------------------------------------------------------------------------------

TOKEN = "/api/v1/namespaces/towline/serviceaccounts/stats/token"
MADE = answer({"status": {"token": "short"}}, status=201)


def summary(cpu: int | None, memory: int | None, **pods: tuple[int, int]) -> Played:
    node = {"cpu": {} if cpu is None else {"usageNanoCores": cpu}, "memory": {"workingSetBytes": memory}}
    found = [
        {
            "podRef": {"name": name, "namespace": "web"},
            "cpu": {"usageNanoCores": used[0]},
            "memory": {"workingSetBytes": used[1]},
        }
        for name, used in pods.items()
    ]
    return answer({"node": node, "pods": found})


class Node:
    """Kubelets by address; each is a played server."""

    def __init__(self, **answers: Played) -> None:
        self.clock = SimulatedClock()
        self.api = PlayedApi({TOKEN: [MADE]})
        self.servers = {name: PlayedApi({"/stats/summary": [one]}) for name, one in answers.items()}
        self.tokens: list[bytes | None] = []
        credentials = self.api.credentials(self.clock)
        self.reader = KubeletReader(
            Api(credentials, connect=self.api.connect), credentials, Account("towline", "stats"),
            lambda: {name: (name, 10250) for name in answers}, connect=self.connect, clock=self.clock,
        )  # fmt: skip

    async def connect(self, server: ApiServer) -> ByteStream:
        assert server.tls is not None
        assert server.tls.check_hostname
        assert server.server_name == server.host
        self.tokens.append(server.authorization)
        return await self.servers[server.host].connect(server)


def anybody(namespace: str) -> bool:
    return True


async def test_kubelets_are_asked_with_a_token_of_their_own() -> None:
    played = Node(n1=summary(250_000_000, 1024, a=(100_000_000, 512)), n2=summary(750_000_000, 1024, b=(0, 0)))
    reading = await played.reader.read(anybody)
    assert (reading.source, reading.reason) == ("kubelet", "")
    keys: tuple[Key, ...] = (CLUSTER, ("pod", "web", "a"), ("namespace", "", "web"))
    assert [reading.used[key] for key in keys] == [(1.0, 2048), (0.1, 512), (0.1, 512)]
    assert played.tokens == [b"Bearer short", b"Bearer short"]
    assert played.servers["n1"].requests == ["/stats/summary?only_cpu_and_memory=true"]


async def test_a_kubelet_that_does_not_answer_is_named_and_the_others_count() -> None:
    played = Node(n1=summary(1, 1), n2=refusal(403, message="Forbidden"))
    reading = await played.reader.read(anybody)
    assert reading.reason == "1 of 2 nodes are not measured: n2: its kubelet answers 403: Forbidden"
    assert ("node", "", "n2") not in reading.used


async def test_a_kubelet_that_has_not_measured_yet_says_nothing() -> None:
    reading = await Node(n1=summary(None, 1)).reader.read(anybody)
    assert reading.used == {}


async def test_no_kubelet_no_node_and_no_token_are_reasons() -> None:
    with pytest.raises(KubernetesError, match="no kubelet answers: n1: its kubelet answers 401"):
        await Node(n1=refusal(401)).reader.read(anybody)
    with pytest.raises(KubernetesError, match="no node is known"):
        await Node().reader.read(anybody)
    played = Node(n1=summary(1, 1))
    played.api.script[TOKEN] = [refusal(403, message="no such right")]
    with pytest.raises(KubernetesError, match=r"no token to ask the kubelets with: .*no such right"):
        await played.reader.read(anybody)


async def test_a_token_is_used_for_half_of_its_time() -> None:
    played = Node(n1=summary(1, 1))
    played.api.script[TOKEN] = [MADE, MADE]
    for _ in range(2):
        await played.reader.read(anybody)
        played.servers["n1"].script["/stats/summary"] = [summary(1, 1)]
        played.clock.jump(86_400.0)  # a wall clock that jumps ends no token
    await played.clock.advance(RENEW_AFTER)
    await played.reader.read(anybody)
    assert played.api.requests == [TOKEN, TOKEN]


async def test_kubelets_are_asked_where_there_is_no_metrics_api() -> None:
    class Kubelets:
        async def read(self, allowed: Callable[[str], bool]) -> Reading:
            raise KubernetesError("no kubelet answers")

    sampling = sampler({})
    sampling._kubelets = Kubelets()
    assert (await sampling.sample()).reason == "this cluster serves no metrics API; no kubelet answers"


@pytest.mark.parametrize("text", ["stats", "/stats", "towline/", "a/b/c"])
def test_an_account_is_a_namespace_and_a_name(text: str) -> None:
    assert Account.parse("") is None
    assert Account.parse("towline/stats") == Account("towline", "stats")
    with pytest.raises(KubernetesError):
        Account.parse(text)

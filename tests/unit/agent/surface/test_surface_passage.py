"""Requests of local callers to the API server: who they are there, what may pass, and which connections are kept."""

import pytest
from tests.support.played_api import answer, refusal
from tests.support.played_callers import PlayedCallers

from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.passage import IDLE_SECONDS, Ask, Passage
from towline.aio.clock import SimulatedClock

PODS = "/api/v1/namespaces/web/pods"
VERSION = "/version"


class Bench:
    """A passage to a played API server."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.policy = LocalPolicy()
        self.server = PlayedCallers({})
        self.passage = Passage(
            self.server.credentials(self.clock), lambda: self.policy, connect=self.server.connect, clock=self.clock
        )

    async def status(self, ask: Ask) -> int:
        async with self.passage.ask(ask) as found:
            await found.read(10_000)
            return found.head.status


def refused(bench: Bench, ask: Ask) -> str:
    with pytest.raises(SurfaceError) as caught:
        bench.passage.judge(ask)
    return caught.value.code


@pytest.mark.parametrize(("right", "role"), [(Right.READ, "viewer"), (Right.OPERATE, "operator")])
async def test_caller_is_local_in_the_group_of_his_right(right: Right, role: str) -> None:
    bench = Bench()
    bench.server.script[PODS] = [answer({})]

    assert await bench.status(Ask("GET", PODS, right)) == 200

    heard = bench.server.heard[0]
    assert heard.values("impersonate-user") == ["towline:local"]
    assert heard.values("impersonate-group") == [f"towline:role:{role}"]
    assert heard.values("authorization") == ["Bearer secret-of-the-agent"]


@pytest.mark.parametrize(
    "ask",
    [
        Ask("GET", "/api/v1/namespaces/web/secrets", Right.READ),
        Ask("GET", "/api/v1/namespaces/web/secrets", Right.OPERATE),
        Ask("GET", f"{PODS}/a/log", Right.READ),
        Ask("DELETE", f"{PODS}/a", Right.READ),
        Ask("POST", PODS, Right.OPERATE),
        Ask("PATCH", "/apis/apps/v1/namespaces/web/deployments/a", Right.OPERATE),
        Ask("GET", "/api/v1/nodes/n1/proxy/run", Right.OPERATE),
        Ask("POST", "/api/v1/namespaces/web/serviceaccounts/agent/token", Right.OPERATE),
        Ask("GET", "/metrics", Right.OPERATE),
    ],
)
async def test_what_the_role_does_not_cover_does_not_reach_the_cluster(ask: Ask) -> None:
    bench = Bench()

    assert refused(bench, ask) == "forbidden"
    assert bench.server.dials == 0


@pytest.mark.parametrize(
    "ask",
    [
        Ask("GET", f"{PODS}/a/log", Right.OPERATE),
        Ask("DELETE", f"{PODS}/a", Right.OPERATE),
        Ask("PATCH", "/apis/apps/v1/namespaces/web/deployments/a/scale", Right.OPERATE),
        Ask("GET", PODS, Right.READ),
        Ask("GET", "/version", Right.READ),
    ],
)
async def test_what_the_role_covers_passes(ask: Ask) -> None:
    assert Bench().passage.judge(ask).path == ask.target


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/namespaces/web/../../secrets", "/api/v1//pods", "/api/v1/namespaces/web%2fpods", "/api/v1/pods%00",
        "/api/v1/pods/%2e%2e/secrets", "api/v1/pods", "http://evil.example/api/v1/pods", "/api/v1/pods\\x",
        "/api/v1/p ods",
        "/api/v1/pods?a=b c", "/api/v1/pods?a=b\r\nImpersonate-User: root", "/api/v1/pods?x#y", "/api/v1/pöds",
        f"{PODS}/a/exec?command=sh", f"{PODS}/a/attach", f"{PODS}/a/portforward", "/api/v1/proxy/nodes/n1",
    ],
)  # fmt: skip
async def test_disputable_paths_and_consoles_are_bad_requests(target: str) -> None:
    assert refused(Bench(), Ask("GET", target, Right.OPERATE)) == "bad_request"


async def test_policy_of_the_host_comes_before_the_role() -> None:
    bench = Bench()
    bench.policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("shop",)))
    assert refused(bench, Ask("GET", PODS, Right.READ)) == "forbidden"

    bench.policy = LocalPolicy(kubernetes=KubernetesRules(enabled=False))
    with pytest.raises(PolicyRefused):
        bench.passage.judge(Ask("GET", PODS, Right.READ))


async def test_connection_is_used_again_by_the_same_right_alone() -> None:
    bench = Bench()
    bench.server.script[VERSION] = [answer({}) for _ in range(4)]
    for right in (Right.READ, Right.READ, Right.OPERATE, Right.READ):
        await bench.status(Ask("GET", VERSION, right))

    assert [heard.connection for heard in bench.server.heard] == [1, 1, 2, 1]


async def test_connection_is_not_used_again_after_a_while_or_half_an_answer() -> None:
    bench = Bench()
    bench.server.script[VERSION] = [answer({}), answer({"long": "x" * 200_000}), answer({})]
    await bench.status(Ask("GET", VERSION, Right.READ))
    await bench.clock.advance(IDLE_SECONDS)
    async with bench.passage.ask(Ask("GET", VERSION, Right.READ)):
        pass  # nobody reads the body
    await bench.status(Ask("GET", VERSION, Right.READ))

    assert [heard.connection for heard in bench.server.heard] == [1, 2, 3]


async def test_read_goes_once_more_when_a_kept_connection_had_died() -> None:
    bench = Bench()
    bench.server.script[VERSION] = [answer({}), answer({})]
    await bench.status(Ask("GET", VERSION, Right.READ))
    bench.server.dead.add(1)

    assert await bench.status(Ask("GET", VERSION, Right.READ)) == 200
    assert bench.server.dials == 2


async def test_change_never_goes_over_a_kept_connection() -> None:
    bench = Bench()
    bench.server.script = {VERSION: [answer({})], f"{PODS}/a": [answer({})]}
    await bench.status(Ask("GET", VERSION, Right.OPERATE))
    await bench.status(Ask("DELETE", f"{PODS}/a", Right.OPERATE))

    assert [heard.connection for heard in bench.server.heard] == [1, 2]


async def test_credentials_that_are_not_taken_are_the_agents_trouble_and_not_the_callers() -> None:
    bench = Bench()
    bench.server.script[PODS] = [refusal(401, "Unauthorized")]

    with pytest.raises(KubernetesError, match="does not take the credentials") as caught:
        await bench.status(Ask("GET", PODS, Right.READ))
    assert "secret-of-the-agent" not in str(caught.value)


async def test_refusal_of_the_api_server_is_told_in_its_words() -> None:
    bench = Bench()
    bench.server.script[PODS] = [refusal(403, "Forbidden", "pods is forbidden")]
    async with bench.passage.ask(Ask("GET", PODS, Right.READ)) as found:
        error = await bench.passage.read_refusal(found)

    assert (error.code, error.message) == ("forbidden", "pods is forbidden")

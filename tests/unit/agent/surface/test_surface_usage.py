"""What nodes and pods use: measured, or unknown with the reason, and never a zero that nobody measured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.api import ApiAway, ApiRefused
from towline.agent.kubernetes.usage import METRICS, UsageSampler, UsageTeller
from towline.agent.kubernetes.usage import SAMPLE_INTERVAL as SAMPLER_INTERVAL
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import usage
from towline.agent.surface.usage import Usage, Used
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner

NODES_PATH, PODS_PATH = f"{METRICS}/nodes", f"{METRICS}/pods"
NODES = {"items": [{"metadata": {"name": "n1"}, "usage": {"cpu": "250m", "memory": "1Gi"}}]}
PODS = {
    "items": [
        {"metadata": {"name": "shop", "namespace": "web"}, "containers": [
            {"name": "a", "usage": {"cpu": "10m", "memory": "10Mi"}},
            {"name": "b", "usage": {"cpu": "5m", "memory": "2Mi"}},
        ]},
        {"metadata": {"name": "db", "namespace": "data"}, "containers": [
            {"name": "a", "usage": {"cpu": "0", "memory": "1Mi"}},
        ]},
        {"metadata": {"name": "half", "namespace": "web"}, "containers": [{"name": "a", "usage": {"cpu": "10m"}}]},
        {"metadata": {"name": "none", "namespace": "web"}, "containers": []},
    ]
}  # fmt: skip


class Connection:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def get(self, path: str, decoder: Any, most_bytes: int) -> Any:
        self._api.asked.append(path)
        found = self._api.answers[path]
        if isinstance(found, KubernetesError):
            raise found
        return decoder.decode(json.dumps(found).encode())


class Api:
    """What the metrics API answers, by path."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {NODES_PATH: NODES, PODS_PATH: PODS, **answers}
        self.asked: list[str] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield Connection(self)


class Scene:
    def __init__(self, api: Api, policy: LocalPolicy | None = None) -> None:
        self.clock, self.owner = SimulatedClock(), TaskOwner("test")
        made: Any = api
        self.sampler = UsageSampler(
            made, UsageTeller(), allowed=lambda _: True, named=tuple, read=lambda _: None, clock=self.clock
        )
        self.usage = Usage(self.sampler, lambda: policy or LocalPolicy(), self.owner, clock=self.clock)

    async def sampled(self) -> usage.Sample:
        async with self.owner:
            self.usage.use()
            await self.clock.advance(0)
            return self.usage.sample


async def test_pod_uses_what_its_containers_use() -> None:
    sample = await Scene(Api()).sampled()

    assert sample.nodes == {"n1": Used(0.25, 2**30)}
    assert sample.pods["web/shop"] == Used(0.015, 12 * 2**20)
    assert sample.pods["data/db"] == Used(0.0, 2**20)
    assert (sample.state, sample.reason) == ("measured", "")


async def test_what_was_measured_by_half_is_unknown_and_no_zero() -> None:
    sample = await Scene(Api()).sampled()

    assert {"web/half", "web/none"}.isdisjoint(sample.pods)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ApiRefused(404, "NotFound", "the server could not find the requested resource"), "no metrics API"),
        (ApiRefused(403, "Forbidden", "nodes.metrics.k8s.io is forbidden"), "may not read the metrics API"),
        (ApiRefused(503, "ServiceUnavailable", "no endpoints"), "not ready: no endpoints"),
        (ApiAway("connection refused"), "connection refused"),
    ],
)
async def test_reason_is_told_when_nothing_is_measured(error: KubernetesError, words: str) -> None:
    sample = await Scene(Api(**{NODES_PATH: error, PODS_PATH: error})).sampled()

    assert (sample.state, sample.nodes, sample.pods, sample.at) == ("unknown", {}, {}, 0.0)
    assert words in sample.reason
    assert sample.summed()["cpu"] is None


async def test_nodes_are_known_when_pods_are_denied() -> None:
    denied = ApiRefused(403, "Forbidden", "pods.metrics.k8s.io is forbidden")
    sample = await Scene(Api(**{PODS_PATH: denied})).sampled()

    assert (sample.state, len(sample.nodes), sample.pods) == ("measured", 1, {})
    assert "pods.metrics.k8s.io" in sample.reason


async def test_namespaces_that_the_policy_leaves_out_are_left_out() -> None:
    policy = LocalPolicy(kubernetes=KubernetesRules(namespaces=("data",)))
    sample = await Scene(Api(), policy).sampled()

    assert set(sample.pods) == {"data/db"}


async def test_sampling_ends_when_nobody_asks_any_more() -> None:
    api = Api()
    scene = Scene(api)
    async with scene.owner:
        scene.usage.use()
        await scene.clock.advance(usage.IDLE_SECONDS + usage.SAMPLE_INTERVAL)
        asked = len(api.asked)
        await scene.clock.advance(10 * usage.SAMPLE_INTERVAL)

        assert len(api.asked) == asked
        assert asked <= 2 * (usage.IDLE_SECONDS / usage.SAMPLE_INTERVAL + 1)
        assert scene.usage.sample.state == "unknown"


async def test_a_reading_that_is_taken_anyway_is_not_taken_twice() -> None:
    api = Api()
    scene = Scene(api)
    async with scene.owner:
        scene.owner.spawn("sampler", scene.sampler.run())
        scene.usage.use()
        await scene.clock.advance(0)
        first = len(api.asked)
        api.answers[NODES_PATH] = {"items": []}
        await scene.clock.advance(SAMPLER_INTERVAL)
        scene.usage.use()

        assert scene.usage.sample.nodes == {}
        assert len(api.asked) - first <= 4

"""What nodes and pods use, sampled from the metrics API while somebody asks or listens.

Where nothing measures, or the agent may not ask, that is said; a number is never made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import described
from towline.agent.kubernetes.api import Api, ApiRefused, Connection, TooLarge
from towline.agent.policy import KubernetesRules, LocalPolicy, fits
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner
from towline.kube import objects

SAMPLE_INTERVAL = 15.0
"""Seconds between two samples: how often the metrics server itself measures."""
IDLE_SECONDS = 60.0
"""Seconds without a question or a listener after which nothing is sampled any more."""
FIRST_TIMEOUT = 5.0
"""Seconds that the first question waits for a sample."""
LARGEST_BYTES = 16 * 1024 * 1024
"""Of an answer of the metrics API: 10,000 pods with two containers each take some 8 MiB."""
MOST_PODS = 10_000
"""That are kept of a sample, some 200 bytes each; of a larger cluster the rest is unknown, which is said."""

NODES_PATH = "/apis/metrics.k8s.io/v1beta1/nodes"
PODS_PATH = "/apis/metrics.k8s.io/v1beta1/pods"


class _PodMetrics(objects.Part, frozen=True, gc=False):
    metadata: objects.Metadata = objects.Metadata()
    containers: tuple[objects.ContainerMetrics, ...] | None = None


_nodes = msgspec.json.Decoder(objects.List[objects.NodeMetrics])
_pods = msgspec.json.Decoder(objects.List[_PodMetrics])


class Used(msgspec.Struct, frozen=True, gc=False):
    """What one of them uses."""

    cpu: float
    """Cores."""
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """All that is known of a moment. `at`: seconds since the epoch, 0 when nothing was measured yet."""

    at: float = 0.0
    reason: str = "not measured yet"
    """Why something is unknown; empty when nothing is."""
    nodes: dict[str, Used] = field(default_factory=dict)
    pods: dict[str, Used] = field(default_factory=dict)
    """By `namespace/name`."""

    @property
    def state(self) -> str:
        return "measured" if self.nodes or self.pods else "unknown"

    def summed(self) -> dict[str, Any]:
        """Return the sums that an event tells; who wants more asks."""
        return {
            "state": self.state,
            "reason": self.reason,
            "at": self.at,
            "nodes": len(self.nodes),
            "pods": len(self.pods),
            "cpu": round(sum(each.cpu for each in self.nodes.values()), 3) if self.nodes else None,
            "memory_bytes": sum(each.memory_bytes for each in self.nodes.values()) if self.nodes else None,
        }


class Usage:
    """Samples while it is used."""

    def __init__(
        self, api: Api, policy: Callable[[], LocalPolicy], owner: TaskOwner, *, clock: Clock = REAL_CLOCK
    ) -> None:
        self._api = api
        self._policy = policy
        self._owner = owner
        self._clock = clock
        self._used_at = 0.0
        self._running: asyncio.Task[None] | None = None
        self._sampled = asyncio.Event()
        self.sample = Sample()

    def __repr__(self) -> str:
        return f"<Usage {self.sample.state} {len(self.sample.nodes)} nodes {len(self.sample.pods)} pods>"

    def use(self) -> None:
        """Begin to sample, or go on. Raises: PolicyRefused: nothing may be told."""
        self._policy().require_kubernetes()
        self._used_at = self._clock.monotonic()
        if self._running is None or self._running.done():
            self._running = self._owner.spawn("usage", self._run())

    async def current(self) -> Sample:
        """Return the last sample; waits for the first one, for a while. Raises: PolicyRefused."""
        self.use()
        try:
            async with asyncio.timeout(FIRST_TIMEOUT):
                await self._sampled.wait()
        except TimeoutError:
            return Sample(reason="the API server has not answered yet")
        return self.sample

    def of_pod(self, key: str) -> Used | None:
        """Return what a pod used at the last sample; None when that is unknown."""
        return self.sample.pods.get(key)

    async def _run(self) -> None:
        try:
            while self._clock.monotonic() - self._used_at < IDLE_SECONDS:
                self.sample = await self._take()
                self._sampled.set()
                await self._clock.sleep(SAMPLE_INTERVAL)
        finally:
            self._sampled.clear()
            self.sample = Sample()

    async def _take(self) -> Sample:
        rules = self._policy().kubernetes
        try:
            async with self._api.connection() as connection:
                nodes, why_not = await _read(connection, NODES_PATH, _nodes)
            async with self._api.connection() as connection:
                pods, why = await _read(connection, PODS_PATH, _pods)
        except KubernetesError as error:
            return Sample(reason=str(error))
        found = _of_pods(pods, rules)
        if not why and len(found) < len(pods) and len(found) == MOST_PODS:
            why = f"only {MOST_PODS} pods are kept"
        if not (nodes or found or why_not or why):
            why = "the metrics API has measured nothing yet"
        now = self._clock.now().timestamp()
        return Sample(now if nodes or found else 0.0, why_not or why, _of_nodes(nodes), found)


async def _read(connection: Connection, path: str, decoder: Any) -> tuple[tuple[Any, ...], str]:
    """Return what is measured, and why it is not. Raises: KubernetesError: the API server is away."""
    try:
        found = await connection.get(path, decoder, LARGEST_BYTES)
    except ApiRefused as error:
        missing = "the cluster serves no metrics API: install metrics-server"
        return (), missing if error.status == 404 else _refusal(error)
    except TooLarge as error:
        return (), str(error)
    return tuple(found.items or ()), ""


def _refusal(error: ApiRefused) -> str:
    if error.status == 403:
        return f"the agent may not read the metrics API: {error.message}"
    return f"the metrics API answers {error.status}: {error.message or error.reason}"


def _of_nodes(found: tuple[objects.NodeMetrics, ...]) -> dict[str, Used]:
    return {one.metadata.name: _used([one.usage]) for one in found if _is_whole(one.usage)}


def _of_pods(found: tuple[_PodMetrics, ...], rules: KubernetesRules) -> dict[str, Used]:
    told: dict[str, Used] = {}
    for one in found:
        measured = [each.usage for each in one.containers or ()]
        if measured and all(map(_is_whole, measured)) and fits(one.metadata.namespace, rules.namespaces):
            told[f"{one.metadata.namespace}/{one.metadata.name}"] = _used(measured)
            if len(told) >= MOST_PODS:
                break
    return told


def _is_whole(usage: dict[str, str] | None) -> bool:
    """Tell whether both were measured: what is missing must not become a zero."""
    return usage is not None and "cpu" in usage and "memory" in usage


def _used(usages: list[dict[str, str] | None]) -> Used:
    amounts = [described.amounts(each) for each in usages]
    return Used(round(sum(each.cpu for each in amounts), 3), sum(each.memory_bytes for each in amounts))

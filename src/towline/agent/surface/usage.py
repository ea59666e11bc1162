"""What nodes and pods use, for whoever asks or listens: readings of the agent's one sampler, kept while they are used.

Where nothing measures, or the agent may not ask, that is said; a number is never made up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from towline.agent.kubernetes.usage_reading import Reading
from towline.agent.policy import KubernetesRules, LocalPolicy, fits
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner

SAMPLE_INTERVAL = 15.0
"""Seconds that a reading is taken for new: how often the metrics server itself measures."""
IDLE_SECONDS = 60.0
"""Seconds without a question or a listener after which nothing is kept any more."""
FIRST_TIMEOUT = 5.0
"""Seconds that the first question waits for a sample."""


class Sampler(Protocol):
    """What measures, for the control plane as for us."""

    async def sample(self) -> Reading:
        """Return what is used now; a reading without a source says why nothing is known."""

    def listen(self, listener: Callable[[Reading], None]) -> Callable[[], None]:
        """Have a function called with each reading that is taken anyway. Returns: what ends that."""


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
        self, sampler: Sampler, policy: Callable[[], LocalPolicy], owner: TaskOwner, *, clock: Clock = REAL_CLOCK
    ) -> None:
        self._sampler = sampler
        self._policy = policy
        self._owner = owner
        self._clock = clock
        self._used_at = 0.0
        self._taken_at = -math.inf
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
        """Keep what the sampler reads; ask it where it has not read anything for a while."""
        unlisten = self._sampler.listen(self._take)
        try:
            while self._clock.monotonic() - self._used_at < IDLE_SECONDS:
                if self._clock.monotonic() - self._taken_at >= SAMPLE_INTERVAL:
                    self._take(await self._sampler.sample())
                await self._clock.sleep(SAMPLE_INTERVAL)
        finally:
            unlisten()
            self._sampled.clear()
            self._taken_at = -math.inf
            self.sample = Sample()

    def _take(self, reading: Reading) -> None:
        self._taken_at = self._clock.monotonic()
        self.sample = _shown(reading, self._policy().kubernetes, self._clock.now().timestamp())
        self._sampled.set()


def _shown(reading: Reading, rules: KubernetesRules, now: float) -> Sample:
    """Return a reading as it is told, without the namespaces that the policy leaves out."""
    nodes: dict[str, Used] = {}
    pods: dict[str, Used] = {}
    for (kind, namespace, name), (cpu, memory) in reading.used.items():
        used = Used(round(cpu, 3), round(memory))
        if kind == "node":
            nodes[name] = used
        elif kind == "pod" and fits(namespace, rules.namespaces):
            pods[f"{namespace}/{name}"] = used
    reason = reading.reason
    if not reason and reading.left_out:
        reason = f"only {len(pods)} pods are kept"
    if not (nodes or pods or reason):
        reason = "nothing is measured yet"
    return Sample(now if nodes or pods else 0.0, reason, nodes, pods)

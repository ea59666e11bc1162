"""Samples what nodes and pods use, twice a minute, and tells it over whatever link is up.

The metrics API is asked first, the kubelets where there is none; where neither answers it is told that nothing is
known, and why. Samples that no link takes are not kept: their time stays a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import structlog

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import usage_reading
from towline.agent.kubernetes.api import Api, ApiRefused, Connection
from towline.agent.kubernetes.usage_book import UsageBook
from towline.agent.kubernetes.usage_reading import Reading, Used
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.streams import StreamError
from towline.kube import objects
from towline.tunnel.session import Session

SAMPLE_INTERVAL = 30.0
"""Seconds between two samples: a metrics server measures every 15 s by default, and a chart shows minutes."""
LONGEST_INTERVAL = 60.0
"""Seconds, for metrics servers that measure more rarely: with more there would be minutes without a sample."""
METRICS = "/apis/metrics.k8s.io/v1beta1"
LARGEST_NODES_BYTES = 8 * 1024 * 1024
"""5,000 nodes of 600 bytes are 3 MB, and the metrics API gives them in one piece."""
LARGEST_PODS_BYTES = 32 * 1024 * 1024
"""10,000 pods of three containers are some 10 MB."""
NO_METRICS = frozenset({403, 404, 503})
"""Answers of an API server that has no metrics API for the agent: not allowed, not installed, not ready."""

_log = structlog.get_logger("towline.agent")
_nodes = msgspec.json.Decoder(objects.List[objects.NodeMetrics])
_pods = msgspec.json.Decoder(objects.List[objects.PodMetrics])


class Kubelets(Protocol):
    """Asks every kubelet."""

    async def read(self, allowed: Callable[[str], bool]) -> Reading:
        """Return what they measured. Raises: KubernetesError: nothing, and why."""


class UsageTeller:
    """Tells readings to the link that is up; `connected` and `disconnected` give and take it."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self.book = UsageBook()

    def __repr__(self) -> str:
        return f"<UsageTeller {'connected' if self._session else 'without a link'}>"

    def connected(self, session: Session) -> None:
        """Tell everything to a new link, with the next reading."""
        self._session = session
        self.book.begin()

    def disconnected(self) -> None:
        """Keep quiet until the next link."""
        self._session = None

    async def tell(self, reading: Reading) -> None:
        """Tell one reading; without a link it is forgotten."""
        session = self._session
        if session is None:
            return
        try:
            for message in self.book.take(reading):
                await session.send(message)
        except StreamError as error:
            _log.debug("usage of the cluster not told", reason=error.reason)
            self.book.is_whole_due = True


class UsageSampler:
    """Samples for ever.

    Args: allowed: whether the local policy lets a namespace be told. named: namespaces to ask one by one when all
    together are refused. read: is given each reading that an API server has answered for.
    """

    def __init__(
        self,
        api: Api,
        teller: UsageTeller,
        *,
        allowed: Callable[[str], bool],
        named: Callable[[], tuple[str, ...]],
        read: Callable[[Reading], None],
        kubelets: Kubelets | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._api = api
        self._teller = teller
        self._allowed = allowed
        self._named = named
        self._read = read
        self._kubelets = kubelets
        self._clock = clock
        self._listeners: list[Callable[[Reading], None]] = []

    def __repr__(self) -> str:
        return f"<UsageSampler to {self._teller!r}>"

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            began = self._clock.monotonic()
            reading = await self.sample()
            if not reading.away:
                self._read(reading)
            for listener in tuple(self._listeners):
                listener(reading)
            await self._teller.tell(reading)
            interval = min(max(SAMPLE_INTERVAL, reading.window), LONGEST_INTERVAL)
            await self._clock.sleep(max(0.0, began + interval - self._clock.monotonic()))

    def listen(self, listener: Callable[[Reading], None]) -> Callable[[], None]:
        """Have a function called with each reading that `run` takes. Returns: what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def sample(self) -> Reading:
        """Return what is used now; a reading without a source says why nothing is known."""
        try:
            async with self._api.connection() as connection:
                return await self._from_metrics(connection)
        except ApiRefused as error:
            if error.status not in NO_METRICS:
                return usage_reading.unknown(f"the metrics API cannot be read: {error}")
            return await self._from_kubelets(_refusal(error))
        except KubernetesError as error:
            return usage_reading.unknown(f"the metrics API cannot be read: {error}", away=True)

    async def _from_kubelets(self, why: str) -> Reading:
        if self._kubelets is None:
            return usage_reading.unknown(why)
        try:
            return await self._kubelets.read(self._allowed)
        except KubernetesError as error:
            return usage_reading.unknown(f"{why}; {error}")

    async def _from_metrics(self, connection: Connection) -> Reading:
        """Ask the metrics API. Raises: ApiRefused: it is not there for nodes nor for pods. KubernetesError."""
        problems: list[str] = []
        nodes: dict[str, Used] = {}
        window = 0.0
        refused: ApiRefused | None = None
        try:
            found = await connection.get(f"{METRICS}/nodes", _nodes, LARGEST_NODES_BYTES)
            nodes = usage_reading.node_usage(found.items or ())
            window = max((usage_reading.seconds(one.window) for one in found.items or ()), default=0.0)
        except ApiRefused as error:
            if error.status != 403:
                raise
            problems.append(f"nodes are not measured: {error.message or error}")
            refused = error
        try:
            pods = await self._pods_of_metrics(connection)
        except ApiRefused as error:
            if refused is not None:
                raise
            problems.append(f"pods are not measured: {error.message or error}")
            pods = {}
        return usage_reading.gather(
            "metrics", nodes, pods, allowed=self._allowed, reason="; ".join(problems), window=window
        )

    async def _pods_of_metrics(self, connection: Connection) -> Mapping[tuple[str, str], Used]:
        """Ask for all pods, or for those of the namespaces that are named. Raises: ApiRefused: nothing of it."""
        try:
            found = await connection.get(f"{METRICS}/pods", _pods, LARGEST_PODS_BYTES)
            return usage_reading.pod_usage(found.items or ())
        except ApiRefused as error:
            if error.status != 403 or not self._named():
                raise
        pods: dict[tuple[str, str], Used] = {}
        for namespace in self._named():
            one = await connection.get(f"{METRICS}/namespaces/{namespace}/pods", _pods, LARGEST_PODS_BYTES)
            pods |= usage_reading.pod_usage(one.items or ())
        return pods


def _refusal(error: ApiRefused) -> str:
    words = {403: "the agent may not read the metrics API", 404: "this cluster serves no metrics API"}
    return words.get(error.status, f"the metrics API is not ready: {error.message or error.reason}")

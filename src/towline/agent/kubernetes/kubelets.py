"""What nodes and pods use, asked of the kubelets themselves where there is no metrics API: `nodes/stats`, never
`nodes/proxy`.

A kubelet gets no token of the agent's own, which may take other identities: it gets a short one of an account that may
read statistics and nothing else. Nor is a kubelet asked whose certificate the cluster's authority has
not signed for the node's name.
Source: Kubernetes, "Kubelet authentication/authorization", and the summary API.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import usage_reading
from towline.agent.kubernetes.api import Api, Connect, Connection, connect
from towline.agent.kubernetes.credentials import ApiServer, Credentials, make_context
from towline.agent.kubernetes.material import Material, read_secret
from towline.agent.kubernetes.usage_reading import Reading, Used
from towline.agent.streams.refusal import Refused
from towline.aio.clock import REAL_CLOCK, Clock
from towline.kube import objects

SUMMARY = "/stats/summary?only_cpu_and_memory=true"
LARGEST_BYTES = 8 * 1024 * 1024
"""The summary of 250 pods, more than a node takes by default, is some 300 KB."""
AT_ONCE = 10
"""Kubelets that are asked at the same time: of 1,000 nodes each answers in some 10 ms."""
PATIENCE = 10.0
"""Seconds for one kubelet, so that one that hangs does not cost the others their sample."""
TOKEN_SECONDS = 3600
"""Of a kubelet's token; an API server gives none for less than ten minutes."""
RENEW_AFTER = 1800.0
_SMALL_BYTES = 64 * 1024
_NANO = 1_000_000_000

_summary = msgspec.json.Decoder(objects.StatsSummary)
_token = msgspec.json.Decoder(objects.TokenRequest)

Place = tuple[str, int]
"""Address and port of a kubelet."""


@dataclass(frozen=True, slots=True)
class Account:
    """The ServiceAccount that kubelets know the agent by."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Account | None:
        """Read `NAMESPACE/NAME`; None for nothing. Raises: KubernetesError: it is something else."""
        namespace, slash, name = text.partition("/")
        if not text:
            return None
        if not slash or not namespace or not name or "/" in name:
            raise KubernetesError(f"kubelet_account must be NAMESPACE/NAME, not {text!r}")
        return cls(namespace, name)


class KubeletReader:
    """Asks every kubelet.

    Args: nodes: address and port of each, by the node's name. authorities: a file of further ones that sign kubelets.
    """

    def __init__(
        self,
        api: Api,
        credentials: Credentials,
        account: Account,
        nodes: Callable[[], Mapping[str, Place]],
        *,
        authorities: Path | None = None,
        connect: Connect = connect,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._connect = connect
        self._api = api
        self._credentials = credentials
        self._account = account
        self._nodes = nodes
        self._authorities = authorities
        self._clock = clock
        self._token = ""
        self._token_until = float("-inf")
        self._tls: ssl.SSLContext | None = None
        self._tls_of = ""

    def __repr__(self) -> str:
        return f"<KubeletReader as {self._account.namespace}/{self._account.name}>"

    async def read(self, allowed: Callable[[str], bool]) -> Reading:
        """Return what the kubelets measured; those that do not answer are named in the reason.

        Raises: KubernetesError: none of them did.
        """
        places = dict(self._nodes())
        if not places:
            raise KubernetesError("the kubelets cannot be asked: no node is known")
        token = await self._current_token()
        tls = self._context()
        turns = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(
            *(self._ask(name, place, token, tls, turns) for name, place in sorted(places.items()))
        )
        nodes: dict[str, Used] = {}
        pods: dict[tuple[str, str], Used] = {}
        failed: list[str] = []
        for name, answer in zip(sorted(places), answers, strict=True):
            if isinstance(answer, str):
                failed.append(f"{name}: {answer}")
            else:
                take(name, answer, nodes, pods)
        if len(failed) == len(places):
            self._token = ""
            raise KubernetesError(f"no kubelet answers: {failed[0]}")
        reason = f"{len(failed)} of {len(places)} nodes are not measured: {failed[0]}" if failed else ""
        return usage_reading.gather("kubelet", nodes, pods, allowed=allowed, reason=reason)

    async def _ask(
        self, name: str, place: Place, token: str, tls: ssl.SSLContext, turns: asyncio.Semaphore
    ) -> objects.StatsSummary | str:
        """Return what one kubelet says, or why it does not."""
        address, port = place
        server = ApiServer(address, port, name, tls, b"Bearer " + token.encode("ascii"))
        async with turns:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._summary(server)
            except TimeoutError:
                return f"its kubelet did not answer within {PATIENCE:g} s"
            except KubernetesError as error:
                return str(error).replace("the API server", "its kubelet")

    async def _summary(self, server: ApiServer) -> objects.StatsSummary:
        try:
            stream = await self._connect(server)
        except Refused as error:
            raise KubernetesError(error.reason) from error
        try:
            return await Connection(stream, server, self._refused).get(SUMMARY, _summary, LARGEST_BYTES)
        finally:
            stream.abort("done")

    def _refused(self) -> None:
        """A kubelet does not take the token: the next sample gets a new one."""
        self._token = ""

    async def _current_token(self) -> str:
        """Return a token that is good for a while. Raises: KubernetesError: there is none."""
        if self._token and self._clock.monotonic() < self._token_until:
            return self._token
        account = self._account
        target = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}/token"
        body = msgspec.json.encode(
            {
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "spec": {"expirationSeconds": TOKEN_SECONDS},
            }
        )  # fmt: skip
        try:
            async with self._api.connection() as connection:
                made = await connection.post(target, body, _token, _SMALL_BYTES)
        except KubernetesError as error:
            raise KubernetesError(f"no token to ask the kubelets with: {error}") from error
        self._token, self._token_until = made.status.token, self._clock.monotonic() + RENEW_AFTER
        return self._token

    def _context(self) -> ssl.SSLContext:
        """Return what verifies kubelets; it holds no certificate of the agent."""
        trusted = self._credentials.authorities
        if self._authorities is not None:
            trusted += "\n" + read_secret(self._authorities, "`kubelet_ca_file` has to be PEM that the agent may read")
        if self._tls is None or trusted != self._tls_of:
            self._tls, self._tls_of = make_context(Material(server="", authorities=trusted)), trusted
        return self._tls


def take(name: str, found: objects.StatsSummary, nodes: dict[str, Used], pods: dict[tuple[str, str], Used]) -> None:
    """Add what one kubelet says of its node and pods; what it has not measured yet is left out."""
    with suppress(ValueError):
        nodes[name] = _used(found.node)
    for pod in found.pods or ():
        with suppress(ValueError):
            pods[pod.pod_ref.namespace, pod.pod_ref.name] = _used(pod)


def _used(found: objects.NodeStats | objects.PodStats) -> Used:
    """Return cores and bytes. Raises: ValueError: one of them was not measured."""
    cpu = found.cpu.usage_nano_cores if found.cpu is not None else None
    memory = found.memory.working_set_bytes if found.memory is not None else None
    if cpu is None or memory is None:
        raise ValueError("not measured")
    return cpu / _NANO, float(memory)
